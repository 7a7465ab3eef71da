/** Formats numbers, times and statuses for people. */

import { el } from "./dom.js";

const UNITS = ["B", "kB", "MB", "GB"];

/** @param {number} count */
export function bytes(count) {
  let unit = 0;
  let size = count;
  for (; size >= 1000 && unit < UNITS.length - 1; unit += 1) size /= 1000;
  return `${size.toFixed(unit && size < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

/** @param {number | null | undefined} value */
export function whole(value) {
  return value === null || value === undefined ? null : value.toLocaleString("en");
}

/** @param {number | null | undefined} dollars */
export function usd(dollars) {
  return dollars === null || dollars === undefined ? null : `$${dollars.toFixed(dollars > 0 && dollars < 1 ? 4 : 2)}`;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return null;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {string} at an ISO time */
export function moment(at) {
  return el("time", { datetime: at }, new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));
}

/** @param {string} name such as `awaiting_confirmation` */
export function humanize(name) {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return the options of a status filter. @param {readonly string[]} statuses */
export function statusOptions(statuses) {
  return [["", "All"], ...statuses.map((item) => [item, humanize(item)])];
}

/** @type {Record<string, string>} */
const TONES = {
  succeeded: "good", completed: "good", delivered: "good",
  failed: "bad", expired: "bad", abandoned: "bad", stopped: "bad",
  running: "busy", planning: "busy", queued: "busy", pending: "busy", ending: "busy",
  awaiting_confirmation: "warn", paused: "warn",
};

/** @param {string} status */
export function badge(status) {
  return el("span", { class: `badge ${TONES[status] ?? "quiet"}` }, humanize(status));
}
