/** The results of a succeeded job: viewer, downloads, details, and another export. */

import { saveButton } from "./artifacts.js";
import { loadContract } from "./openapi.js";
import { button, copyButton, el, facts, fill, form, inline } from "./dom.js";
import { parameters } from "./parameter-form.js";
import { presetSelect } from "./preset-select.js";
import { showErrors } from "./errors.js";
import { submitVariant, submit } from "./api-client.js";
import { viewer } from "./viewer.js";
import { bytes, duration, humanize, usd, whole } from "./format.js";

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
    el("div", { class: "stack" }, downloads(job), details(job), exportForm(job, signal)),
  );
}

/** @param {Job} job */
function downloads(job) {
  const files = Object.entries(FILES).filter(([name]) => job.artifacts[name]);
  return el(
    "section",
    { class: "panel" },
    el("h2", {}, "Download"),
    inline(files.map(([name, text]) => saveButton(job.id, name, `${text}, ${bytes(job.artifacts[name]?.bytes ?? 0)}`))),
    el("details", {}, el("summary", {}, "Embed it in your page"), ...embedding(job)),
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
    el("p", {}, "Save the files in your page's folder, with model-viewer from npm (@google/model-viewer):"),
    el("pre", { tabindex: "0" }, el("code", {}, text)),
    copyButton(text),
  ];
}

/** @param {Job} job */
function details(job) {
  const model = job.artifacts["model"];
  const lowered = (model?.lowered ?? []).map((item) => `${humanize(item.name)} ${item.requested} → ${item.actual}`).join(", ");
  return el(
    "section",
    { class: "panel" },
    el("h2", {}, "Details"),
    facts(
      ["Triangles", whole(model?.triangles)],
      ["Textures", model?.texture_px && `${model.texture_px} pixels`],
      ["Size", model?.dimensions_m && `${model.dimensions_m.map((side) => side.toFixed(3)).join(" × ")} m`],
      ["Preset", job.preset && humanize(job.preset)],
      ["Lowered to fit", lowered],
      ["Seed", job.seed],
      ["Engine", job.engine],
      ["Took", duration(Object.values(job.timings).reduce((all, item) => all + item, 0))],
      ["Cost", job.cost_usd ? usd(job.cost_usd) : null],
    ),
    checks(job.checks ?? []),
  );
}

/** @param {NonNullable<Job["checks"]>} checks */
function checks(checks) {
  if (!checks.length) return null;
  const passed = checks.filter((item) => item.passed).length;
  const lines = checks.map((item) => `${item.passed ? "✓" : "✗"} ${humanize(item.name)}: ${item.measured} (${item.limit})`);
  return el("details", {}, el("summary", {}, `${passed} of ${checks.length} checks passed`), el("ul", {}, lines.map((line) => el("li", {}, line))));
}

/**
 * @param {Job} job
 * @param {AbortSignal} signal
 */
function exportForm(job, signal) {
  const alerts = el("div");
  const options = el("div", { class: "stack" });
  const again = button("Same photo, another seed", () => showErrors(alerts, async () => {
    const next = await submitVariant(job, signal);
    location.hash = `#/jobs/${next.id}`;
  }));
  const values = exportValues(job, options);
  const act = () => showErrors(alerts, async () => {
    const json = { lane: "interactive", ...(await values)() };
    const next = await submit(`/v1/jobs/${job.id}/exports`, { json, signal });
    location.hash = `#/jobs/${next.id}`;
  });
  return form(
    "Export again",
    "Export",
    act,
    el("p", { class: "quiet" }, "An export takes seconds: shape and texture are kept."),
    alerts,
    options,
    again,
  );
}

/**
 * @param {Job} job
 * @param {Element} target
 */
async function exportValues(job, target) {
  const { fields, presets } = await loadContract();
  const inputs = parameters(fields("ExportRequest").filter((item) => !NO_PARAMETERS.has(item.name)), presets);
  const preset = presetSelect(presets, job.preset ?? "", inputs.follow);
  fill(target, preset.node, el("details", {}, el("summary", {}, "All options"), inputs.nodes));
  return () => ({ ...preset.values(), ...inputs.values() });
}
