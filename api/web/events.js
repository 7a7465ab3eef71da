/** Follows a job by Server-Sent Events, read from a fetch: an EventSource could not send the key. */

import { ask, pause, Refused } from "./api-client.js";

/** @typedef {import("./api-client.js").Schemas["JobBody"]} Job */
/** @typedef {Job & { preview?: string }} Told */
/** @typedef {{ id: string, data: string }} Message */

const ENDED = new Set(["succeeded", "failed", "canceled", "expired"]);

/** @param {{ status: string }} job */
export function hasEnded(job) {
  return ENDED.has(job.status);
}

/**
 * Calls `told` for each event until the job has ended. A lost connection is made again, from where it was. An end among
 * the events may be that of an earlier round: it is over when the service has nothing more to tell (204).
 * @param {string} id
 * @param {(job: Told) => void} told
 * @param {AbortSignal} signal
 */
export async function follow(id, told, signal) {
  let last = "";
  let waitMs = 1000;
  for (;;) {
    try {
      const response = await ask("GET", `/v1/jobs/${id}/events`, { headers: last ? { "Last-Event-ID": last } : {}, signal });
      if (response.status === 204 || !response.body) return;
      for await (const message of messages(response.body)) {
        last = message.id || last;
        const job = JSON.parse(message.data);
        waitMs = hasEnded(job) ? 0 : 1000;
        told(job);
      }
    } catch (error) {
      const isOver = signal.aborted || (error instanceof Refused && error.status >= 400 && error.status < 500 && error.status !== 429);
      if (isOver) throw error;
    }
    await pause(waitMs, signal);
    waitMs = Math.min(Math.max(waitMs, 500) * 2, 15_000);
  }
}

/**
 * The messages of a stream; comments and empty ones are left out.
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
      const message = parsed(block);
      if (message.data) yield message;
    }
  }
}

/** @param {string} block */
function parsed(block) {
  const message = { id: "", data: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) message.id = line.slice(4);
    if (line.startsWith("data: ")) message.data += line.slice(6);
  }
  return message;
}
