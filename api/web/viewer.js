/** The 3D viewer. <model-viewer> is loaded when the first model is shown. */

import { poster, signedUrl } from "./artifacts.js";
import { button, selectField, el, fill, formField } from "./dom.js";

/** @typedef {import("./events.js").Job} Job */

const LIGHTS = [["neutral", "Even"], ["legacy", "From one side"]];

/**
 * Create a viewer of a succeeded job's model.
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
 * @param {Element} first shown until the model is loaded
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
  fill(tools, lightSelect(shown), brightnessInput(shown), turnToggle(shown), wireframeToggle(shown), textureToggle(shown, textures), resetButton(shown));
}

/** @param {any} shown */
function lightSelect(shown) {
  const { node, select } = selectField("Light", LIGHTS);
  select.addEventListener("change", () => shown.setAttribute("environment-image", select.value));
  return node;
}

/** @param {any} shown */
function brightnessInput(shown) {
  const input = el("input", { type: "range", min: 0.3, max: 2, step: 0.1, value: 1 });
  input.addEventListener("input", () => shown.setAttribute("exposure", input.value));
  return formField("Brightness", input);
}

/**
 * Create a toggle button.
 * @param {string} text
 * @param {boolean} isOn
 * @param {(isOn: boolean) => unknown} change
 */
function toggle(text, isOn, change) {
  const element = button(text, async () => {
    const next = element.getAttribute("aria-pressed") !== "true";
    await change(next);
    element.setAttribute("aria-pressed", String(next));
  }, { "aria-pressed": String(isOn) });
  return element;
}

/** @param {any} shown */
function turnToggle(shown) {
  return toggle("Turn", shown.autoRotate, (isOn) => {
    shown.autoRotate = isOn;
  });
}

/** @param {any} shown */
function wireframeToggle(shown) {
  return toggle("Wireframe", false, (isOn) => {
    const scene = sceneOf(shown);
    scene.traverse((/** @type {any} */ part) => {
      if (part.isMesh && part.material.isMeshStandardMaterial) part.material.wireframe = isOn;
    });
    scene.queueRender();
  });
}

/** Return the three.js scene of an element: model-viewer has no API for wireframes. @param {any} shown */
function sceneOf(shown) {
  const symbol = Object.getOwnPropertySymbols(shown).find((item) => item.description === "scene");
  return symbol && shown[symbol];
}

/**
 * @param {any} shown
 * @param {HTMLElement} target
 */
function textureToggle(shown, target) {
  return toggle("Textures", false, (isOn) => {
    target.hidden = !isOn;
    if (isOn && !target.hasChildNodes()) fill(target, drawTextures(shown));
  });
}

/** Draw the textures of the file. @param {any} shown */
function drawTextures(shown) {
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
function resetButton(shown) {
  return button("Reset", () => {
    shown.cameraOrbit = "0deg 75deg auto";
    shown.cameraTarget = "auto auto auto";
    shown.fieldOfView = "auto";
    shown.resetTurntableRotation();
  });
}
