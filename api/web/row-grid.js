/** The grid of a batch's rows: a poster each, accepted or made again with another seed, and the accepted ones saved. */

import { artifactBlob, saveBlob } from "./artifacts.js";
import { button, choice, el, fill } from "./dom.js";
import { showingProblems } from "./errors.js";
import { rowCard } from "./row-card.js";
import { read } from "./api-client.js";
import { statusOptions } from "./format.js";
import { zip } from "./zip.js";

/** @typedef {import("./api-client.js").Schemas["RowResponse"]} Row */
/** @typedef {import("./api-client.js").Schemas["BatchResponse"]} Batch */
/** @typedef {Record<string, { job: string, accepted: boolean }>} Choices by custom_id: which job is meant, and whether it is good */

const STATUSES = ["queued", "running", "succeeded", "failed", "canceled", "skipped"];
const PAGE = 48;

/**
 * @param {string} id of the batch
 * @param {AbortSignal} signal
 */
export function review(id, signal) {
  const kept = `trellis2-review-${id}`;
  /** @type {Choices} */
  const choices = JSON.parse(localStorage.getItem(kept) ?? "{}");
  const problems = el("div");
  const cards = el("ul", { class: "cards" });
  const accepted = el("span", { role: "status", class: "quiet" });
  const { node: chosen, select: filter } = choice("Show", statusOptions(STATUSES));
  const more = button("Show more", () => load(), { hidden: true });
  /** @type {Map<number, ReturnType<typeof rowCard>>} */
  const known = new Map();
  let after = "";
  let counted = "";
  let seen = PAGE;

  const keep = () => {
    localStorage.setItem(kept, JSON.stringify(choices));
    const count = Object.values(choices).filter((one) => one.accepted).length;
    fill(accepted, count > 0 && `${count} accepted`);
  };
  /** @param {Row[]} rows */
  const put = (rows) => rows.forEach((row) => {
    const card = known.get(row.row) ?? rowCard(choices, keep, problems, signal);
    card.update(row);
    if (!known.has(row.row)) cards.append(card.node);
    known.set(row.row, card);
  });
  const query = (/** @type {string} */ from) => `/v1/batches/${encodeURIComponent(id)}/items?${new URLSearchParams({
    limit: String(PAGE), ...(from && { after: from }), ...(filter.value && { status: filter.value }),
  })}`;
  const load = () => showingProblems(problems, async () => {
    const page = await read(query(after), signal);
    put(page.data);
    after = page.next_cursor ?? "";
    more.hidden = !after;
    seen = Math.max(known.size, PAGE);
  });
  const anew = () => {
    cards.replaceChildren();
    known.clear();
    after = "";
    return load();
  };
  const refresh = async () => {
    for (let from = "", looked = 0; looked < seen; looked += PAGE) {
      const page = await read(query(from), signal);
      put(page.data);
      if (looked + PAGE >= seen) after = page.next_cursor ?? "";
      from = page.next_cursor ?? "";
      if (!from) break;
    }
    more.hidden = !after;
  };
  filter.addEventListener("change", anew);
  keep();

  const node = el(
    "section",
    { "aria-label": "Rows" },
    el("h2", {}, "Rows"),
    el(
      "div",
      { class: "tools" },
      chosen,
      button("Accept all that are here", () => known.forEach((card) => card.accept())),
      button("Save the accepted", () => showingProblems(problems, () => saveAccepted(id, choices))),
      accepted,
    ),
    problems,
    cards,
    more,
  );
  /** Looks at the rows again where their counts have changed. @param {Batch} batch */
  async function update(batch) {
    const counts = JSON.stringify(batch.counts);
    if (counts === counted || !batch.plan) return;
    counted = counts;
    await (filter.value ? anew() : refresh());
  }
  return { node, update };
}

/**
 * Saves a zip of the accepted models and posters, named by SKU, with a table of them.
 * @param {string} id
 * @param {Choices} choices
 */
async function saveAccepted(id, choices) {
  const good = Object.entries(choices).filter(([, one]) => one.accepted);
  /** @type {{ name: string, blob: Blob }[]} */
  const files = [];
  const table = [["custom_id", "job_id", "seed", "triangles", "bytes", "sha256", "model_url"]];
  for (const [sku, { job }] of good) {
    const made = await read(`/v1/jobs/${job}`);
    const { model } = made.artifacts;
    const stem = sku.replace(/[^A-Za-z0-9_.-]+/g, "-");
    files.push({ name: `${stem}.glb`, blob: await artifactBlob(job, "model") }, { name: `${stem}.webp`, blob: await artifactBlob(job, "poster") });
    table.push([sku, job, made.seed, model.triangles, model.bytes, model.sha256, model.url]);
  }
  files.push({ name: "accepted.csv", blob: new Blob([table.map((row) => row.map(cell).join(",")).join("\r\n"), "\r\n"]) });
  saveBlob(await zip(files), `${id}-accepted.zip`);
}

/**
 * A cell of a CSV; no spreadsheet takes it for a formula.
 * @param {unknown} value
 */
function cell(value) {
  const text = String(value ?? "");
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}
