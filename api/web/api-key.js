/** The API key: kept for this tab alone, gone when it is closed. */

const NAME = "trellis2-api-key";

/** @returns {string} the key, empty where none was given */
export function apiKey() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** @param {string} key empty to forget it */
export function keepKey(key) {
  if (key) sessionStorage.setItem(NAME, key);
  else sessionStorage.removeItem(NAME);
}
