/** Results: signed URLs, posters and downloads. */

import { button, el, fill } from "./dom.js";
import { request } from "./api-client.js";

/**
 * Return a URL that needs no key and is valid for 15 minutes. The response's body is not read: only its URL is used.
 * @param {string} job
 * @param {string} name
 * @param {AbortSignal} [signal]
 */
export async function signedUrl(job, name, signal) {
  const response = await request("GET", `/v1/jobs/${job}/artifacts/${name}`, signal ? { signal } : {});
  await response.body?.cancel();
  return response.url;
}

/**
 * Make a button that saves an artifact.
 * @param {string} job
 * @param {string} name
 * @param {string} text
 */
export function saveButton(job, name, text) {
  return button(text, async () => save(await signedUrl(job, name), ""), { "data-artifact": name, class: name === "model" && "main" });
}

/**
 * Save the content of a URL as a file.
 * @param {string} url
 * @param {string} filename empty: the server's
 */
export function save(url, filename) {
  const link = el("a", { href: url, download: filename });
  document.body.append(link);
  link.click();
  link.remove();
}

/**
 * Save the response of a route that needs the key.
 * @param {string} path
 * @param {string} filename
 */
export async function saveResponse(path, filename) {
  saveBlob(await (await request("GET", path)).blob(), filename);
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
 * Make a square with a job's poster, which is fetched when the square is scrolled into view.
 * @param {string | null} job null if there is none yet
 * @param {string} alt
 * @param {string} text shown without a poster
 * @param {AbortSignal} signal
 */
export function poster(job, alt, text, signal) {
  const square = el("div", { class: "poster" }, text);
  if (!job) return square;
  const watcher = new IntersectionObserver(async (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    // A missing poster is not worth an error message.
    const blob = await artifactBlob(job, "poster").catch(() => null);
    if (blob) fill(square, imageOf(blob, alt));
  });
  watcher.observe(square);
  signal.addEventListener("abort", () => watcher.disconnect());
  return square;
}

/**
 * Fetch an artifact.
 * @param {string} job
 * @param {string} name
 */
export async function artifactBlob(job, name) {
  return (await request("GET", `/v1/jobs/${job}/artifacts/${name}`)).blob();
}

/**
 * @param {Blob} blob
 * @param {string} alt
 */
function imageOf(blob, alt) {
  const url = URL.createObjectURL(blob);
  const image = el("img", { src: url, alt });
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  return image;
}
