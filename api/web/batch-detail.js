/** The view of one batch: what was found, the yes, how its rows stand, and what has come of them. */

import { saveAnswer } from "./artifacts.js";
import { announce, button, el, facts, fill } from "./dom.js";
import { showingProblems } from "./errors.js";
import { review } from "./row-grid.js";
import { ask, pause, read } from "./api-client.js";
import { badge, duration, inWords, moment, usd, whole } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["BatchResponse"]} Batch */

export const title = "Batch";
const ENDED = new Set(["completed", "stopped", "canceled", "failed"]);
const COUNTS = /** @type {const} */ (["queued", "running", "succeeded", "failed", "canceled", "skipped"]);
const LOOK_MS = 2000;
const RESULTS = ["results.csv", "results.jsonl", "errors.csv", "results.zip"];

/** What may be done with a batch in each status, as the route's name and the button's text. @type {Record<string, [string, string][]>} */
const ACTIONS = {
  planning: [["cancel", "Cancel"]],
  awaiting_confirmation: [["confirm", "Yes, run it"], ["cancel", "No, cancel it"]],
  running: [["pause", "Pause"], ["cancel", "Cancel"]],
  paused: [["resume", "Resume"], ["cancel", "Cancel"]],
  completed: [["retry", "Retry what failed"]],
  stopped: [["retry", "Go on with the rest"]],
  canceled: [["retry", "Run the rest after all"]],
};

/** @type {import("./main.js").Show} */
export async function show(main, [id = ""], signal) {
  const status = el("p", { class: "row" });
  const found = el("div");
  const actions = el("div", { class: "row" });
  const problems = el("div");
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Rows that have ended" });
  const counts = el("ul", { class: "counts" });
  const rows = review(id, signal);
  fill(
    main,
    el("h1", { tabindex: "-1" }, "Batch"),
    status,
    problems,
    el("section", { class: "panel", "aria-label": "How it stands" }, found, bar, counts, actions),
    rows.node,
    el("section", { "aria-label": "Results" }, el("h2", {}, "Results so far"), el("div", { class: "row" }, RESULTS.map((name) =>
      button(name, () => showingProblems(problems, () => saveAnswer(`/v1/batches/${id}/${name}`, `${id}-${name}`)))))),
  );
  let known = "";

  /** @param {Batch} batch */
  const tell = async (batch) => {
    fill(status, badge(batch.status), moment(batch.created_at), el("code", {}, batch.id));
    fill(found, plan(batch));
    bar.value = share(batch);
    fill(counts, COUNTS.filter((name) => batch.counts[name]).map((name) => el("li", {}, el("b", {}, whole(batch.counts[name])), ` ${name}`)));
    if (known !== batch.status) fill(actions, actionButtons(batch, problems, look));
    if (known && known !== batch.status) announce(inWords(batch.status));
    known = batch.status;
    await rows.update(batch);
  };
  const look = async () => tell(await read(`/v1/batches/${encodeURIComponent(id)}`, signal));

  await look();
  while (!signal.aborted) {
    await pause(LOOK_MS, signal);
    if (!ENDED.has(known)) await look();
  }
}

/** @param {Batch} batch */
function share({ counts }) {
  return counts.total ? (counts.total - counts.queued - counts.running) / counts.total : 0;
}

/** @param {Batch} batch */
function plan(batch) {
  if (batch.error) return el("div", { class: "notice bad", role: "alert" }, el("strong", {}, batch.error.detail), el("p", {}, "Correct the file, then begin a new batch."));
  if (!batch.plan) return el("p", { role: "status" }, `Checking every row: ${whole(batch.counts.total)} so far…`);
  const { rows, invalid, reused, to_run, cost_usd, seconds, measured_jobs } = batch.plan;
  return el(
    "div",
    {},
    el("h2", {}, batch.status === "awaiting_confirmation" ? "This is what was found. Run it?" : "What was found"),
    facts(
      ["Rows", whole(rows)],
      ["To run", whole(to_run)],
      ["Made before", reused ? whole(reused) : null],
      ["With mistakes", invalid ? `${whole(invalid)}: errors.csv says where` : null],
      ["Estimated cost", usd(cost_usd)],
      ["Estimated time", duration(seconds)],
      ["Estimated from", measured_jobs ? `${whole(measured_jobs)} of your jobs` : "what such jobs usually take"],
      ["Cost so far", batch.cost_usd ? usd(batch.cost_usd) : null],
      ["Stopped by", batch.stop_reason && inWords(batch.stop_reason)],
    ),
  );
}

/**
 * @param {Batch} batch
 * @param {Element} problems
 * @param {() => Promise<void>} look
 */
function actionButtons(batch, problems, look) {
  const { failed, canceled, skipped } = batch.counts;
  const possible = (ACTIONS[batch.status] ?? []).filter(([name]) => name !== "retry" || failed + canceled + skipped > 0);
  return possible.map(([name, text]) => button(text, () => showingProblems(problems, async () => {
    await ask("POST", `/v1/batches/${batch.id}/${name}`, name === "retry" ? { json: {} } : {});
    await look();
  }), { class: name === "confirm" ? "main" : "" }));
}
