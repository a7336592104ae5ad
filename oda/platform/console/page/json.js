// A JSON document as text one can read; a long one is cut until somebody asks for the rest.

import { h } from "./dom.js";
import { stringify } from "./exact_json.js";
import { bytes } from "./format.js";

const SHOWN = 16_000;

export function textBlock(text, label) {
  const block = h("pre", { class: "code data", tabindex: 0, role: "region", "aria-label": label });
  block.textContent = text.length > SHOWN ? text.slice(0, SHOWN) : text;
  if (text.length <= SHOWN) return block;
  const more = h("button", { type: "button", class: "quiet" }, `Show all (${bytes(text.length)})`);
  more.addEventListener("click", () => {
    block.textContent = text;
    more.remove();
  });
  return h("div", {}, block, more);
}

export function jsonBlock(value, label) {
  return textBlock(stringify(value, 2) ?? "", label);
}
