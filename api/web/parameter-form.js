/** A form of parameters: one control for each field of the contract, in groups; unchanged controls are not sent. */

import { el, formField } from "./dom.js";
import { humanize } from "./format.js";

/** @typedef {import("./openapi.js").Field} Field */
/** @typedef {{ name: string, node: HTMLElement, value: () => unknown, expect: (standard: unknown) => void }} Control */

const GROUPS = /** @type {const} */ ([
  ["ss_", "Sparse structure: the rough shape"],
  ["shape_slat_", "Shape: its detail"],
  ["tex_slat_", "Texture: its material"],
]);

/**
 * Create the controls and read their values.
 * @param {Field[]} fields
 * @param {Record<string, Record<string, unknown>>} presets
 * @param {Set<string>} [mesh] names of the group “Mesh and files”
 */
export function parameters(fields, presets, mesh = new Set()) {
  const controls = fields.map((field) => controlOf(field, GROUPS.find(([prefix]) => field.name.startsWith(prefix))?.[0]));
  /** @type {Map<string, Control[]>} */
  const groups = new Map();
  for (const control of controls) {
    const title = GROUPS.find(([prefix]) => control.name.startsWith(prefix))?.[1]
      ?? (mesh.has(control.name) ? "Mesh and files" : "General");
    groups.set(title, [...(groups.get(title) ?? []), control]);
  }
  return {
    nodes: [...groups].sort(([a], [b]) => Number(b === "General") - Number(a === "General")).map(([title, members]) =>
      el("fieldset", {}, el("legend", {}, title), el("div", { class: "fields" }, members.map((item) => item.node)))),
    values: () => Object.fromEntries(controls.map((item) => [item.name, item.value()]).filter(([, value]) => value !== undefined)),
    /** @param {string} preset whose values become the defaults */
    follow: (preset) => controls.forEach((item) => item.expect(presets[preset]?.[item.name])),
  };
}

/**
 * @param {Field} field
 * @param {string} [prefix] of its name, which the group's title replaces
 * @returns {Control}
 */
export function controlOf(field, prefix = "") {
  const label = humanize(field.name.slice(prefix.length));
  if (field.kind === "object") return objectControl(field, label);
  if (field.kind === "choices") return choicesControl(field, label);
  return field.kind === "choice" || field.kind === "boolean" ? selectControl(field, label) : inputControl(field, label);
}

/** Describe a field: meaning and range. @param {Field} field */
function hint({ meaning, min, max }) {
  const range = min === undefined && max === undefined ? "" : ` ${min?.toLocaleString("en") ?? ""} to ${max?.toLocaleString("en") ?? ""}.`;
  return meaning.replaceAll("`", "") + range;
}

/**
 * @param {Field} field
 * @param {string} label
 * @param {HTMLElement[]} members
 */
function group(field, label, members) {
  return el("div", { class: "field wide", role: "group", "aria-label": label }, el("strong", {}, label), el("p", { class: "hint" }, hint(field)), el("div", { class: "fields" }, members));
}

/** @param {unknown} value */
function shown(value) {
  return value === null || value === undefined ? "none" : typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

/**
 * @param {Field} field
 * @param {string} label
 * @returns {Control}
 */
function inputControl(field, label) {
  const isNumber = field.kind !== "string";
  const input = el("input", {
    name: field.name,
    title: field.name,
    type: isNumber ? "number" : "text",
    min: field.min,
    max: field.max,
    maxlength: field.maxLength,
    step: field.kind === "number" ? "any" : isNumber ? 1 : null,
    autocomplete: "off",
  });
  const expect = (/** @type {unknown} */ standard) => {
    input.placeholder = shown(standard ?? field.standard);
  };
  expect(undefined);
  const value = () => (input.value === "" ? undefined : isNumber ? Number(input.value) : input.value);
  return { name: field.name, node: formField(label, input, hint(field)), value, expect };
}

/**
 * @param {Field} field
 * @param {string} label
 * @returns {Control}
 */
function selectControl(field, label) {
  const choices = field.kind === "boolean" ? [true, false] : field.choices;
  const unchanged = el("option", { value: "" });
  const select = el("select", { name: field.name, title: field.name }, unchanged, choices.map((choice, index) => el("option", { value: index }, shown(choice))));
  const expect = (/** @type {unknown} */ standard) => {
    unchanged.textContent = `${shown(standard ?? field.standard)} (default)`;
  };
  expect(undefined);
  const value = () => (select.value === "" ? undefined : choices[Number(select.value)]);
  return { name: field.name, node: formField(label, select, hint(field)), value, expect };
}

/**
 * @param {Field} field
 * @param {string} label
 * @returns {Control}
 */
function choicesControl(field, label) {
  const boxes = field.choices.map((choice) => el("input", { type: "checkbox", name: field.name, value: choice }));
  const node = group(field, label, boxes.map((box) => el("label", { class: "check" }, box, box.value)));
  const value = () => {
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    return chosen.length ? chosen : undefined;
  };
  return { name: field.name, node, value, expect: () => {} };
}

/**
 * @param {Field} field
 * @param {string} label
 * @returns {Control}
 */
function objectControl(field, label) {
  const parts = field.parts.map((part) => controlOf(part));
  const node = group(field, label, parts.map((part) => part.node));
  const value = () => {
    const values = parts.map((part) => [part.name, part.value()]).filter(([, item]) => item !== undefined);
    return values.length ? Object.fromEntries(values) : undefined;
  };
  return { name: field.name, node, value, expect: () => {} };
}
