/** Shows errors: what went wrong, and what the user can do. */

import { announce, el } from "./dom.js";
import { ApiError } from "./api-client.js";

const PHOTO = "Use a PNG, JPEG or WebP of one object: at most 20 MB, 40 megapixels and 16,384 pixels a side.";
const LATER = "Nothing is lost. Wait a moment, then try again.";

/** @type {Record<string, string>} */
const ADVICE = {
  no_image: "Drop it, paste it, or choose a file.",
  unreachable: "Check your connection, then try again. Submitted jobs run without this page.",
  unauthenticated: "Enter a valid API key under “Key”; the operator creates one with “trellis2 keys create”.",
  scope_missing: "Ask the operator for a key with this scope, and enter it under “Key”.",
  not_an_image: PHOTO,
  format_unsupported: `Save it in another format. ${PHOTO}`,
  image_too_large: `Make it smaller. ${PHOTO}`,
  body_too_large: `Make it smaller. ${PHOTO}`,
  animation_unsupported: "Save one frame as a PNG and use that.",
  image_truncated: "The file is incomplete: copy or export it again.",
  image_broken: "Open it in an image editor and save it again.",
  no_object_found: "Use a photo of one object on a plain background, or set the background to “keep”.",
  asset_too_large: "Choose a smaller preset, or a larger max_bytes.",
  too_many_jobs: "Wait until some of your jobs have ended, or cancel some under “History”.",
  budget_spent: "The budget of this key is spent: wait until tomorrow, or ask the operator to raise it.",
  too_many_requests: LATER,
  store_unavailable: LATER,
  internal_error: LATER,
  job_not_found: "It was deleted, or belongs to another key. “History” lists your jobs.",
  batch_not_found: "It was deleted, or belongs to another key. “Batches” lists yours.",
  state_missing: "The state is no longer kept: generate the model again from its photo.",
};

/**
 * Return what the user can do about an error, or an empty text.
 * @param {string} code
 * @param {boolean} [isRetryable]
 */
export function advice(code, isRetryable = false) {
  return ADVICE[code] ?? (isRetryable ? "Try again: it may succeed." : "");
}

/**
 * Create a notice of an error.
 * @param {string} code
 * @param {string} detail
 * @param {{ pointer: string, detail: string }[]} [fields]
 * @param {boolean} [isRetryable]
 */
export function errorNotice(code, detail, fields = [], isRetryable = false) {
  const hint = advice(code, isRetryable);
  return el(
    "div",
    { class: "notice bad", role: "alert", "data-code": code },
    el("strong", {}, detail.charAt(0).toUpperCase() + detail.slice(1)),
    fields.length > 0 && el("ul", {}, fields.map((item) => el("li", {}, el("code", {}, item.pointer.slice(1)), ` ${item.detail}`))),
    hint && el("p", {}, hint),
    code === "unauthenticated" && el("p", {}, el("a", { href: "#/key" }, "Enter a key")),
  );
}

/**
 * Run an action; show an ApiError in `target` instead of throwing it. Earlier content of `target` is removed.
 * @template T
 * @param {Element} target
 * @param {() => Promise<T>} act
 * @returns {Promise<T | undefined>}
 */
export async function showErrors(target, act) {
  target.replaceChildren();
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const notice = errorNotice(error.code, error.message, error.fields);
    target.replaceChildren(notice);
    notice.scrollIntoView({ block: "nearest" });
    announce(error.message);
    return undefined;
  }
}
