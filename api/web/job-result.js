/** What a succeeded job has made: to see, to know, to save, to put on a page, to make again. */

import { saveButton } from "./artifacts.js";
import { contract } from "./openapi.js";
import { button, copyButton, el, facts, fill, form } from "./dom.js";
import { parameters } from "./parameter-form.js";
import { presetSelect } from "./preset-select.js";
import { showingProblems } from "./errors.js";
import { makeAgain, submit } from "./api-client.js";
import { viewer } from "./viewer.js";
import { bytes, duration, inWords, usd, whole } from "./format.js";

/** @typedef {import("./events.js").Job} Job */

const FILES = { model: "GLB", usdz: "USDZ", meshopt: "Packed GLB", poster: "Poster", state: "State" };
const NO_PARAMETERS = new Set(["preset", "lane", "metadata", "custom_id", "webhook"]);

/**
 * @param {Job} job
 * @param {AbortSignal} signal
 */
export function result(job, signal) {
  return el(
    "div",
    { class: "columns" },
    viewer(job, signal).node,
    el("div", { class: "stack" }, downloads(job), about(job), exporting(job, signal)),
  );
}

/** @param {Job} job */
function downloads(job) {
  const there = Object.entries(FILES).filter(([name]) => job.artifacts[name]);
  return el(
    "section",
    { class: "panel" },
    el("h2", {}, "Download"),
    el("div", { class: "row" }, there.map(([name, text]) => saveButton(job.id, name, `${text}, ${bytes(job.artifacts[name]?.bytes ?? 0)}`))),
    el("details", {}, el("summary", {}, "Put it on your page"), ...embedding(job)),
  );
}

/** @param {Job} job */
function embedding(job) {
  const stem = (job.custom_id ?? job.id).replace(/[^A-Za-z0-9_-]+/g, "-");
  const usdz = job.artifacts["usdz"] ? `\n  ios-src="${stem}.usdz"` : "";
  const text = `<script type="module" src="model-viewer.min.js"></script>
<model-viewer src="${stem}.glb"${usdz}
  poster="${stem}.webp" alt="${stem}"
  ar camera-controls touch-action="pan-y"></model-viewer>`;
  return [
    el("p", {}, "Save the files beside your page, with model-viewer from npm (@google/model-viewer):"),
    el("pre", { tabindex: "0" }, el("code", {}, text)),
    copyButton(text),
  ];
}

/** @param {Job} job */
function about(job) {
  const model = job.artifacts["model"];
  const lowered = (model?.lowered ?? []).map((one) => `${inWords(one.name)} ${one.wanted} → ${one.made}`).join(", ");
  return el(
    "section",
    { class: "panel" },
    el("h2", {}, "What it is"),
    facts(
      ["Triangles", whole(model?.triangles)],
      ["Textures", model?.texture_px && `${model.texture_px} pixels`],
      ["Size", model?.dimensions_m && `${model.dimensions_m.map((side) => side.toFixed(3)).join(" × ")} m`],
      ["Preset", job.preset && inWords(job.preset)],
      ["Made smaller to fit", lowered],
      ["Seed", job.seed],
      ["Engine", job.engine],
      ["Took", duration(Object.values(job.timings).reduce((all, one) => all + one, 0))],
      ["Cost", job.cost_usd ? usd(job.cost_usd) : null],
    ),
    checks(job.checks ?? []),
  );
}

/** @param {NonNullable<Job["checks"]>} checks */
function checks(checks) {
  if (!checks.length) return null;
  const passed = checks.filter((one) => one.passed).length;
  const lines = checks.map((one) => `${one.passed ? "✓" : "✗"} ${inWords(one.name)}: ${one.measured} (${one.limit})`);
  return el("details", {}, el("summary", {}, `${passed} of ${checks.length} checks passed`), el("ul", {}, lines.map((line) => el("li", {}, line))));
}

/**
 * @param {Job} job
 * @param {AbortSignal} signal
 */
function exporting(job, signal) {
  const problems = el("div");
  const options = el("div", { class: "stack" });
  const again = button("Same picture, another seed", () => showingProblems(problems, async () => {
    const made = await makeAgain(job, signal);
    location.hash = `#/jobs/${made.id}`;
  }));
  const wishes = exportWishes(job, options);
  const make = () => showingProblems(problems, async () => {
    const json = { lane: "interactive", ...(await wishes)() };
    const made = await submit(`/v1/jobs/${job.id}/exports`, { json, signal });
    location.hash = `#/jobs/${made.id}`;
  });
  return form(
    "Make it again",
    "Export",
    make,
    el("p", { class: "quiet" }, "Another export takes seconds: the shape and its texture are kept."),
    problems,
    options,
    again,
  );
}

/**
 * @param {Job} job
 * @param {Element} place
 */
async function exportWishes(job, place) {
  const { fields, presets } = await contract();
  const given = parameters(fields("ExportRequest").filter((one) => !NO_PARAMETERS.has(one.name)), presets);
  const preset = presetSelect(presets, job.preset ?? "", given.follow);
  fill(place, preset.node, el("details", {}, el("summary", {}, "All options"), given.nodes));
  return () => ({ ...preset.wish(), ...given.values() });
}
