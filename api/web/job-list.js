/** The view of all jobs, newest first. */

import { poster } from "./artifacts.js";
import { button, el, fill, heading, inline, note } from "./dom.js";
import { pagedList } from "./pagination.js";
import { showErrors } from "./errors.js";
import { request } from "./api-client.js";
import { badge, humanize, moment } from "./format.js";

/** @typedef {import("./events.js").Job} Job */

export const title = "History";
const STATUSES = ["queued", "running", "succeeded", "failed", "canceled", "expired"];

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  const alerts = el("div");
  const cards = el("ul", { class: "cards" });
  const empty = ["Nothing yet. ", el("a", { href: "#/" }, "Make the first model.")];
  const { filter, more, reload } = pagedList("/v1/jobs", 24, cards, (job) => card(job, alerts, signal), empty, alerts, signal, STATUSES);
  fill(main, heading("Your models"), el("div", { class: "tools" }, filter), alerts, cards, more);
  await reload();
}

/**
 * @param {Job} job
 * @param {Element} alerts
 * @param {AbortSignal} signal
 */
function card(job, alerts, signal) {
  const name = job.custom_id ?? `Model ${job.id.slice(-6)}`;
  const posterJob = job.artifacts["poster"] ? job.id : null;
  const element = el(
    "li",
    { class: "card", "data-job": job.id },
    poster(posterJob, `Poster of ${name}`, humanize(job.status), signal),
    el("h2", {}, el("a", { href: `#/jobs/${job.id}` }, name)),
    el("p", {}, badge(job.status)),
    note(moment(job.created_at)),
    inline(button("Delete", async () => {
      if (!confirm(`Delete ${name} with its photo and its files?`)) return;
      await showErrors(alerts, async () => {
        await request("DELETE", `/v1/jobs/${job.id}`);
        element.remove();
      });
    }, { "aria-label": `Delete ${name}` })),
  );
  return element;
}
