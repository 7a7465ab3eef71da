/** The view of one job, from its place in the queue to its asset. */

import { button, el, fill } from "./dom.js";
import { follow, hasEnded } from "./events.js";
import { pictures } from "./submit-form.js";
import { problemNotice, showingProblems } from "./errors.js";
import { progressPanel } from "./job-progress.js";
import { result } from "./job-result.js";
import { ask, read } from "./api-client.js";
import { badge, moment } from "./format.js";

/** @typedef {import("./events.js").Job} Job */

export const title = "Job";

/** @type {import("./main.js").Show} */
export async function show(main, [id = ""], signal) {
  const status = el("p", { class: "row" });
  const place = el("div");
  const name = el("h1", { tabindex: "-1" }, `Model ${id.slice(-6)}`);
  fill(main, name, status, place);
  const job = await read(`/v1/jobs/${encodeURIComponent(id)}`, signal);
  name.textContent = job.custom_id ?? `Model ${id.slice(-6)}`;

  /** @param {Job} current */
  const tell = (current) => fill(status, badge(current.status), moment(current.created_at), el("code", {}, current.id));
  tell(job);
  if (!hasEnded(job)) await watch(job, place, tell, signal);
  const ended = hasEnded(job) ? job : await read(`/v1/jobs/${job.id}`, signal);
  tell(ended);
  fill(place, ended.status === "succeeded" ? result(ended, signal) : failure(ended));
}

/**
 * @param {Job} job
 * @param {Element} place
 * @param {(job: Job) => void} tell
 * @param {AbortSignal} signal
 */
async function watch(job, place, tell, signal) {
  const panel = progressPanel(job.id);
  const picture = pictures.get(job.id);
  fill(place, el("div", { class: "columns" }, picture ? givenPicture(picture, signal) : null, panel.node));
  panel.update(job);
  await follow(job.id, (current) => {
    tell(current);
    panel.update(current);
  }, signal);
}

/**
 * @param {File} picture
 * @param {AbortSignal} signal
 */
function givenPicture(picture, signal) {
  const url = URL.createObjectURL(picture);
  signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  return el("div", { class: "drop" }, el("img", { src: url, alt: "The picture that you gave" }));
}

/** @param {Job} job */
function failure(job) {
  const problems = el("div");
  const retry = button("Try again", () => showingProblems(problems, async () => {
    await ask("POST", `/v1/jobs/${job.id}/retry`);
    dispatchEvent(new HashChangeEvent("hashchange"));
  }));
  const notice = job.error
    ? problemNotice(job.error.code, job.error.detail, [], job.error.retryable)
    : el("p", { class: "notice", role: "status" }, job.status === "canceled" ? "You canceled it. Nothing was kept, nothing is charged." : "It waited too long and was given up.");
  return el("div", {}, notice, problems, el("div", { class: "row" }, retry, el("a", { class: "button main", href: "#/" }, "Give another picture")));
}
