/** The view of all jobs, newest first. */

import { poster } from "./artifacts.js";
import { button, choice, el, fill } from "./dom.js";
import { showingProblems } from "./problems.js";
import { ask, read } from "./service.js";
import { badge, inWords, moment, statusOptions } from "./words.js";

/** @typedef {import("./events.js").Job} Job */

export const title = "History";
const STATUSES = ["queued", "running", "succeeded", "failed", "canceled", "expired"];
const PAGE = 24;

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  const problems = el("div");
  const cards = el("ul", { class: "cards" });
  const more = button("Show more", () => load(), { hidden: true });
  const { node: chosen, select: filter } = choice("Show", statusOptions(STATUSES));
  let after = "";

  async function load() {
    await showingProblems(problems, async () => {
      const query = new URLSearchParams({ limit: String(PAGE), ...(after && { after }), ...(filter.value && { status: filter.value }) });
      const page = await read(`/v1/jobs?${query}`, signal);
      cards.append(...page.data.map((/** @type {Job} */ job) => card(job, problems, signal)));
      after = page.next_cursor ?? "";
      more.hidden = !after;
      if (!cards.hasChildNodes()) fill(problems, el("p", { class: "quiet" }, "Nothing yet. ", el("a", { href: "#/" }, "Make the first one.")));
    });
  }
  filter.addEventListener("change", () => {
    cards.replaceChildren();
    after = "";
    return load();
  });
  fill(
    main,
    el("h1", { tabindex: "-1" }, "What you have made"),
    el("div", { class: "tools" }, chosen),
    problems,
    cards,
    more,
  );
  await load();
}

/**
 * @param {Job} job
 * @param {Element} problems
 * @param {AbortSignal} signal
 */
function card(job, problems, signal) {
  const name = job.custom_id ?? `Model ${job.id.slice(-6)}`;
  const shown = job.artifacts["poster"] ? job.id : null;
  const made = el(
    "li",
    { class: "card", "data-job": job.id },
    poster(shown, `Poster of ${name}`, inWords(job.status), signal),
    el("h2", {}, el("a", { href: `#/jobs/${job.id}` }, name)),
    el("p", {}, badge(job.status)),
    el("p", { class: "quiet small" }, moment(job.created_at)),
    el("div", { class: "row" }, button("Delete", async () => {
      if (!confirm(`Delete ${name} with its picture and its files?`)) return;
      await showingProblems(problems, async () => {
        await ask("DELETE", `/v1/jobs/${job.id}`);
        made.remove();
      });
    }, { "aria-label": `Delete ${name}` })),
  );
  return made;
}
