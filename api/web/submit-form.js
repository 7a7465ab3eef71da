/** The view that turns a picture into a job. */

import { contract } from "./openapi.js";
import { el, fill, form } from "./dom.js";
import { parameters } from "./parameter-form.js";
import { pictureInput } from "./image-input.js";
import { presetSelect } from "./preset-select.js";
import { showingProblems } from "./errors.js";
import { formOf, Refused, submit } from "./api-client.js";

export const title = "Make";
const LABELS = new Set(["preset", "lane", "metadata", "webhook"]);

/** Pictures that were given in this tab, by the job that they became: shown beside its progress. @type {Map<string, File>} */
export const pictures = new Map();

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  /** @type {File | undefined} */
  let picture;
  const problems = el("div");
  const options = el("div", { class: "stack" }, el("p", { class: "quiet" }, "Reading what can be chosen…"));
  /** @type {() => Record<string, unknown>} */
  let wishes = () => ({});

  const make = () => showingProblems(problems, async () => {
    const sent = picture;
    if (!sent) throw new Refused(0, "no_image", "give a picture first");
    const job = await submit("/v1/jobs", { form: formOf({ image: sent }, wishes()), signal });
    pictures.set(job.id, sent);
    location.hash = `#/jobs/${job.id}`;
  });
  const zone = pictureInput(signal, (file) => {
    picture = file;
    problems.replaceChildren();
  });
  fill(
    main,
    el("h1", { tabindex: "-1" }, "Turn a picture into a 3D model"),
    el("p", { class: "lead" }, "Drop a picture of one object; a textured model comes back, ready for the web, games and AR."),
    problems,
    el("div", { class: "columns" }, zone, form("What you want", "Make it 3D", make, options)),
  );
  wishes = (await showingProblems(problems, () => choices(options))) ?? wishes;
}

/** @param {HTMLElement} place */
async function choices(place) {
  const { fields, presets } = await contract();
  const mesh = new Set(fields("ExportRequest").map((one) => one.name).filter((name) => name !== "custom_id"));
  const wanted = fields("JobFields").filter((one) => !LABELS.has(one.name));
  const given = parameters(wanted, presets, mesh);
  const preset = presetSelect(presets, "web", given.follow);
  fill(
    place,
    preset.node,
    el("details", {}, el("summary", {}, "All parameters"), given.nodes),
  );
  return () => ({ lane: "interactive", ...preset.wish(), ...given.values() });
}
