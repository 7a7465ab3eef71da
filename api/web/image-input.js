/** The input of a photo: dropped, pasted, chosen, or taken with the phone's camera. */

import { announce, button, el, fill, inline, note } from "./dom.js";
import { bytes } from "./format.js";

const TYPES = "image/png,image/jpeg,image/webp";

/**
 * @param {AbortSignal} signal of the view
 * @param {(file: File) => void} onPhoto
 */
export function photoInput(signal, onPhoto) {
  const file = chooser({}, take);
  const camera = chooser({ capture: "environment" }, take);
  const preview = el("div");
  const choose = button("Choose a photo", () => file.click(), { class: "main" });
  const photograph = button("Take a photo", () => camera.click(), { hidden: !matchMedia("(pointer: coarse)").matches });
  const zone = el(
    "section",
    { class: "drop", "aria-label": "Your photo" },
    preview,
    inline(choose, photograph),
    note("Drop it here, paste it, or choose a file. PNG, JPEG or WebP, at most 20 MB."),
    file,
    camera,
  );
  for (const type of ["dragenter", "dragover"]) {
    zone.addEventListener(type, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(event.dataTransfer?.files[0]);
  });
  // A file dropped elsewhere is ignored; by default the browser would leave the page and open it.
  for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault(), { signal });
  addEventListener("paste", (event) => take(event.clipboardData?.files[0]), { signal });

  /** @param {File | undefined} chosen */
  function take(chosen) {
    if (!chosen) return;
    fill(
      preview,
      photoImage(chosen, signal),
      note(`${chosen.name || "Pasted photo"}, ${bytes(chosen.size)}`),
    );
    choose.textContent = "Choose another";
    choose.classList.remove("main");
    announce(`Photo ${chosen.name} selected`);
    onPhoto(chosen);
  }
  return zone;
}

/**
 * Show a photo for as long as its view is open.
 * @param {File} photo
 * @param {AbortSignal} signal of the view
 */
export function photoImage(photo, signal) {
  const url = URL.createObjectURL(photo);
  signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  return el("img", { src: url, alt: "Your photo" });
}

/**
 * @param {Record<string, string>} attributes
 * @param {(file: File | undefined) => void} take
 */
function chooser(attributes, take) {
  const input = el("input", { type: "file", accept: TYPES, hidden: true, "aria-label": "Photo", ...attributes });
  input.addEventListener("change", () => take(input.files?.[0]));
  return input;
}
