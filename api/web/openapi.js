/** Reads the parameters from the service's OpenAPI document, with their names, meanings and ranges. */

import { read } from "./api-client.js";

/**
 * @typedef {object} Field one parameter
 * @property {string} name
 * @property {string} meaning
 * @property {"integer" | "number" | "string" | "boolean" | "choice" | "choices" | "object"} kind
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [maxLength]
 * @property {(string | number)[]} choices
 * @property {unknown} standard the default
 * @property {Field[]} parts of an object
 */

/**
 * @typedef {object} Contract
 * @property {(model: string) => Field[]} fields of a schema
 * @property {Record<string, Record<string, unknown>>} presets their values, by name
 * @property {string[]} engines the first is the default
 */

/** @type {Promise<Contract> | undefined} */
let known;

/**
 * Load the contract once.
 * @returns {Promise<Contract>}
 */
export function loadContract() {
  known ??= load().catch((error) => {
    known = undefined;
    throw error;
  });
  return known;
}

async function load() {
  const [document, ready] = await Promise.all([read("/openapi.json"), read("/readyz")]);
  const { schemas } = document.components;
  return {
    fields: (/** @type {string} */ model) => fieldsOf(schemas, schemas[model]).map((item) => applyService(item, ready)),
    presets: schemas.JobFields.properties.preset["x-sets"],
    engines: ready.engines,
  };
}

/**
 * Limit a field's choices to those of this service.
 * @param {Field} field
 * @param {{ engines: string[], formats: string[] }} ready
 * @returns {Field}
 */
function applyService(field, { engines, formats }) {
  if (field.name === "engine") return { ...field, kind: "choice", choices: engines, standard: engines[0] };
  return field.name === "formats" ? { ...field, choices: formats.filter((item) => item !== "glb") } : field;
}

/**
 * @param {Record<string, any>} schemas
 * @param {any} model
 * @returns {Field[]}
 */
function fieldsOf(schemas, model) {
  return Object.entries(model.properties).map(([name, property]) => fieldOf(schemas, name, property));
}

/**
 * @param {Record<string, any>} schemas
 * @param {string} name
 * @param {any} property
 * @returns {Field}
 */
function fieldOf(schemas, name, property) {
  const variant = property.anyOf?.find((/** @type {any} */ item) => item.type !== "null") ?? property;
  const schema = variant.$ref ? schemas[variant.$ref.split("/").pop()] : variant;
  const choices = schema.enum ?? schema.items?.enum ?? [];
  return {
    name,
    meaning: property.description ?? "",
    kind: schema.type === "array" ? "choices" : choices.length ? "choice" : schema.type,
    min: schema.minimum,
    max: schema.maximum,
    maxLength: schema.maxLength,
    choices,
    standard: property.default,
    parts: schema.properties ? fieldsOf(schemas, schema) : [],
  };
}
