/** The log of what was sent to webhooks: every delivery with its tries. */

import { button, choice, el, fill } from "./dom.js";
import { pages } from "./pagination.js";
import { showingProblems } from "./errors.js";
import { ask } from "./api-client.js";
import { badge, moment, statusOptions } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["DeliveryResponse"]} Delivery */

const STATES = ["pending", "delivered", "failed"];

/** @param {AbortSignal} signal */
export function deliveryLog(signal) {
  const problems = el("div");
  const list = el("ul", { class: "list" });
  const { node: chosen, select: filter } = choice("Show", statusOptions(STATES));
  const wanted = () => ({ limit: "20", ...(filter.value && { status: filter.value }) });
  const { more, anew: load } = pages("/v1/webhook-deliveries", wanted, problems, signal, (sent, isFirst) => {
    if (isFirst) list.replaceChildren();
    list.append(...sent.map((one) => entry(one, problems, load)));
    if (!list.hasChildNodes()) fill(list, el("li", { class: "quiet" }, "Nothing was sent yet."));
  });
  filter.addEventListener("change", load);
  const node = el(
    "section",
    { "aria-label": "Delivery log" },
    el("h2", {}, "What was sent"),
    el("div", { class: "tools" }, chosen, button("Look again", load)),
    problems,
    list,
    more,
  );
  return { node, load };
}

/**
 * @param {Delivery} delivery
 * @param {Element} problems
 * @param {() => Promise<unknown>} load
 */
function entry(delivery, problems, load) {
  const tries = delivery.attempts;
  return el(
    "li",
    { class: "card", "data-delivery": delivery.id },
    el("div", { class: "row" }, el("h3", {}, delivery.type), badge(delivery.state), el("span", { class: "quiet small" }, moment(delivery.occurred_at))),
    el("p", { class: "quiet small" }, `To ${delivery.url ?? "an endpoint that is gone"}`),
    delivery.next_try_at && el("p", { class: "quiet small" }, "Tried again ", moment(delivery.next_try_at)),
    el(
      "details",
      {},
      el("summary", {}, `${tries.length} ${tries.length === 1 ? "try" : "tries"}`),
      el("ul", {}, tries.map((one) => el("li", {}, moment(one.at), `: ${one.status ?? "no answer"} in ${one.duration_ms} ms `, one.answer && el("code", {}, one.answer)))),
    ),
    el("div", { class: "row" }, button("Send again", () => showingProblems(problems, async () => {
      await ask("POST", `/v1/webhook-deliveries/${delivery.id}/redeliver`);
      await load();
    }), { "aria-label": `Send again: ${delivery.type}` })),
  );
}
