/** The log of what was sent to webhooks: every delivery with its tries. */

import { button, choice, el, fill } from "./dom.js";
import { showingProblems } from "./problems.js";
import { ask, read } from "./service.js";
import { badge, moment, statusOptions } from "./words.js";

/** @typedef {import("./service.js").Schemas["DeliveryBody"]} Delivery */

const STATES = ["pending", "delivered", "failed"];

/** @param {AbortSignal} signal */
export function deliveryLog(signal) {
  const problems = el("div");
  const list = el("ul", { class: "list" });
  const { node: chosen, select: filter } = choice("Show", statusOptions(STATES));
  const more = button("Show more", () => next(), { hidden: true });
  let after = "";

  const next = () => showingProblems(problems, async () => {
    const query = new URLSearchParams({ limit: "20", ...(after && { after }), ...(filter.value && { status: filter.value }) });
    const page = await read(`/v1/webhook-deliveries?${query}`, signal);
    if (!after) list.replaceChildren();
    list.append(...page.data.map((/** @type {Delivery} */ one) => entry(one, problems, load)));
    after = page.next_cursor ?? "";
    more.hidden = !after;
    if (!list.hasChildNodes()) fill(list, el("li", { class: "quiet" }, "Nothing was sent yet."));
  });
  const load = () => {
    after = "";
    return next();
  };
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
