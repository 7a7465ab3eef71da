/** Creates elements in one call, so that no view writes HTML as text. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Create an element. An attribute `on...` adds a listener; false, null and undefined omit an attribute, true leaves it empty.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  fill(element, ...children);
  return element;
}

/**
 * Replace an element's children.
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function fill(parent, ...children) {
  const kept = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  parent.replaceChildren(...kept.map((child) => (child instanceof Node ? child : String(child))));
}

/** Create a row of elements. @param {...(Child | Child[])} children */
export function inline(...children) {
  return el("div", { class: "row" }, ...children);
}

/** Create a line of small print. @param {...Child} children */
export function note(...children) {
  return el("p", { class: "quiet small" }, ...children);
}

/** Create the heading of a view, which can get the focus. @param {string} text */
export function heading(text) {
  return el("h1", { tabindex: "-1" }, text);
}

/**
 * Create a button, which is disabled while its action runs.
 * @param {string} text
 * @param {(event: Event) => unknown} act
 * @param {Record<string, any>} [attributes]
 */
export function button(text, act, attributes = {}) {
  const element = el("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", async (event) => {
    element.disabled = true;
    try {
      await act(event);
    } finally {
      element.disabled = false;
    }
  });
  return element;
}

/**
 * Create a control with label and hint.
 * @param {string} label
 * @param {HTMLElement} control
 * @param {Child} [meaning]
 */
export function formField(label, control, meaning) {
  control.id = newId();
  const hint = meaning ? el("p", { class: "hint", id: newId() }, meaning) : null;
  if (hint) control.setAttribute("aria-describedby", hint.id);
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control, hint);
}

/**
 * Create a select with label.
 * @param {string} label
 * @param {string[][]} options value and text
 */
export function selectField(label, options) {
  const select = el("select", {}, options.map(([value, text]) => el("option", { value }, text)));
  return { select, node: formField(label, select) };
}

/**
 * Create a form, whose button is disabled while its action runs.
 * @param {string} name
 * @param {string} action the button's text
 * @param {() => Promise<unknown>} act
 * @param {...(Child | Child[])} children
 */
export function form(name, action, act, ...children) {
  const submit = el("button", { type: "submit", class: "main" }, action);
  const element = el("form", { class: "panel stack", "aria-label": name }, el("h2", {}, name), ...children, submit);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    submit.textContent = "Sending…";
    await act().finally(() => {
      submit.disabled = false;
      submit.textContent = action;
    });
  });
  return element;
}

/**
 * Announce a text to screen readers.
 * @param {string} text
 */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  if (announcer && announcer.textContent !== text) announcer.textContent = text;
}

/** Create a button that copies a text. @param {string} text */
export function copyButton(text) {
  return button("Copy", async () => {
    await navigator.clipboard.writeText(text);
    announce("Copied");
  });
}

/**
 * Create a description list; pairs with an empty second part are left out.
 * @param {...[string, Child]} pairs
 */
export function facts(...pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return el("dl", {}, shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

let ids = 0;

/** Return an unused element id. */
function newId() {
  ids += 1;
  return `e${ids}`;
}
