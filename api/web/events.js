/** Follows a job by server-sent events, read with fetch: an EventSource cannot send the API key. */

import { request, pause, ApiError } from "./api-client.js";

/** @typedef {import("./api-client.js").Schemas["JobBody"]} Job */
/** @typedef {Job & { preview?: string }} JobEvent */
/** @typedef {{ id: string, data: string }} Message */

const ENDED = new Set(["succeeded", "failed", "canceled", "expired"]);

/** @param {{ status: string }} job */
export function hasEnded(job) {
  return ENDED.has(job.status);
}

/**
 * Call `onEvent` for each event until the job has ended. Reconnects after the last event. A terminal event may belong to
 * a run before a retry, so the end is the service's 204: no further events.
 * @param {string} id
 * @param {(job: JobEvent) => void} onEvent
 * @param {AbortSignal} signal
 */
export async function follow(id, onEvent, signal) {
  let last = "";
  let waitMs = 1000;
  for (;;) {
    try {
      const response = await request("GET", `/v1/jobs/${id}/events`, { headers: last ? { "Last-Event-ID": last } : {}, signal });
      if (response.status === 204 || !response.body) return;
      for await (const message of messages(response.body)) {
        last = message.id || last;
        const job = JSON.parse(message.data);
        waitMs = hasEnded(job) ? 0 : 1000;
        onEvent(job);
      }
    } catch (error) {
      const isOver = signal.aborted || (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429);
      if (isOver) throw error;
    }
    await pause(waitMs, signal);
    waitMs = Math.min(Math.max(waitMs, 500) * 2, 15_000);
  }
}

/**
 * Parse the messages of a stream; comments and empty messages are skipped.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<Message>}
 */
export async function* messages(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const message = parseMessage(block);
      if (message.data) yield message;
    }
  }
}

/** @param {string} block */
function parseMessage(block) {
  const message = { id: "", data: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) message.id = line.slice(4);
    if (line.startsWith("data: ")) message.data += line.slice(6);
  }
  return message;
}
