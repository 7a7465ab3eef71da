/** The view that takes the API key. */

import { button, el, fill, labelled } from "./dom.js";
import { apiKey, keepKey } from "./api-key.js";
import { showingProblems } from "./errors.js";
import { read } from "./api-client.js";
import { whole } from "./format.js";

export const title = "Key";

/** @param {HTMLElement} main */
export async function show(main) {
  const told = el("div");
  const input = el("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", placeholder: "t2_…" });
  input.value = apiKey();
  const form = el(
    "form",
    { class: "panel stack" },
    labelled("API key", input, "Stays in this tab and is gone when you close it. It is sent to this service alone."),
    el(
      "div",
      { class: "row" },
      el("button", { type: "submit", class: "main" }, "Use this key"),
      button("Forget it", () => {
        keepKey("");
        input.value = "";
        fill(told, el("p", { class: "notice", role: "status" }, "The key is forgotten."));
      }),
    ),
    told,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(input.value.trim());
    return check(told);
  });
  fill(
    main,
    el("h1", { tabindex: "-1" }, "Your key"),
    el("p", { class: "lead" }, "On the service's own machine no key is needed until the first one is made, with ", el("code", {}, "trellis2 keys create NAME"), "."),
    form,
  );
}

/** @param {Element} place */
async function check(place) {
  const usage = await showingProblems(place, () => read("/v1/usage?days=30"));
  if (!usage) return;
  const jobs = usage.data.reduce((/** @type {number} */ all, /** @type {any} */ day) => all + day.jobs, 0);
  fill(place, el("p", { class: "notice good", role: "status" }, `The key works: ${whole(jobs)} paid jobs in 30 days.`));
}
