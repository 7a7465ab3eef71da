/** Talks to the service: the key on every request, every refusal as one kind of error, waits where it is told to. */

import { apiKey } from "./api-key.js";

/** @typedef {import("./wire").components["schemas"]} Schemas */
/** @typedef {{ pointer: string, detail: string }} FieldProblem */
/** @typedef {{ json?: unknown, form?: FormData, headers?: Record<string, string>, signal?: AbortSignal }} Options */

const TRIES = 3;
const AGAIN = new Set([0, 429, 502, 503, 504]);
const LONGEST_WAIT_S = 10;

/** What the service has refused, or that it could not be reached (status 0). */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} detail
   * @param {FieldProblem[]} fields
   * @param {number} retryAfterS
   */
  constructor(status, code, detail, fields = [], retryAfterS = 1) {
    super(detail);
    this.status = status;
    this.code = code;
    this.fields = fields;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * Sends one request; answers with a response that is a success.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<Response>}
 */
export async function ask(method, path, { json, form, headers = {}, signal } = {}) {
  const key = apiKey();
  /** @type {Record<string, string>} */
  const sent = { ...headers, ...(key && { Authorization: `Bearer ${key}` }) };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  const body = json === undefined ? form : JSON.stringify(json);
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: body ?? null, signal: signal ?? null });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "unreachable", "the service cannot be reached");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/**
 * As `ask`, but sent again where the service was busy or away. Only for what may be sent twice.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 */
export async function insist(method, path, options = {}) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask(method, path, options);
    } catch (error) {
      const isWorthIt = error instanceof Refused && AGAIN.has(error.status) && error.retryAfterS <= LONGEST_WAIT_S;
      if (!isWorthIt || tries === TRIES) throw error;
      await pause(error.retryAfterS * 1000, options.signal);
    }
  }
}

/**
 * Reads JSON.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function read(path, signal) {
  return (await insist("GET", path, signal ? { signal } : {})).json();
}

/**
 * Submits under an idempotency key, so that sending it again makes nothing twice.
 * @param {string} path
 * @param {Options} options
 * @returns {Promise<any>}
 */
export async function submit(path, options) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const once = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return (await insist("POST", path, { ...options, headers: { "Idempotency-Key": once } })).json();
}

/**
 * Files, and wishes of any kind, as a form.
 * @param {Record<string, File | undefined>} files
 * @param {Record<string, unknown>} wishes
 */
export function formOf(files, wishes) {
  const form = new FormData();
  for (const [name, file] of Object.entries(files)) if (file) form.append(name, file, file.name || name);
  for (const [name, value] of Object.entries(wishes)) form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  return form;
}

/**
 * Makes a job's picture into another asset, by the same wishes but with another seed.
 * @param {Schemas["JobBody"]} job
 * @param {AbortSignal} signal
 */
export function makeAgain({ id, engine, custom_id, parameters }, signal) {
  const { seed: _, ...kept } = parameters;
  return submit("/v1/jobs", { json: { ...kept, image: { job_id: id }, engine, custom_id, lane: "interactive" }, signal });
}

/**
 * Waits.
 * @param {number} ms
 * @param {AbortSignal} [signal] ends the wait with its reason
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** @param {Response} response */
async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  return new Refused(
    response.status,
    problem.code ?? "unknown",
    problem.detail ?? `the service answered ${response.status}`,
    problem.errors ?? [],
    Number(response.headers.get("Retry-After") ?? 1),
  );
}
