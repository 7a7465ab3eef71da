/** The view of all jobs, newest first. */

import { poster } from "./artifacts.js";
import { button, choice, el, fill } from "./dom.js";
import { pages } from "./pagination.js";
import { showingProblems } from "./errors.js";
import { ask } from "./api-client.js";
import { badge, inWords, moment, statusOptions } from "./format.js";

/** @typedef {import("./events.js").Job} Job */

export const title = "History";
const STATUSES = ["queued", "running", "succeeded", "failed", "canceled", "expired"];

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  const problems = el("div");
  const cards = el("ul", { class: "cards" });
  const { node: chosen, select: filter } = choice("Show", statusOptions(STATUSES));
  const wanted = () => ({ limit: "24", ...(filter.value && { status: filter.value }) });
  const { more, anew } = pages("/v1/jobs", wanted, problems, signal, (jobs, isFirst) => {
    if (isFirst) cards.replaceChildren();
    cards.append(...jobs.map((job) => card(job, problems, signal)));
    if (!cards.hasChildNodes()) fill(problems, el("p", { class: "quiet" }, "Nothing yet. ", el("a", { href: "#/" }, "Make the first one.")));
  });
  filter.addEventListener("change", anew);
  fill(
    main,
    el("h1", { tabindex: "-1" }, "What you have made"),
    el("div", { class: "tools" }, chosen),
    problems,
    cards,
    more,
  );
  await anew();
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
