/** The view of one job, from its position in the queue to its model. */

import { button, el, fill, heading, inline } from "./dom.js";
import { follow, hasEnded } from "./events.js";
import { photoImage } from "./image-input.js";
import { photos } from "./submit-form.js";
import { errorNotice, showErrors } from "./errors.js";
import { progressPanel } from "./job-progress.js";
import { result } from "./job-result.js";
import { request, read } from "./api-client.js";
import { badge, moment } from "./format.js";

/** @typedef {import("./events.js").Job} Job */

export const title = "Job";

/** @type {import("./main.js").Show} */
export async function show(main, [id = ""], signal) {
  const status = el("p", { class: "row" });
  const content = el("div");
  const name = heading(`Model ${id.slice(-6)}`);
  fill(main, name, status, content);
  const job = await read(`/v1/jobs/${encodeURIComponent(id)}`, signal);
  name.textContent = job.custom_id ?? `Model ${id.slice(-6)}`;

  /** @param {Job} current */
  const showStatus = (current) => fill(status, badge(current.status), moment(current.created_at), el("code", {}, current.id));
  showStatus(job);
  if (!hasEnded(job)) await watch(job, content, showStatus, signal);
  const ended = hasEnded(job) ? job : await read(`/v1/jobs/${job.id}`, signal);
  showStatus(ended);
  fill(content, ended.status === "succeeded" ? result(ended, signal) : failure(ended));
}

/**
 * @param {Job} job
 * @param {Element} target
 * @param {(job: Job) => void} showStatus
 * @param {AbortSignal} signal
 */
async function watch(job, target, showStatus, signal) {
  const panel = progressPanel(job.id);
  const photo = photos.get(job.id);
  fill(target, el("div", { class: "columns" }, photo && el("div", { class: "drop" }, photoImage(photo, signal)), panel.node));
  panel.update(job);
  await follow(job.id, (current) => {
    showStatus(current);
    panel.update(current);
  }, signal);
}

/** @param {Job} job */
function failure(job) {
  const alerts = el("div");
  const retry = button("Try again", () => showErrors(alerts, async () => {
    await request("POST", `/v1/jobs/${job.id}/retry`);
    dispatchEvent(new HashChangeEvent("hashchange"));
  }));
  const notice = job.error
    ? errorNotice(job.error.code, job.error.detail, [], job.error.retryable)
    : el("p", { class: "notice", role: "status" }, job.status === "canceled" ? "You canceled this job. It costs nothing." : "The job expired: no worker ran it in time.");
  return el("div", {}, notice, alerts, inline(retry, el("a", { class: "button main", href: "#/" }, "Use another photo")));
}
