/** A place to give a picture: dropped, pasted, chosen, or taken with the phone's camera. */

import { announce, button, el, fill } from "./dom.js";
import { bytes } from "./format.js";

const TYPES = "image/png,image/jpeg,image/webp";

/**
 * @param {AbortSignal} signal of the view that it stands in
 * @param {(file: File) => void} given called with each picture
 */
export function pictureInput(signal, given) {
  const file = chooser({}, take);
  const camera = chooser({ capture: "environment" }, take);
  const seen = el("div");
  const choose = button("Choose a picture", () => file.click(), { class: "main" });
  const photograph = button("Take a photo", () => camera.click(), { hidden: !matchMedia("(pointer: coarse)").matches });
  const zone = el(
    "section",
    { class: "drop", "aria-label": "Your picture" },
    seen,
    el("div", { class: "row" }, choose, photograph),
    el("p", { class: "quiet small" }, "Drop it here, paste it, or choose a file. PNG, JPEG or WebP, at most 20 MB."),
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
  // Beside the place nothing happens; without this the browser would leave the page and show the picture.
  for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault(), { signal });
  addEventListener("paste", (event) => take(event.clipboardData?.files[0]), { signal });

  /** @param {File | undefined} chosen */
  function take(chosen) {
    if (!chosen) return;
    const url = URL.createObjectURL(chosen);
    signal.addEventListener("abort", () => URL.revokeObjectURL(url));
    fill(
      seen,
      el("img", { src: url, alt: "The picture that you gave" }),
      el("p", { class: "quiet small" }, `${chosen.name || "Pasted picture"}, ${bytes(chosen.size)}`),
    );
    choose.textContent = "Choose another";
    choose.classList.remove("main");
    announce(`Picture ${chosen.name} is here`);
    given(chosen);
  }
  return zone;
}

/**
 * @param {Record<string, string>} attributes
 * @param {(file: File | undefined) => void} take
 */
function chooser(attributes, take) {
  const input = el("input", { type: "file", accept: TYPES, hidden: true, "aria-label": "Picture", ...attributes });
  input.addEventListener("change", () => take(input.files?.[0]));
  return input;
}
