/** The select of a preset, with the values that it sets. */

import { el, formField } from "./dom.js";
import { bytes, humanize, whole } from "./format.js";

/**
 * @param {Record<string, Record<string, any>>} presets
 * @param {string} chosen
 * @param {(preset: string) => void} [changed]
 */
export function presetSelect(presets, chosen, changed = () => {}) {
  const hint = el("span");
  const select = el(
    "select",
    { name: "preset" },
    el("option", { value: "" }, "None: the defaults"),
    Object.keys(presets).map((name) => el("option", { value: name, selected: name === chosen }, humanize(name))),
  );
  const update = () => {
    hint.textContent = describe(presets[select.value]);
    changed(select.value);
  };
  select.addEventListener("change", update);
  update();
  return {
    node: formField("Preset", select, hint),
    values: () => (select.value ? { preset: select.value } : {}),
  };
}

/** @param {Record<string, any> | undefined} sets */
function describe(sets) {
  if (!sets) return "A million triangles, textures of 4096 pixels.";
  const parts = [
    sets.decimation_target && `${whole(sets.decimation_target)} triangles`,
    sets.texture_size && `textures of ${sets.texture_size} pixels`,
    sets.texture_format && `as ${sets.texture_format.toUpperCase()}`,
    sets.max_bytes && `at most ${bytes(sets.max_bytes)}`,
    sets.formats && sets.formats.map((/** @type {string} */ item) => item.toUpperCase()).join(" and "),
  ];
  return `${parts.filter(Boolean).join(", ")}.`;
}
