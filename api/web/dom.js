/** Makes elements in one call, so that no view ever writes HTML as text. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element. An attribute `on...` becomes a listener; false, null and undefined leave one out, true leaves it empty.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  fill(made, ...children);
  return made;
}

/**
 * Puts children in the place of those that are there.
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function fill(parent, ...children) {
  const kept = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  parent.replaceChildren(...kept.map((child) => (child instanceof Node ? child : String(child))));
}

/**
 * A button. While what it does is under way it is disabled.
 * @param {string} text
 * @param {(event: Event) => unknown} act
 * @param {Record<string, any>} [attributes]
 */
export function button(text, act, attributes = {}) {
  const made = el("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", async (event) => {
    made.disabled = true;
    try {
      await act(event);
    } finally {
      made.disabled = false;
    }
  });
  return made;
}

/**
 * A control with its label, and what it means.
 * @param {string} label
 * @param {HTMLElement} control
 * @param {Child} [meaning]
 */
export function labelled(label, control, meaning) {
  control.id = freshId();
  const hint = meaning ? el("p", { class: "hint", id: freshId() }, meaning) : null;
  if (hint) control.setAttribute("aria-describedby", hint.id);
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control, hint);
}

/**
 * A choice with its label.
 * @param {string} label
 * @param {string[][]} options value and text
 */
export function choice(label, options) {
  const select = el("select", {}, options.map(([value, text]) => el("option", { value }, text)));
  return { select, node: labelled(label, select) };
}

/**
 * A form whose button is disabled while what it does is under way.
 * @param {string} name
 * @param {string} action the button's text
 * @param {() => Promise<unknown>} act
 * @param {...(Child | Child[])} children
 */
export function form(name, action, act, ...children) {
  const go = el("button", { type: "submit", class: "main" }, action);
  const made = el("form", { class: "panel stack", "aria-label": name }, el("h2", {}, name), ...children, go);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    go.textContent = "Sending…";
    await act().finally(() => {
      go.disabled = false;
      go.textContent = action;
    });
  });
  return made;
}

/**
 * Says something to screen readers.
 * @param {string} text
 */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  if (announcer && announcer.textContent !== text) announcer.textContent = text;
}

/** A button that copies a text. @param {string} text */
export function copyButton(text) {
  return button("Copy", async () => {
    await navigator.clipboard.writeText(text);
    announce("Copied");
  });
}

/**
 * A description list of what there is to say: pairs whose second part is empty are left out.
 * @param {...[string, Child]} pairs
 */
export function facts(...pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return el("dl", {}, told.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

let ids = 0;

/** An id that no other element has. */
function freshId() {
  ids += 1;
  return `e${ids}`;
}
