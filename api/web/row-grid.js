/** The grid of a batch's rows with posters, in which the user accepts models, generates others, and saves the accepted. */

import { artifactBlob, saveBlob } from "./artifacts.js";
import { button, selectField, el, fill } from "./dom.js";
import { showErrors } from "./errors.js";
import { rowCard } from "./row-card.js";
import { read } from "./api-client.js";
import { statusOptions } from "./format.js";
import { zip } from "./zip.js";

/** @typedef {import("./api-client.js").Schemas["RowResponse"]} Row */
/** @typedef {import("./api-client.js").Schemas["BatchResponse"]} Batch */
/** @typedef {Record<string, { job: string, accepted: boolean }>} Choices by custom_id: the chosen job, and whether it is accepted */

export const STATUSES = /** @type {const} */ (["queued", "running", "succeeded", "failed", "canceled", "skipped"]);
const PAGE = 48;

/**
 * @param {string} id of the batch
 * @param {AbortSignal} signal
 */
export function rowGrid(id, signal) {
  const storageKey = `trellis2-review-${id}`;
  /** @type {Choices} */
  const choices = JSON.parse(localStorage.getItem(storageKey) ?? "{}");
  const alerts = el("div");
  const cards = el("ul", { class: "cards" });
  const accepted = el("span", { role: "status", class: "quiet" });
  const { node: filterField, select: filter } = selectField("Show", statusOptions(STATUSES));
  const more = button("Show more", () => load(), { hidden: true });
  /** @type {Map<number, ReturnType<typeof rowCard>>} */
  const known = new Map();
  let after = "";
  let counted = "";
  let shown = PAGE;

  const save = () => {
    localStorage.setItem(storageKey, JSON.stringify(choices));
    const count = Object.values(choices).filter((item) => item.accepted).length;
    fill(accepted, count > 0 && `${count} accepted`);
  };
  /** @param {Row[]} rows */
  const put = (rows) => rows.forEach((row) => {
    const card = known.get(row.row) ?? rowCard(choices, save, alerts, signal);
    card.update(row);
    if (!known.has(row.row)) cards.append(card.node);
    known.set(row.row, card);
  });
  const query = (/** @type {string} */ from) => `/v1/batches/${encodeURIComponent(id)}/items?${new URLSearchParams({
    limit: String(PAGE), ...(from && { after: from }), ...(filter.value && { status: filter.value }),
  })}`;
  const load = () => showErrors(alerts, async () => {
    const page = await read(query(after), signal);
    put(page.data);
    after = page.next_cursor ?? "";
    more.hidden = !after;
    shown = Math.max(known.size, PAGE);
  });
  const reload = () => {
    cards.replaceChildren();
    known.clear();
    after = "";
    return load();
  };
  const refresh = async () => {
    for (let from = "", fetched = 0; fetched < shown; fetched += PAGE) {
      const page = await read(query(from), signal);
      put(page.data);
      if (fetched + PAGE >= shown) after = page.next_cursor ?? "";
      from = page.next_cursor ?? "";
      if (!from) break;
    }
    more.hidden = !after;
  };
  filter.addEventListener("change", reload);
  save();

  const node = el(
    "section",
    { "aria-label": "Rows" },
    el("h2", {}, "Rows"),
    el(
      "div",
      { class: "tools" },
      filterField,
      button("Accept all shown", () => known.forEach((card) => card.accept())),
      button("Save accepted", () => showErrors(alerts, () => saveAccepted(id, choices))),
      accepted,
    ),
    alerts,
    cards,
    more,
  );
  /** Refresh the rows if their counts have changed. @param {Batch} batch */
  async function update(batch) {
    const counts = JSON.stringify(batch.counts);
    if (counts === counted || !batch.plan) return;
    counted = counts;
    await (filter.value ? reload() : refresh());
  }
  return { node, update };
}

/**
 * Save a zip of the accepted models and posters, named by SKU, with a table.
 * @param {string} id
 * @param {Choices} choices
 */
async function saveAccepted(id, choices) {
  const accepted = Object.entries(choices).filter(([, item]) => item.accepted);
  /** @type {{ name: string, blob: Blob }[]} */
  const files = [];
  const table = [["custom_id", "job_id", "seed", "triangles", "bytes", "sha256", "model_url"]];
  for (const [sku, { job }] of accepted) {
    const record = await read(`/v1/jobs/${job}`);
    const { model } = record.artifacts;
    const stem = sku.replace(/[^A-Za-z0-9_.-]+/g, "-");
    files.push({ name: `${stem}.glb`, blob: await artifactBlob(job, "model") }, { name: `${stem}.webp`, blob: await artifactBlob(job, "poster") });
    table.push([sku, job, record.seed, model.triangles, model.bytes, model.sha256, model.url]);
  }
  files.push({ name: "accepted.csv", blob: new Blob([table.map((row) => row.map(formatCell).join(",")).join("\r\n"), "\r\n"]) });
  saveBlob(await zip(files), `${id}-accepted.zip`);
}

/**
 * Format a cell of a CSV that no spreadsheet reads as a formula.
 * @param {unknown} value
 */
function formatCell(value) {
  const text = String(value ?? "");
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}
