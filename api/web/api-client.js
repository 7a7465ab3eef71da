/** HTTP client of the service: sends the API key, retries, and turns every failure into an ApiError. */

import { apiKey } from "./api-key.js";

/** @typedef {import("./schema").components["schemas"]} Schemas */
/** @typedef {{ pointer: string, detail: string }} FieldError */
/** @typedef {{ json?: unknown, form?: FormData, headers?: Record<string, string>, signal?: AbortSignal }} Options */

const TRIES = 3;
const RETRIED = new Set([0, 429, 502, 503, 504]);
const MAX_WAIT_S = 10;

/** An error response, or an unreachable service (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} detail
   * @param {FieldError[]} fields
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
 * Send one request and return its response, which is a success.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<Response>}
 */
export async function request(method, path, { json, form, headers = {}, signal } = {}) {
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
    throw new ApiError(0, "unreachable", "the service cannot be reached");
  }
  if (!response.ok) throw await readError(response);
  return response;
}

/**
 * Send a request, and retry while the service is busy or unreachable. Only for requests that may be sent twice.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 */
export async function requestWithRetry(method, path, options = {}) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await request(method, path, options);
    } catch (error) {
      const isTransient = error instanceof ApiError && RETRIED.has(error.status) && error.retryAfterS <= MAX_WAIT_S;
      if (!isTransient || tries === TRIES) throw error;
      await pause(error.retryAfterS * 1000, options.signal);
    }
  }
}

/**
 * Fetch JSON.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function read(path, signal) {
  return (await requestWithRetry("GET", path, signal ? { signal } : {})).json();
}

/**
 * Send a POST with an idempotency key, so that a retry creates nothing twice.
 * @param {string} path
 * @param {Options} options
 * @returns {Promise<any>}
 */
export async function submit(path, options) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return (await requestWithRetry("POST", path, { ...options, headers: { "Idempotency-Key": key } })).json();
}

/**
 * Make a form of files and values.
 * @param {Record<string, File | undefined>} files
 * @param {Record<string, unknown>} values
 */
export function makeForm(files, values) {
  const form = new FormData();
  for (const [name, file] of Object.entries(files)) if (file) form.append(name, file, file.name || name);
  for (const [name, value] of Object.entries(values)) form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  return form;
}

/**
 * Submit a job's image again with the same parameters and another seed.
 * @param {Schemas["JobBody"]} job
 * @param {AbortSignal} signal
 */
export function submitVariant({ id, engine, custom_id, parameters }, signal) {
  const { seed: _, ...kept } = parameters;
  return submit("/v1/jobs", { json: { ...kept, image: { job_id: id }, engine, custom_id, lane: "interactive" }, signal });
}

/**
 * Sleep.
 * @param {number} ms
 * @param {AbortSignal} [signal] ends the sleep with its reason
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
async function readError(response) {
  const problem = await response.json().catch(() => ({}));
  return new ApiError(
    response.status,
    problem.code ?? "unknown",
    problem.detail ?? `the service responded ${response.status}`,
    problem.errors ?? [],
    Number(response.headers.get("Retry-After") ?? 1),
  );
}
