/** The router: shows the view that the URL's fragment names. */

import { announce, el, fill, heading } from "./dom.js";
import { showErrors } from "./errors.js";

/**
 * @typedef {object} View
 * @property {string} title
 * @property {Show} show
 */
/** @typedef {(main: HTMLElement, path: string[], signal: AbortSignal) => Promise<void>} Show signal: aborted when the user leaves the view */

/** @type {Record<string, () => Promise<View>>} */
const VIEWS = {
  "": () => import("./submit-form.js"),
  jobs: () => import("./job-detail.js"),
  history: () => import("./job-list.js"),
  batches: () => import("./batch-list.js"),
  batch: () => import("./batch-detail.js"),
  webhooks: () => import("./endpoint-list.js"),
  key: () => import("./api-key-form.js"),
};

const main = /** @type {HTMLElement} */ (document.getElementById("view"));
let current = new AbortController();

/** @param {Event} [moved] absent for the first view */
async function go(moved) {
  if (location.hash && !location.hash.startsWith("#/")) return; // a jump within the page
  current.abort(new DOMException("left the view", "AbortError"));
  current = new AbortController();
  const { signal } = current;
  const [name = "", ...path] = location.hash.slice(2).split("/").map(decodeURIComponent);
  markLink(name);
  const alerts = el("div");
  try {
    const view = await (VIEWS[name] ?? notFound)();
    if (signal.aborted) return;
    document.title = `${view.title} · Photos to 3D`;
    const done = showErrors(alerts, () => view.show(main, path, signal));
    if (moved) arrive(view.title);
    await done;
    if (alerts.hasChildNodes()) main.append(alerts);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Announce the view and focus its heading, as a page load would. @param {string} title */
function arrive(title) {
  scrollTo(0, 0);
  main.querySelector("h1")?.focus();
  announce(title);
}

/** @param {string} name */
function markLink(name) {
  const route = { jobs: "history", batch: "batches" }[name] ?? name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${route}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** @returns {Promise<View>} */
async function notFound() {
  return {
    title: "Not found",
    show: async (target) => fill(target, heading("Page not found"), el("a", { href: "#/" }, "Make a model")),
  };
}

addEventListener("hashchange", go);
go();
