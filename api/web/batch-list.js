/** The view of all batches, with the form that starts one. */

import { loadContract } from "./openapi.js";
import { el, fill, form, formField, heading, inline, note } from "./dom.js";
import { pagedList } from "./pagination.js";
import { controlOf, parameters } from "./parameter-form.js";
import { presetSelect } from "./preset-select.js";
import { showErrors } from "./errors.js";
import { request, makeForm, ApiError, submit } from "./api-client.js";
import { badge, bytes, moment, whole } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["BatchResponse"]} Batch */

export const title = "Batches";
const FORM_BYTES = 19_000_000; // larger files are uploaded to the store first
const LIMITS = ["max_cost_usd", "max_failures", "deliver_to", "rerun"];
const SEPARATE = new Set(["preset", "engine", "metadata", "confirm", "webhook", ...LIMITS]);

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  const alerts = el("div");
  const list = el("ul", { class: "list" });
  const options = el("div", { class: "stack" });
  const manifest = fileField("Catalog", "manifest", "A Shopify export, a Google Merchant feed, any CSV, or JSON lines.", ".csv,.tsv,.jsonl,.txt");
  const images = fileField("Photos", "images", "A zip of photos named by SKU. Without a catalog each is a row.", ".zip");
  /** @type {() => Record<string, unknown>} */
  let readOptions = () => ({});
  const start = () => showErrors(alerts, async () => {
    if (!manifest.file() && !images.file()) throw new ApiError(0, "no_file", "give a catalog, or a zip of photos, or both");
    const batch = await create(manifest.file(), images.file(), readOptions(), signal);
    location.hash = `#/batch/${batch.id}`;
  });
  const newBatch = form(
    "New batch",
    "Check it",
    start,
    el("p", { class: "quiet" }, "Every row is checked and its cost estimated first. Nothing runs until you confirm."),
    manifest.node,
    images.node,
    options,
  );
  fill(
    main,
    heading("Batches"),
    el("p", { class: "lead" }, "A catalog goes in, models named by SKU come out."),
    alerts,
    el("div", { class: "columns" }, newBatch, el("section", {}, el("h2", {}, "Yours"), list)),
  );
  readOptions = (await showErrors(alerts, () => showOptions(options))) ?? readOptions;
  const { more, reload } = pagedList("/v1/batches", 20, list, entry, ["None yet."], alerts, signal);
  list.after(more);
  await reload();
}

/** @param {Batch} batch */
function entry(batch) {
  return el(
    "li",
    { class: "card" },
    inline(el("h3", {}, el("a", { href: `#/batch/${batch.id}` }, `${whole(batch.counts.total)} rows`)), badge(batch.status)),
    note(moment(batch.created_at), `, ${whole(batch.counts.succeeded)} succeeded, ${whole(batch.counts.failed)} failed`),
  );
}

/**
 * @param {string} label
 * @param {string} name
 * @param {string} hint
 * @param {string} accept
 */
function fileField(label, name, hint, accept) {
  const input = el("input", { type: "file", name, accept });
  return { node: formField(label, input, hint), file: () => input.files?.[0] };
}

/** Show the options and return a function that reads their values. @param {Element} target */
async function showOptions(target) {
  const { fields, presets } = await loadContract();
  const all = fields("BatchFields");
  const limits = all.filter((item) => LIMITS.includes(item.name)).map((item) => controlOf(item));
  const mesh = new Set(fields("ExportRequest").map((item) => item.name));
  const inputs = parameters(all.filter((item) => !SEPARATE.has(item.name)), presets, mesh);
  const preset = presetSelect(presets, "shopify", inputs.follow);
  fill(
    target,
    preset.node,
    el("details", {}, el("summary", {}, "Limits and delivery"), el("div", { class: "fields" }, limits.map((item) => item.node))),
    el("details", {}, el("summary", {}, "Parameters of all rows"), inputs.nodes),
  );
  return () => {
    const values = Object.fromEntries(limits.map((item) => [item.name, item.value()]).filter(([, value]) => value !== undefined));
    return { ...preset.values(), ...values, ...inputs.values() };
  };
}

/**
 * @param {File | undefined} manifest
 * @param {File | undefined} images
 * @param {Record<string, unknown>} values
 * @param {AbortSignal} signal
 * @returns {Promise<Batch>}
 */
async function create(manifest, images, values, signal) {
  if ((manifest?.size ?? 0) + (images?.size ?? 0) <= FORM_BYTES) {
    return submit("/v1/batches", { form: makeForm({ manifest, images }, values), signal });
  }
  const json = {
    ...values,
    ...(manifest && { manifest: { upload_id: await upload(manifest, "manifest", signal) } }),
    ...(images && { images: { upload_id: await upload(images, "images", signal) } }),
  };
  return submit("/v1/batches", { json, signal });
}

/**
 * Upload a file to the store and return the upload's id.
 * @param {File} file
 * @param {"manifest" | "images"} purpose
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
async function upload(file, purpose, signal) {
  const target = await (await request("POST", "/v1/uploads", { json: { purpose }, signal })).json();
  const form = new FormData();
  for (const [name, value] of Object.entries(target.fields)) form.append(name, String(value));
  form.append("file", file);
  const response = await fetch(target.url, { method: "POST", body: form, signal });
  if (!response.ok) throw new ApiError(response.status, "upload_refused", `the store rejected ${file.name} of ${bytes(file.size)}`);
  return target.upload_id;
}
