// A list of any length that only has the rows one can see: a listbox with its own keyboard.

import { h, newId } from "./dom.js";

const OVERSCAN = 4;

export class VirtualList {
  #items = [];
  #rows = new Map();
  #spare = [];
  #active = null;
  #frame = null;

  /** `build()` gives `{element, update(item)}`; `keyOf(item)` an identity that survives new lists;
   * `onOpen(item)` follows a click or Enter; `onShow(items)` is told what is visible. */
  constructor({ label, rowHeight, build, keyOf, onOpen, onShow = () => {}, empty = "" }) {
    Object.assign(this, { rowHeight, build, keyOf, onOpen, onShow });
    this.selected = null;
    this.space = h("div", { class: "rows", role: "presentation" });
    this.empty = h("p", { class: "empty", hidden: true }, empty);
    this.element = h(
      "div",
      {
        class: "list",
        role: "listbox",
        "aria-label": label,
        tabindex: 0,
        onscroll: () => this.#later(),
        onkeydown: (event) => this.#keyPressed(event),
        onfocus: () => this.#focused(),
      },
      this.space,
      this.empty,
    );
    new ResizeObserver(() => this.#later()).observe(this.element);
  }

  get items() {
    return this.#items;
  }

  setItems(items) {
    this.#items = items;
    this.space.style.height = `${items.length * this.rowHeight}px`;
    this.empty.hidden = items.length > 0;
    this.draw();
  }

  /** Mark the item with this key as the chosen one. */
  select(key) {
    this.selected = key;
    if (key !== null) this.#active = key;
    this.draw();
  }

  /** Bring the visible rows up to date. */
  draw() {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - OVERSCAN);
    const last = Math.min(
      this.#items.length,
      Math.ceil((scrollTop + clientHeight) / this.rowHeight) + OVERSCAN,
    );
    for (const [index, row] of this.#rows) {
      if (index < first || index >= last) {
        row.element.remove();
        this.#rows.delete(index);
        this.#spare.push(row);
      }
    }
    for (let index = first; index < last; index += 1) this.#drawRow(index);
    this.onShow(this.#items.slice(first, last));
  }

  #drawRow(index) {
    let row = this.#rows.get(index);
    if (!row) {
      row = this.#spare.pop() ?? this.#make();
      row.element.style.transform = `translateY(${index * this.rowHeight}px)`;
      row.element.setAttribute("aria-posinset", index + 1);
      this.#rows.set(index, row);
      this.space.append(row.element);
    }
    const item = this.#items[index];
    const key = this.keyOf(item);
    row.index = index;
    row.element.setAttribute("aria-setsize", this.#items.length);
    row.element.setAttribute("aria-selected", key === this.selected);
    row.element.classList.toggle("active", key === this.#active);
    if (key === this.#active) this.element.setAttribute("aria-activedescendant", row.element.id);
    row.update(item);
  }

  #make() {
    const row = this.build();
    row.element.id = newId("row");
    row.element.setAttribute("role", "option");
    row.element.classList.add("row");
    row.element.style.height = `${this.rowHeight}px`;
    row.element.addEventListener("click", () => {
      const item = this.#items[row.index];
      this.#active = this.keyOf(item);
      this.onOpen(item);
      this.draw();
    });
    return row;
  }

  #later() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.draw();
    });
  }

  #focused() {
    if (this.#activeIndex() < 0 && this.#items.length) {
      this.#active = this.keyOf(this.#items[0]);
      this.draw();
    }
  }

  #activeIndex() {
    return this.#items.findIndex((item) => this.keyOf(item) === this.#active);
  }

  #keyPressed(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const current = this.#activeIndex();
    let index = current;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in steps) index = current + steps[event.key];
    else if (event.key === "Home") index = 0;
    else if (event.key === "End") index = this.#items.length - 1;
    else if ((event.key === "Enter" || event.key === " ") && current >= 0) {
      event.preventDefault();
      this.onOpen(this.#items[current]);
      return;
    } else return;
    event.preventDefault();
    this.#moveTo(Math.min(Math.max(index, 0), this.#items.length - 1));
  }

  #moveTo(index) {
    if (index < 0) return;
    this.#active = this.keyOf(this.#items[index]);
    const top = index * this.rowHeight;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.rowHeight > scrollTop + clientHeight) {
      this.element.scrollTop = top + this.rowHeight - clientHeight;
    }
    this.draw();
  }
}
