/** One row of a batch as a card. */

import { poster } from "./artifacts.js";
import { button, el, fill, inline, note } from "./dom.js";
import { follow } from "./events.js";
import { showErrors } from "./errors.js";
import { submitVariant, read } from "./api-client.js";
import { badge, humanize, whole } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["RowResponse"]} Row */
/** @typedef {import("./row-grid.js").Choices} Choices */

/**
 * @param {Choices} choices
 * @param {() => void} save called after each change of `choices`
 * @param {Element} alerts
 * @param {AbortSignal} signal
 */
export function rowCard(choices, save, alerts, signal) {
  const node = el("li", { class: "card" });
  let drawn = "";
  /** @type {Row | undefined} */
  let row;

  /** @param {Row} current */
  function update(current) {
    row = current;
    const known = JSON.stringify([current.status, current.job_id, choices[current.custom_id]]);
    if (known === drawn) return;
    drawn = known;
    draw(current);
  }

  /** @param {Row} current */
  function draw(current) {
    const chosen = choices[current.custom_id];
    const job = chosen?.job ?? (current.status === "succeeded" ? current.job_id ?? null : null);
    node.dataset.sku = current.custom_id;
    node.classList.toggle("accepted", Boolean(chosen?.accepted));
    fill(
      node,
      poster(job, `Poster of ${current.custom_id}`, humanize(current.status), signal),
      el("h3", {}, job ? el("a", { href: `#/jobs/${job}` }, current.custom_id) : current.custom_id),
      el("p", {}, badge(current.status), chosen && chosen.job !== current.job_id && " new variant"),
      (current.errors ?? []).map((item) => el("p", { class: "small" }, `Line ${item.line}: ${item.detail}`)),
      current.triangles ? note(`${whole(current.triangles)} triangles`) : null,
      job && inline(acceptButton(current, job), againButton(current, job)),
    );
  }

  /**
   * @param {Row} current
   * @param {string} job
   */
  function acceptButton(current, job) {
    const isOn = Boolean(choices[current.custom_id]?.accepted);
    return el("button", {
      type: "button", "aria-pressed": String(isOn), "aria-label": `Accept ${current.custom_id}`,
      onclick: () => choose(current, job, !isOn),
    }, isOn ? "Accepted" : "Accept");
  }

  /**
   * @param {Row} current
   * @param {string} job
   * @param {boolean} accepted
   */
  function choose(current, job, accepted) {
    const hadFocus = node.contains(document.activeElement);
    choices[current.custom_id] = { job, accepted };
    save();
    update(current);
    if (hadFocus) node.querySelector("button")?.focus();
  }

  /**
   * @param {Row} current
   * @param {string} job
   */
  function againButton(current, job) {
    return button("Again", () => showErrors(alerts, async () => {
      const next = await submitVariant(await read(`/v1/jobs/${job}`, signal), signal);
      const square = node.querySelector(".poster");
      if (square) fill(square, "Generating again…");
      let status = "";
      await follow(next.id, (job) => {
        status = job.status;
      }, signal);
      if (status === "succeeded") choose(current, next.id, false);
      else if (square) fill(square, "Failed; the first model is kept.");
    }), { "aria-label": `Generate ${current.custom_id} again with another seed` });
  }

  function accept() {
    const job = row && (choices[row.custom_id]?.job ?? (row.status === "succeeded" ? row.job_id : null));
    if (row && job) choose(row, job, true);
  }
  return { node, update, accept };
}
