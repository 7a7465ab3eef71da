/** The view of all batches, and the form that begins one. */

import { contract } from "./openapi.js";
import { el, fill, form, labelled } from "./dom.js";
import { pages } from "./pagination.js";
import { controlOf, parameters } from "./parameter-form.js";
import { presetSelect } from "./preset-select.js";
import { showingProblems } from "./errors.js";
import { ask, formOf, Refused, submit } from "./api-client.js";
import { badge, bytes, moment, whole } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["BatchResponse"]} Batch */

export const title = "Batches";
const FORM_BYTES = 19_000_000; // larger files are uploaded past the gateway first
const BOUNDS = ["max_cost_usd", "max_failures", "deliver_to", "rerun"];
const ELSEWHERE = new Set(["preset", "engine", "metadata", "confirm", "webhook", ...BOUNDS]);

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  const problems = el("div");
  const list = el("ul", { class: "list" });
  const options = el("div", { class: "stack" });
  const manifest = fileField("Catalog", "manifest", "A Shopify export, a Google Merchant feed, any CSV, or JSON lines: as it is.", ".csv,.tsv,.jsonl,.txt");
  const images = fileField("Photos", "images", "A zip of photos named by SKU. Without a catalog each is a row.", ".zip");
  /** @type {() => Record<string, unknown>} */
  let wishes = () => ({});
  const begin = () => showingProblems(problems, async () => {
    if (!manifest.file() && !images.file()) throw new Refused(0, "no_file", "give a catalog, or a zip of photos, or both");
    const batch = await create(manifest.file(), images.file(), wishes(), signal);
    location.hash = `#/batch/${batch.id}`;
  });
  const fresh = form(
    "New batch",
    "Check it",
    begin,
    el("p", { class: "quiet" }, "Every row is checked and its cost estimated first. Nothing runs until you say yes."),
    manifest.node,
    images.node,
    options,
  );
  fill(
    main,
    el("h1", { tabindex: "-1" }, "Batches"),
    el("p", { class: "lead" }, "A catalog goes in, assets named by SKU come out."),
    problems,
    el("div", { class: "columns" }, fresh, el("section", {}, el("h2", {}, "Yours"), list)),
  );
  wishes = (await showingProblems(problems, () => choices(options))) ?? wishes;
  await showBatches(list, problems, signal);
}

/**
 * @param {Element} list
 * @param {Element} problems
 * @param {AbortSignal} signal
 */
async function showBatches(list, problems, signal) {
  const { more, anew } = pages("/v1/batches", () => ({ limit: "20" }), problems, signal, (batches) => {
    list.append(...batches.map(entry));
    if (!list.hasChildNodes()) fill(list, el("li", { class: "quiet" }, "None yet."));
  });
  list.after(more);
  await anew();
}

/** @param {Batch} batch */
function entry(batch) {
  return el(
    "li",
    { class: "card" },
    el("div", { class: "row" }, el("h3", {}, el("a", { href: `#/batch/${batch.id}` }, `${whole(batch.counts.total)} rows`)), badge(batch.status)),
    el("p", { class: "quiet small" }, moment(batch.created_at), `, ${whole(batch.counts.succeeded)} succeeded, ${whole(batch.counts.failed)} failed`),
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
  return { node: labelled(label, input, hint), file: () => input.files?.[0] };
}

/** @param {Element} place */
async function choices(place) {
  const { fields, presets } = await contract();
  const all = fields("BatchFields");
  const bounds = all.filter((one) => BOUNDS.includes(one.name)).map((one) => controlOf(one));
  const mesh = new Set(fields("ExportRequest").map((one) => one.name));
  const given = parameters(all.filter((one) => !ELSEWHERE.has(one.name)), presets, mesh);
  const preset = presetSelect(presets, "shopify", given.follow);
  fill(
    place,
    preset.node,
    el("details", {}, el("summary", {}, "Limits and delivery"), el("div", { class: "fields" }, bounds.map((one) => one.node))),
    el("details", {}, el("summary", {}, "Parameters of all rows"), given.nodes),
  );
  return () => {
    const limits = Object.fromEntries(bounds.map((one) => [one.name, one.value()]).filter(([, value]) => value !== undefined));
    return { ...preset.wish(), ...limits, ...given.values() };
  };
}

/**
 * @param {File | undefined} manifest
 * @param {File | undefined} images
 * @param {Record<string, unknown>} wishes
 * @param {AbortSignal} signal
 * @returns {Promise<Batch>}
 */
async function create(manifest, images, wishes, signal) {
  if ((manifest?.size ?? 0) + (images?.size ?? 0) <= FORM_BYTES) {
    return submit("/v1/batches", { form: formOf({ manifest, images }, wishes), signal });
  }
  const json = {
    ...wishes,
    ...(manifest && { manifest: { upload_id: await upload(manifest, "manifest", signal) } }),
    ...(images && { images: { upload_id: await upload(images, "images", signal) } }),
  };
  return submit("/v1/batches", { json, signal });
}

/**
 * Sends a file to the store; the upload's id stands for it from then on.
 * @param {File} file
 * @param {"manifest" | "images"} purpose
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
async function upload(file, purpose, signal) {
  const to = await (await ask("POST", "/v1/uploads", { json: { purpose }, signal })).json();
  const form = new FormData();
  for (const [name, value] of Object.entries(to.fields)) form.append(name, String(value));
  form.append("file", file);
  const answer = await fetch(to.url, { method: "POST", body: form, signal });
  if (!answer.ok) throw new Refused(answer.status, "upload_refused", `the store did not take ${file.name} of ${bytes(file.size)}`);
  return to.upload_id;
}
