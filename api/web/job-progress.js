/** A running job as it is seen: its stages, how far it is, its preview, and the way to stop it. */

import { announce, button, el, fill } from "./dom.js";
import { showingProblems } from "./errors.js";
import { ask } from "./api-client.js";
import { duration, inWords } from "./format.js";

/** @typedef {import("./events.js").Told} Told */

const STAGES = ["sparse_structure", "shape", "texture", "decode", "extract", "store"];

/** @param {string} id of the job */
export function progressPanel(id) {
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const line = el("p", { class: "quiet" }, "Waiting for its turn…");
  const preview = el("img", { class: "checkered", alt: "A first look at what is being made", width: 192 });
  const look = el("figure", { hidden: true }, preview, el("figcaption", {}, "A first look, cut out"));
  const items = STAGES.map((stage) => el("li", { "data-stage": stage }, inWords(stage)));
  const problems = el("div");
  const cancel = button("Cancel", () => showingProblems(problems, () => ask("POST", `/v1/jobs/${id}/cancel`)));
  const node = el(
    "section",
    { class: "panel", "aria-label": "Progress" },
    el("h2", {}, "Under way"),
    bar,
    line,
    el("ol", { class: "stages" }, items),
    look,
    problems,
    cancel,
  );

  /** @param {Told} job */
  function update(job) {
    bar.value = job.progress;
    fill(line, told(job));
    const now = job.stage ? STAGES.indexOf(job.stage) : -1;
    items.forEach((item, at) => {
      item.classList.toggle("done", at < now);
      if (at === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    if (job.preview) {
      preview.src = job.preview;
      look.hidden = false;
    }
    announce(job.stage ? `Stage ${now + 1} of ${STAGES.length}: ${inWords(job.stage)}` : inWords(job.status));
  }
  return { node, update };
}

/** @param {Told} job */
function told(job) {
  const left = job.eta_seconds ? `, about ${duration(job.eta_seconds)} left` : "";
  if (job.status !== "queued") return `${Math.round(job.progress * 100)} %${left}`;
  return job.queue_position ? `${job.queue_position} before it in the queue${left}` : `Next in the queue${left}`;
}
