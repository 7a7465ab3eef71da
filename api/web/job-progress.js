/** The panel of a running job: stages, progress, preview, and a button that cancels it. */

import { announce, button, el, fill } from "./dom.js";
import { showErrors } from "./errors.js";
import { request } from "./api-client.js";
import { duration, humanize } from "./format.js";

/** @typedef {import("./events.js").JobEvent} JobEvent */

const STAGES = ["sparse_structure", "shape", "texture", "decode", "extract", "store"];

/** @param {string} id of the job */
export function progressPanel(id) {
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const line = el("p", { class: "quiet" }, "Waiting in the queue…");
  const preview = el("img", { class: "checkered", alt: "Preview of the model", width: 192 });
  const figure = el("figure", { hidden: true }, preview, el("figcaption", {}, "Preview"));
  const items = STAGES.map((stage) => el("li", { "data-stage": stage }, humanize(stage)));
  const alerts = el("div");
  const cancel = button("Cancel", () => showErrors(alerts, () => request("POST", `/v1/jobs/${id}/cancel`)));
  const node = el(
    "section",
    { class: "panel", "aria-label": "Progress" },
    el("h2", {}, "Running"),
    bar,
    line,
    el("ol", { class: "stages" }, items),
    figure,
    alerts,
    cancel,
  );

  /** @param {JobEvent} job */
  function update(job) {
    bar.value = job.progress;
    fill(line, describe(job));
    const now = job.stage ? STAGES.indexOf(job.stage) : -1;
    items.forEach((item, index) => {
      item.classList.toggle("done", index < now);
      if (index === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    if (job.preview) {
      preview.src = job.preview;
      figure.hidden = false;
    }
    announce(job.stage ? `Stage ${now + 1} of ${STAGES.length}: ${humanize(job.stage)}` : humanize(job.status));
  }
  return { node, update };
}

/** @param {JobEvent} job */
function describe(job) {
  const remaining = job.eta_seconds ? `, about ${duration(job.eta_seconds)} left` : "";
  if (job.status !== "queued") return `${Math.round(job.progress * 100)} %${remaining}`;
  return job.queue_position ? `${job.queue_position} ahead in the queue${remaining}` : `Next in the queue${remaining}`;
}
