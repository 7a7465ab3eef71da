/** The log of webhook deliveries, each with its attempts. */

import { button, el, inline, note } from "./dom.js";
import { pagedList } from "./pagination.js";
import { showErrors } from "./errors.js";
import { request } from "./api-client.js";
import { badge, moment } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["DeliveryResponse"]} Delivery */

const STATES = ["pending", "delivered", "failed"];

/** @param {AbortSignal} signal */
export function deliveryLog(signal) {
  const alerts = el("div");
  const list = el("ul", { class: "list" });
  /** @type {{ filter: Element, more: Element, reload: () => Promise<unknown> }} */
  const { filter, more, reload: load } = pagedList(
    "/v1/webhook-deliveries", 20, list, (item) => entry(item, alerts, load), ["No deliveries yet."], alerts, signal, STATES,
  );
  const node = el(
    "section",
    { "aria-label": "Delivery log" },
    el("h2", {}, "Deliveries"),
    el("div", { class: "tools" }, filter, button("Refresh", load)),
    alerts,
    list,
    more,
  );
  return { node, load };
}

/**
 * @param {Delivery} delivery
 * @param {Element} alerts
 * @param {() => Promise<unknown>} load
 */
function entry(delivery, alerts, load) {
  const tries = delivery.attempts;
  return el(
    "li",
    { class: "card", "data-delivery": delivery.id },
    inline(el("h3", {}, delivery.type), badge(delivery.state), el("span", { class: "quiet small" }, moment(delivery.occurred_at))),
    note(`To ${delivery.url ?? "a deleted endpoint"}`),
    delivery.next_try_at && note("Next try ", moment(delivery.next_try_at)),
    el(
      "details",
      {},
      el("summary", {}, `${tries.length} ${tries.length === 1 ? "try" : "tries"}`),
      el("ul", {}, tries.map((item) => el("li", {}, moment(item.at), `: ${item.status ?? "no answer"} in ${item.duration_ms} ms `, item.answer && el("code", {}, item.answer)))),
    ),
    inline(button("Send again", () => showErrors(alerts, async () => {
      await request("POST", `/v1/webhook-deliveries/${delivery.id}/redeliver`);
      await load();
    }), { "aria-label": `Send again: ${delivery.type}` })),
  );
}
