/** A list that is fetched page by page. */

import { button, el, fill, selectField } from "./dom.js";
import { showErrors } from "./errors.js";
import { read } from "./api-client.js";
import { statusOptions } from "./format.js";

/**
 * @param {string} path
 * @param {number} limit rows of a page
 * @param {Element} list
 * @param {(row: any) => Node} entry creates the entry of a row
 * @param {import("./dom.js").Child[]} empty shown if there are no rows
 * @param {Element} alerts
 * @param {AbortSignal} signal
 * @param {string[]} statuses choices of the filter
 */
export function pagedList(path, limit, list, entry, empty, alerts, signal, statuses = []) {
  let after = "";
  const { node: filter, select } = selectField("Show", statusOptions(statuses));
  const next = () => showErrors(alerts, async () => {
    const query = { limit: String(limit), ...(after && { after }), ...(select.value && { status: select.value }) };
    const page = await read(`${path}?${new URLSearchParams(query)}`, signal);
    if (!after) list.replaceChildren();
    list.append(...page.data.map((/** @type {any} */ row) => entry(row)));
    if (!list.hasChildNodes()) fill(list, el("li", { class: "quiet" }, empty));
    after = page.next_cursor ?? "";
    more.hidden = !after;
  });
  const more = button("Show more", next, { hidden: true });
  const reload = () => {
    after = "";
    return next();
  };
  select.addEventListener("change", reload);
  return { filter, more, reload };
}
