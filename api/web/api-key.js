/** Stores the API key for this tab only; closing the tab deletes it. */

const NAME = "trellis2-api-key";

/** @returns {string} empty if there is none */
export function apiKey() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** @param {string} key empty deletes it */
export function saveKey(key) {
  if (key) sessionStorage.setItem(NAME, key);
  else sessionStorage.removeItem(NAME);
}
