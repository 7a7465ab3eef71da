/** The asset in three dimensions. <model-viewer> is fetched when the first asset is to be seen, and not before. */

import { poster, signedUrl } from "./artifacts.js";
import { button, choice, el, fill, labelled } from "./dom.js";

/** @typedef {import("./events.js").Job} Job */

const LIGHTS = [["neutral", "Even"], ["legacy", "From one side"]];

/**
 * A viewer of a succeeded job's model.
 * @param {Job} job
 * @param {AbortSignal} signal
 */
export function viewer(job, signal) {
  const first = poster(job.id, `Poster of ${job.custom_id ?? "the model"}`, "Loading…", signal);
  const stage = el("div", { class: "viewer" }, first);
  const tools = el("div", { class: "tools" });
  const textures = el("div", { class: "textures", hidden: true });
  const ready = load(job, first, tools, textures, signal);
  ready.catch(() => {
    if (!signal.aborted) fill(tools, el("p", { class: "notice bad", role: "alert" }, "The viewer could not be loaded. Reload the page; the downloads work without it."));
  });
  return { node: el("section", { "aria-label": "The model" }, stage, tools, textures), ready };
}

/**
 * @param {Job} job
 * @param {Element} first what is seen until the model is there
 * @param {Element} tools
 * @param {HTMLElement} textures
 * @param {AbortSignal} signal
 */
async function load(job, first, tools, textures, signal) {
  const [src, usdz] = await Promise.all([
    signedUrl(job.id, "model", signal),
    job.artifacts["usdz"] ? signedUrl(job.id, "usdz", signal) : null,
    import("./vendor/model-viewer/model-viewer.min.js"),
  ]);
  const ar = el("button", { slot: "ar-button", class: "ar" }, "See it in your room");
  const shown = /** @type {any} */ (
    el(/** @type {any} */ ("model-viewer"), {
      src, alt: `The 3D model ${job.custom_id ?? ""}`, "ios-src": usdz, ar: true, "ar-modes": "webxr scene-viewer quick-look",
      "camera-controls": true, "touch-action": "pan-y", "auto-rotate": !matchMedia("(prefers-reduced-motion: reduce)").matches,
      "environment-image": "neutral", exposure: 1, "shadow-intensity": 0.8, "interaction-prompt": "none",
    }, ar)
  );
  first.replaceWith(shown);
  first.slot = "poster";
  shown.append(first);
  await new Promise((resolve, reject) => {
    shown.addEventListener("load", resolve, { once: true });
    shown.addEventListener("error", reject, { once: true });
    signal.addEventListener("abort", reject, { once: true });
  });
  fill(tools, lighting(shown), exposure(shown), turning(shown), wireframe(shown), textureView(shown, textures), closeView(shown));
}

/** @param {any} shown */
function lighting(shown) {
  const { node, select } = choice("Light", LIGHTS);
  select.addEventListener("change", () => shown.setAttribute("environment-image", select.value));
  return node;
}

/** @param {any} shown */
function exposure(shown) {
  const input = el("input", { type: "range", min: 0.3, max: 2, step: 0.1, value: 1 });
  input.addEventListener("input", () => shown.setAttribute("exposure", input.value));
  return labelled("Brightness", input);
}

/**
 * A button that stays pressed.
 * @param {string} text
 * @param {boolean} isOn
 * @param {(isOn: boolean) => unknown} change
 */
function toggle(text, isOn, change) {
  const made = button(text, async () => {
    const next = made.getAttribute("aria-pressed") !== "true";
    await change(next);
    made.setAttribute("aria-pressed", String(next));
  }, { "aria-pressed": String(isOn) });
  return made;
}

/** @param {any} shown */
function turning(shown) {
  return toggle("Turn", shown.autoRotate, (isOn) => {
    shown.autoRotate = isOn;
  });
}

/** @param {any} shown */
function wireframe(shown) {
  return toggle("Wireframe", false, (isOn) => {
    const scene = sceneOf(shown);
    scene.traverse((/** @type {any} */ part) => {
      if (part.isMesh && part.material.isMeshStandardMaterial) part.material.wireframe = isOn;
    });
    scene.queueRender();
  });
}

/** The scene of three.js behind an element: model-viewer has no word for wireframes. @param {any} shown */
function sceneOf(shown) {
  const symbol = Object.getOwnPropertySymbols(shown).find((one) => one.description === "scene");
  return symbol && shown[symbol];
}

/**
 * @param {any} shown
 * @param {HTMLElement} place
 */
function textureView(shown, place) {
  return toggle("Textures", false, (isOn) => {
    place.hidden = !isOn;
    if (isOn && !place.hasChildNodes()) fill(place, texturesOf(shown));
  });
}

/** The textures as they lie in the file. @param {any} shown */
function texturesOf(shown) {
  /** @type {any} */
  let material = {};
  sceneOf(shown).traverse((/** @type {any} */ part) => {
    if (part.material?.isMeshStandardMaterial) material = part.material;
  });
  const maps = { "Base colour": material.map, "Roughness (green) and metal (blue)": material.metalnessMap, Normals: material.normalMap };
  return Object.entries(maps).filter(([, map]) => map).map(([name, map]) => {
    const canvas = el("canvas", { class: "checkered", width: 512, height: 512, role: "img", "aria-label": `Texture: ${name}` });
    canvas.getContext("2d")?.drawImage(map.image, 0, 0, 512, 512);
    return el("figure", {}, canvas, el("figcaption", {}, name));
  });
}

/** @param {any} shown */
function closeView(shown) {
  return button("Reset", () => {
    shown.cameraOrbit = "0deg 75deg auto";
    shown.cameraTarget = "auto auto auto";
    shown.fieldOfView = "auto";
    shown.resetTurntableRotation();
  });
}
