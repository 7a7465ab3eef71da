/** The view of one batch: plan, confirmation, counts by status, rows and results. */

import { saveResponse } from "./artifacts.js";
import { announce, button, el, facts, fill, heading, inline } from "./dom.js";
import { showErrors } from "./errors.js";
import { rowGrid, STATUSES } from "./row-grid.js";
import { request, pause, read } from "./api-client.js";
import { badge, duration, humanize, moment, usd, whole } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["BatchResponse"]} Batch */

export const title = "Batch";
const ENDED = new Set(["completed", "stopped", "canceled", "failed"]);
const POLL_MS = 2000;
const RESULTS = ["results.csv", "results.jsonl", "errors.csv", "results.zip"];

/** The actions on a batch by status, as the route's name and the button's text. @type {Record<string, [string, string][]>} */
const ACTIONS = {
  planning: [["cancel", "Cancel"]],
  awaiting_confirmation: [["confirm", "Yes, run it"], ["cancel", "No, cancel it"]],
  running: [["pause", "Pause"], ["cancel", "Cancel"]],
  paused: [["resume", "Resume"], ["cancel", "Cancel"]],
  completed: [["retry", "Retry what failed"]],
  stopped: [["retry", "Run the rest"]],
  canceled: [["retry", "Run the rest"]],
};

/** @type {import("./main.js").Show} */
export async function show(main, [id = ""], signal) {
  const status = el("p", { class: "row" });
  const planBox = el("div");
  const actions = el("div", { class: "row" });
  const alerts = el("div");
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Rows that have ended" });
  const counts = el("ul", { class: "counts" });
  const rows = rowGrid(id, signal);
  fill(
    main,
    heading("Batch"),
    status,
    alerts,
    el("section", { class: "panel", "aria-label": "Status" }, planBox, bar, counts, actions),
    rows.node,
    el("section", { "aria-label": "Results" }, el("h2", {}, "Results so far"), inline(RESULTS.map((name) =>
      button(name, () => showErrors(alerts, () => saveResponse(`/v1/batches/${id}/${name}`, `${id}-${name}`)))))),
  );
  let known = "";

  /** @param {Batch} batch */
  const show = async (batch) => {
    fill(status, badge(batch.status), moment(batch.created_at), el("code", {}, batch.id));
    fill(planBox, plan(batch));
    bar.value = share(batch);
    fill(counts, STATUSES.filter((name) => batch.counts[name]).map((name) => el("li", {}, el("b", {}, whole(batch.counts[name])), ` ${name}`)));
    if (known !== batch.status) fill(actions, actionButtons(batch, alerts, refresh));
    if (known && known !== batch.status) announce(humanize(batch.status));
    known = batch.status;
    await rows.update(batch);
  };
  const refresh = async () => show(await read(`/v1/batches/${encodeURIComponent(id)}`, signal));

  await refresh();
  while (!signal.aborted) {
    await pause(POLL_MS, signal);
    if (!ENDED.has(known)) await refresh();
  }
}

/** @param {Batch} batch */
function share({ counts }) {
  return counts.total ? (counts.total - counts.queued - counts.running) / counts.total : 0;
}

/** @param {Batch} batch */
function plan(batch) {
  if (batch.error) return el("div", { class: "notice bad", role: "alert" }, el("strong", {}, batch.error.detail), el("p", {}, "Correct the file, then start a new batch."));
  if (!batch.plan) return el("p", { role: "status" }, `Checking every row: ${whole(batch.counts.total)} so far…`);
  const { rows, invalid, reused, to_run, cost_usd, seconds, measured_jobs } = batch.plan;
  return el(
    "div",
    {},
    el("h2", {}, batch.status === "awaiting_confirmation" ? "Run this plan?" : "Plan"),
    facts(
      ["Rows", whole(rows)],
      ["To run", whole(to_run)],
      ["Reused", reused ? whole(reused) : null],
      ["Invalid", invalid ? `${whole(invalid)}: see errors.csv` : null],
      ["Estimated cost", usd(cost_usd)],
      ["Estimated time", duration(seconds)],
      ["Estimated from", measured_jobs ? `${whole(measured_jobs)} of your jobs` : "typical jobs"],
      ["Cost so far", batch.cost_usd ? usd(batch.cost_usd) : null],
      ["Stopped by", batch.stop_reason && humanize(batch.stop_reason)],
    ),
  );
}

/**
 * @param {Batch} batch
 * @param {Element} alerts
 * @param {() => Promise<void>} refresh
 */
function actionButtons(batch, alerts, refresh) {
  const { failed, canceled, skipped } = batch.counts;
  const possible = (ACTIONS[batch.status] ?? []).filter(([name]) => name !== "retry" || failed + canceled + skipped > 0);
  return possible.map(([name, text]) => button(text, () => showErrors(alerts, async () => {
    await request("POST", `/v1/batches/${batch.id}/${name}`, name === "retry" ? { json: {} } : {});
    await refresh();
  }), { class: name === "confirm" ? "main" : "" }));
}
