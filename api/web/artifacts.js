/** The way to the bytes of results: signed URLs, pictures and saved files. */

import { button, el, fill } from "./dom.js";
import { ask } from "./api-client.js";

/**
 * A URL that needs no key and lasts a quarter of an hour. The answer's body is not read: only where it came from counts.
 * @param {string} job
 * @param {string} name
 * @param {AbortSignal} [signal]
 */
export async function signedUrl(job, name, signal) {
  const response = await ask("GET", `/v1/jobs/${job}/artifacts/${name}`, signal ? { signal } : {});
  await response.body?.cancel();
  return response.url;
}

/**
 * A button that saves an artifact.
 * @param {string} job
 * @param {string} name
 * @param {string} text
 */
export function saveButton(job, name, text) {
  return button(text, async () => save(await signedUrl(job, name), ""), { "data-artifact": name, class: name === "model" && "main" });
}

/**
 * Saves what is behind a URL.
 * @param {string} url
 * @param {string} filename empty where the server says it
 */
export function save(url, filename) {
  const link = el("a", { href: url, download: filename });
  document.body.append(link);
  link.click();
  link.remove();
}

/**
 * Saves a route's answer, which needs the key.
 * @param {string} path
 * @param {string} filename
 */
export async function saveAnswer(path, filename) {
  saveBlob(await (await ask("GET", path)).blob(), filename);
}

/**
 * @param {Blob} blob
 * @param {string} filename
 */
export function saveBlob(blob, filename) {
  const url = URL.createObjectURL(blob);
  save(url, filename);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * A square with a job's poster, fetched when it comes into sight.
 * @param {string | null} job null where there is none yet
 * @param {string} alt
 * @param {string} instead what stands there without one
 * @param {AbortSignal} signal
 */
export function poster(job, alt, instead, signal) {
  const square = el("div", { class: "poster" }, instead);
  if (!job) return square;
  const watcher = new IntersectionObserver(async (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    // A missing poster is no reason to trouble anybody.
    const blob = await artifactBlob(job, "poster").catch(() => null);
    if (blob) fill(square, pictureOf(blob, alt));
  });
  watcher.observe(square);
  signal.addEventListener("abort", () => watcher.disconnect());
  return square;
}

/**
 * The bytes of an artifact.
 * @param {string} job
 * @param {string} name
 */
export async function artifactBlob(job, name) {
  return (await ask("GET", `/v1/jobs/${job}/artifacts/${name}`)).blob();
}

/**
 * @param {Blob} blob
 * @param {string} alt
 */
function pictureOf(blob, alt) {
  const url = URL.createObjectURL(blob);
  const picture = el("img", { src: url, alt });
  picture.addEventListener("load", () => URL.revokeObjectURL(url));
  return picture;
}
