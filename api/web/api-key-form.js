/** The view in which the user enters the API key. */

import { button, el, fill, formField, heading } from "./dom.js";
import { apiKey, saveKey } from "./api-key.js";
import { showErrors } from "./errors.js";
import { read } from "./api-client.js";
import { whole } from "./format.js";

export const title = "Key";

/** @param {HTMLElement} main */
export async function show(main) {
  const result = el("div");
  const input = el("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", placeholder: "t2_…" });
  input.value = apiKey();
  const form = el(
    "form",
    { class: "panel stack" },
    formField("API key", input, "Stays in this tab and is gone when you close it. It is sent to this service only."),
    el(
      "div",
      { class: "row" },
      el("button", { type: "submit", class: "main" }, "Use this key"),
      button("Forget it", () => {
        saveKey("");
        input.value = "";
        fill(result, el("p", { class: "notice", role: "status" }, "The key is forgotten."));
      }),
    ),
    result,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    saveKey(input.value.trim());
    return check(result);
  });
  fill(
    main,
    heading("Your key"),
    el("p", { class: "lead" }, "On the service's machine you need no key until the first one is created with ", el("code", {}, "trellis2 keys create NAME"), "."),
    form,
  );
}

/** Test the key with a request. @param {Element} target */
async function check(target) {
  const usage = await showErrors(target, () => read("/v1/usage?days=30"));
  if (!usage) return;
  const jobs = usage.data.reduce((/** @type {number} */ all, /** @type {any} */ day) => all + day.jobs, 0);
  fill(target, el("p", { class: "notice good", role: "status" }, `The key works: ${whole(jobs)} paid jobs in 30 days.`));
}
