// Makes elements. Whatever comes from a device becomes a text node or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "selected"]);

/** An element: attributes, `on...` listeners, then children (text or nodes; null is left out). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set a text only when it changes, so that idle rows cost nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a name that may break at its dots: `device.cpu.usage` is no word. */
export function setName(element, text) {
  if (element.textContent === text) return;
  const parts = text.split(/(?<=\.)/);
  element.replaceChildren(...parts.flatMap((part, index) => (index ? [h("wbr"), part] : [part])));
}

let ids = 0;

/** An id for an element of this page. */
export function newId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}

/** A labelled field; `attributes` go to the `kind` element. */
export function field(label, control, hint = null) {
  if (!control.id) control.id = newId("field");
  return h(
    "div",
    { class: "field" },
    h("label", { for: control.id }, label),
    control,
    hint === null ? null : h("span", { class: "hint" }, hint),
  );
}

/** A <select> of [value, text] pairs. */
export function choice(options, attributes = {}) {
  const entries = options.map(([value, text]) => h("option", { value }, text));
  return h("select", attributes, ...entries);
}
