/** Problems as people can use them: what went wrong, and what to do. */

import { announce, el } from "./dom.js";
import { Refused } from "./api-client.js";

const PICTURE = "Give a PNG, JPEG or WebP of one object: at most 20 MB, 40 megapixels and 16,384 pixels a side.";
const LATER = "Nothing is lost. Wait a moment, then try again.";

/** @type {Record<string, string>} */
const ADVICE = {
  no_image: "Drop it, paste it, or choose a file.",
  unreachable: "Check your connection, then try again. What was submitted goes on without this page.",
  unauthenticated: "Enter a valid API key under “Key”; the operator makes one with “trellis2 keys create”.",
  scope_missing: "Ask the operator for a key with this scope, and enter it under “Key”.",
  not_an_image: PICTURE,
  format_unsupported: `Save it in another format. ${PICTURE}`,
  image_too_large: `Make it smaller. ${PICTURE}`,
  body_too_large: `Make it smaller. ${PICTURE}`,
  animation_unsupported: "Save one frame of it as a PNG, and give that.",
  image_truncated: "The file is incomplete: copy or export it again.",
  image_broken: "Open it in a picture editor and save it again.",
  no_object_found: "Give a picture of one object that stands out from a plain background, or set the background to “keep”.",
  asset_too_large: "Choose a smaller preset, or a larger max_bytes.",
  too_many_jobs: "Wait until some of your jobs have ended, or cancel some under “History”.",
  budget_spent: "The budget of this key is spent: it begins anew tomorrow, or the operator can raise it.",
  too_many_requests: LATER,
  store_unavailable: LATER,
  internal_error: LATER,
  job_not_found: "It was deleted, or belongs to another key. “History” lists what there is.",
  batch_not_found: "It was deleted, or belongs to another key. “Batches” lists what there is.",
  state_missing: "The state is no longer kept: make the asset again from its picture.",
};

/**
 * What to do about a problem, empty where nobody knows.
 * @param {string} code
 * @param {boolean} [isRetryable]
 */
export function advice(code, isRetryable = false) {
  return ADVICE[code] ?? (isRetryable ? "Try again: it may work the next time." : "");
}

/**
 * A notice of a problem.
 * @param {string} code
 * @param {string} detail
 * @param {{ pointer: string, detail: string }[]} [fields]
 * @param {boolean} [isRetryable]
 */
export function problemNotice(code, detail, fields = [], isRetryable = false) {
  const todo = advice(code, isRetryable);
  return el(
    "div",
    { class: "notice bad", role: "alert", "data-code": code },
    el("strong", {}, detail.charAt(0).toUpperCase() + detail.slice(1)),
    fields.length > 0 && el("ul", {}, fields.map((one) => el("li", {}, el("code", {}, one.pointer.slice(1)), ` ${one.detail}`))),
    todo && el("p", {}, todo),
    code === "unauthenticated" && el("p", {}, el("a", { href: "#/key" }, "Enter a key")),
  );
}

/**
 * Runs something; a refusal is shown in `place` instead of being thrown. What was shown there before goes.
 * @template T
 * @param {Element} place
 * @param {() => Promise<T>} act
 * @returns {Promise<T | undefined>}
 */
export async function showingProblems(place, act) {
  place.replaceChildren();
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const notice = problemNotice(error.code, error.message, error.fields);
    place.replaceChildren(notice);
    notice.scrollIntoView({ block: "nearest" });
    announce(error.message);
    return undefined;
  }
}
