/** The way from an address to a view: what stands behind the # says which. */

import { announce, el, fill } from "./dom.js";
import { showingProblems } from "./errors.js";

/**
 * @typedef {object} View
 * @property {string} title
 * @property {Show} show
 */
/** @typedef {(main: HTMLElement, path: string[], signal: AbortSignal) => Promise<void>} Show signal: the view was left */

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
let leave = new AbortController();

/** @param {Event} [moved] absent for the view that one comes to */
async function go(moved) {
  if (location.hash && !location.hash.startsWith("#/")) return; // a jump within the page
  leave.abort(new DOMException("left the view", "AbortError"));
  leave = new AbortController();
  const { signal } = leave;
  const [name = "", ...path] = location.hash.slice(2).split("/").map(decodeURIComponent);
  mark(name);
  const problems = el("div");
  try {
    const view = await (VIEWS[name] ?? missing)();
    if (signal.aborted) return;
    document.title = `${view.title} · Pictures to 3D`;
    const shown = showingProblems(problems, () => view.show(main, path, signal));
    if (moved) arrive(view.title);
    await shown;
    if (problems.hasChildNodes()) main.append(problems);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Tells where one is; the focus goes to the heading, as on a page of its own. @param {string} title */
function arrive(title) {
  scrollTo(0, 0);
  main.querySelector("h1")?.focus();
  announce(title);
}

/** @param {string} name */
function mark(name) {
  const place = { jobs: "history", batch: "batches" }[name] ?? name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${place}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** @returns {Promise<View>} */
async function missing() {
  return {
    title: "Not found",
    show: async (place) => fill(place, el("h1", { tabindex: "-1" }, "There is nothing here"), el("a", { href: "#/" }, "Make a model")),
  };
}

addEventListener("hashchange", go);
go();
