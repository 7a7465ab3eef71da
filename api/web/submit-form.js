/** The view that submits a photo as a job. */

import { loadContract } from "./openapi.js";
import { el, fill, form, heading } from "./dom.js";
import { parameters } from "./parameter-form.js";
import { photoInput } from "./image-input.js";
import { presetSelect } from "./preset-select.js";
import { showErrors } from "./errors.js";
import { makeForm, ApiError, submit } from "./api-client.js";

export const title = "Make";
const LABELS = new Set(["preset", "lane", "metadata", "webhook"]);

/** Photos submitted in this tab, by job id: shown next to the progress. @type {Map<string, File>} */
export const photos = new Map();

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  /** @type {File | undefined} */
  let photo;
  const alerts = el("div");
  const options = el("div", { class: "stack" }, el("p", { class: "quiet" }, "Loading the options…"));
  /** @type {() => Record<string, unknown>} */
  let readOptions = () => ({});

  const act = () => showErrors(alerts, async () => {
    const sent = photo;
    if (!sent) throw new ApiError(0, "no_image", "choose a photo first");
    const job = await submit("/v1/jobs", { form: makeForm({ image: sent }, readOptions()), signal });
    photos.set(job.id, sent);
    location.hash = `#/jobs/${job.id}`;
  });
  const zone = photoInput(signal, (file) => {
    photo = file;
    alerts.replaceChildren();
  });
  fill(
    main,
    heading("Turn a photo into a 3D model"),
    el("p", { class: "lead" }, "Drop a photo of one object and get a textured model for the web, games and AR."),
    alerts,
    el("div", { class: "columns" }, zone, form("Options", "Make it 3D", act, options)),
  );
  readOptions = (await showErrors(alerts, () => showOptions(options))) ?? readOptions;
}

/** Show the options and return a function that reads their values. @param {HTMLElement} target */
async function showOptions(target) {
  const { fields, presets } = await loadContract();
  const mesh = new Set(fields("ExportRequest").map((item) => item.name).filter((name) => name !== "custom_id"));
  const shown = fields("JobFields").filter((item) => !LABELS.has(item.name));
  const inputs = parameters(shown, presets, mesh);
  const preset = presetSelect(presets, "web", inputs.follow);
  fill(
    target,
    preset.node,
    el("details", {}, el("summary", {}, "All parameters"), inputs.nodes),
  );
  return () => ({ lane: "interactive", ...preset.values(), ...inputs.values() });
}
