/** The view of webhook endpoints and of their deliveries. */

import { loadContract } from "./openapi.js";
import { deliveryLog } from "./delivery-list.js";
import { button, copyButton, el, facts, fill, form, formField, heading } from "./dom.js";
import { showErrors } from "./errors.js";
import { request, read } from "./api-client.js";
import { badge, humanize, moment } from "./format.js";

/** @typedef {import("./api-client.js").Schemas["EndpointResponse"]} Endpoint */
/** @typedef {(method: string, path: string, json?: unknown) => Promise<unknown>} Act */

export const title = "Webhooks";

/** @type {import("./main.js").Show} */
export async function show(main, _path, signal) {
  const alerts = el("div");
  const secret = el("div");
  const list = el("ul", { class: "list" });
  const events = el("div", { class: "fields", role: "group", "aria-label": "Events" });
  const url = el("input", { type: "url", required: true, placeholder: "https://hooks.example.com/3d", autocomplete: "off" });
  const log = deliveryLog(signal);

  const load = () => showErrors(alerts, async () => {
    const page = await read("/v1/webhook-endpoints", signal);
    fill(list, page.data.map((/** @type {Endpoint} */ item) => entry(item, act)), page.data.length === 0 && el("li", { class: "quiet" }, "None yet."));
  });
  /** Change endpoints, show a new secret, and refresh the lists. @type {Act} */
  const act = (method, path, json) => showErrors(alerts, async () => {
    const response = await request(method, `/v1/webhook-endpoints${path}`, json === undefined ? {} : { json });
    const body = response.status === 204 ? {} : await response.json();
    if (body.secret) fill(secret, secretNotice(body.secret));
    await Promise.all([load(), log.load()]);
  });
  const add = () => {
    const chosen = [...events.querySelectorAll("input")].filter((box) => box.checked).map((box) => box.value);
    return act("POST", "", { url: url.value, ...(chosen.length && { events: chosen }) });
  };
  const newEndpoint = form(
    "New endpoint",
    "Add",
    add,
    formField("URL", url),
    el("details", {}, el("summary", {}, "Only some events"), events),
  );
  fill(
    main,
    heading("Webhooks"),
    el("p", { class: "lead" }, "An endpoint receives a signed event when a job or batch ends, again until it confirms receipt."),
    alerts,
    secret,
    el("div", { class: "columns" }, el("section", { "aria-label": "Endpoints" }, el("h2", {}, "Your endpoints"), list), newEndpoint),
    log.node,
  );
  await Promise.all([load(), log.load(), showErrors(alerts, async () => {
    const { fields } = await loadContract();
    const known = fields("EndpointRequest").find((item) => item.name === "events")?.choices ?? [];
    fill(events, known.map((name) => el("label", { class: "check" }, el("input", { type: "checkbox", value: name }), String(name))));
  })]);
}

/** @param {string} secret */
function secretNotice(secret) {
  return el(
    "div",
    { class: "notice good", role: "status" },
    el("strong", {}, "The endpoint's secret, shown only once. Your receiver verifies signatures with it:"),
    el("p", {}, el("code", {}, secret)),
    copyButton(secret),
  );
}

/**
 * @param {Endpoint} endpoint
 * @param {Act} act
 */
function entry(endpoint, act) {
  const { id, url } = endpoint;
  const isOff = Boolean(endpoint.disabled_at);
  return el(
    "li",
    { class: "card", "data-endpoint": id },
    el("h3", {}, url),
    el("p", {}, badge(isOff ? "disabled" : endpoint.failing_since ? "failing" : "active")),
    facts(
      ["Events", endpoint.events.length],
      ["Failing since", endpoint.failing_since && moment(endpoint.failing_since)],
      ["Disabled", endpoint.disabled_because && humanize(endpoint.disabled_because)],
      ["Old secret signs until", endpoint.old_secret_until && moment(endpoint.old_secret_until)],
    ),
    el(
      "div",
      { class: "row" },
      button("Test", () => act("POST", `/${id}/test`), { "aria-label": `Send a test to ${url}` }),
      button("New secret", () => act("POST", `/${id}/rotate-secret`), { "aria-label": `Create a new secret for ${url}` }),
      button(isOff ? "Enable" : "Disable", () => act("PATCH", `/${id}`, { disabled: !isOff }), { "aria-label": `${isOff ? "Enable" : "Disable"} ${url}` }),
      button("Delete", async () => {
        if (confirm(`Delete the endpoint ${url}?`)) await act("DELETE", `/${id}`);
      }, { "aria-label": `Delete ${url}` }),
    ),
  );
}
