/** What callers may ask for, read from the service's OpenAPI document: no name, meaning or range is written here. */

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
 * @property {unknown} standard its default
 * @property {Field[]} parts of an object
 */

/**
 * @typedef {object} Contract
 * @property {(model: string) => Field[]} fields of one of the document's models
 * @property {Record<string, Record<string, unknown>>} presets what each sets, by name
 * @property {string[]} engines the first is the default
 */

/** @type {Promise<Contract> | undefined} */
let known;

/**
 * Reads the contract, once.
 * @returns {Promise<Contract>}
 */
export function contract() {
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
    fields: (/** @type {string} */ model) => fieldsOf(schemas, schemas[model]).map((one) => here(one, ready)),
    presets: schemas.JobFields.properties.preset["x-sets"],
    engines: ready.engines,
  };
}

/**
 * A field with what this very service offers.
 * @param {Field} field
 * @param {{ engines: string[], formats: string[] }} ready
 * @returns {Field}
 */
function here(field, { engines, formats }) {
  if (field.name === "engine") return { ...field, kind: "choice", choices: engines, standard: engines[0] };
  return field.name === "formats" ? { ...field, choices: formats.filter((one) => one !== "glb") } : field;
}

/**
 * @param {Record<string, any>} schemas
 * @param {any} model
 * @returns {Field[]}
 */
function fieldsOf(schemas, model) {
  return Object.entries(model.properties).map(([name, given]) => fieldOf(schemas, name, given));
}

/**
 * @param {Record<string, any>} schemas
 * @param {string} name
 * @param {any} given
 * @returns {Field}
 */
function fieldOf(schemas, name, given) {
  const some = given.anyOf?.find((/** @type {any} */ one) => one.type !== "null") ?? given;
  const schema = some.$ref ? schemas[some.$ref.split("/").pop()] : some;
  const choices = schema.enum ?? schema.items?.enum ?? [];
  return {
    name,
    meaning: given.description ?? "",
    kind: schema.type === "array" ? "choices" : choices.length ? "choice" : schema.type,
    min: schema.minimum,
    max: schema.maximum,
    maxLength: schema.maxLength,
    choices,
    standard: given.default,
    parts: schema.properties ? fieldsOf(schemas, schema) : [],
  };
}
