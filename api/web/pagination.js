/** A list that is fetched page by page. */

import { button } from "./dom.js";
import { showingProblems } from "./errors.js";
import { read } from "./api-client.js";

/**
 * @param {string} path
 * @param {() => Record<string, string>} query what is asked for beside the place
 * @param {Element} problems
 * @param {AbortSignal} signal
 * @param {(rows: any[], isFirst: boolean) => void} put shows a page
 */
export function pages(path, query, problems, signal, put) {
  let after = "";
  const next = () => showingProblems(problems, async () => {
    const page = await read(`${path}?${new URLSearchParams({ ...query(), ...(after && { after }) })}`, signal);
    put(page.data, !after);
    after = page.next_cursor ?? "";
    more.hidden = !after;
  });
  const more = button("Show more", next, { hidden: true });
  const anew = () => {
    after = "";
    return next();
  };
  return { more, anew };
}
