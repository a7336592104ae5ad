// A list of any length that only has the rows one can see: a listbox with its own keyboard. It
// scrolls by itself, or with the page around it.

import { h, newId } from "./dom.js";

const OVERSCAN = 4;

export class VirtualList {
  #items = [];
  #rows = new Map();
  #spare = [];
  #active = null;
  #frame = null;
  #openedKey = null;
  #openedIndex = -1;
  #gap = 0;
  #onScroll = () => this.#later();

  /** `build()` gives `{element, update(item)}`; `keyOf(item)` an identity that survives new lists;
   * `onOpen(item)` follows a click or Enter; `onShow(items)` is told what is visible. `scroller` is
   * the element that scrolls (default: the list), `above` what may cover the list's first rows,
   * `detail` what `openDetail` shows below a row. */
  constructor({ label, rowHeight, build, keyOf, onOpen, onShow = () => {}, empty = "", scroller = null, above = null, detail = null }) {
    Object.assign(this, { rowHeight, build, keyOf, onOpen, onShow, above, detail });
    this.selected = null;
    this.space = h("div", { class: "rows", role: "presentation" });
    this.empty = h("p", { class: "empty", hidden: true }, empty);
    this.element = h(
      "div",
      {
        class: scroller ? "list whole" : "list",
        role: "listbox",
        "aria-label": label,
        tabindex: 0,
        onkeydown: (event) => this.#keyPressed(event),
        onfocus: () => this.#focused(),
      },
      this.space,
      this.empty,
    );
    this.frame = h("div", { class: "list-frame" }, this.element, detail);
    this.scroller = scroller ?? this.element;
    this.scroller.addEventListener("scroll", this.#onScroll);
    this.observer = new ResizeObserver(() => {
      this.#measure();
      this.#later();
    });
    for (const one of new Set([this.element, this.scroller, above, detail])) {
      if (one) this.observer.observe(one);
    }
  }

  close() {
    this.scroller.removeEventListener("scroll", this.#onScroll);
    this.observer.disconnect();
  }

  get items() {
    return this.#items;
  }

  setItems(items) {
    this.#items = items;
    this.empty.hidden = items.length > 0;
    this.#place();
    this.draw();
  }

  /** Mark the item with this key as the chosen one. */
  select(key) {
    this.selected = key;
    if (key !== null) this.#active = key;
    this.draw();
  }

  /** Choose the item with this key, and show the detail below its row, which stays in place. */
  openDetail(key) {
    const index = this.#items.findIndex((item) => this.keyOf(item) === key);
    const before = this.#topOf(index);
    this.#openedKey = key;
    this.#place();
    this.scroller.scrollTop += this.#topOf(index) - before;
    this.select(key);
  }

  /** Hide the detail. */
  closeDetail() {
    this.#openedKey = null;
    this.#place();
    this.select(null);
  }

  /** Move on by this many rows if the first row is out of sight: those in sight stay there. */
  keepPlace(rows) {
    if (this.#view().from > 0) this.scroller.scrollTop += rows * this.rowHeight;
  }

  /** Put the detail where it belongs, and make room for it. */
  #place() {
    const key = this.#openedKey;
    this.#openedIndex = key === null ? -1 : this.#items.findIndex((item) => this.keyOf(item) === key);
    if (this.detail) {
      this.detail.hidden = this.#openedIndex < 0;
      this.detail.style.top = `${(this.#openedIndex + 1) * this.rowHeight}px`;
    }
    this.#measure();
  }

  #measure() {
    this.#gap = this.detail?.offsetHeight ?? 0;
    this.space.style.height = `${this.#items.length * this.rowHeight + this.#gap}px`;
  }

  #topOf(index) {
    return index * this.rowHeight + (index > this.#openedIndex ? this.#gap : 0);
  }

  /** The row at this distance from the list's top. */
  #indexAt(distance) {
    const end = (this.#openedIndex + 1) * this.rowHeight;
    const before = Math.min(distance, Math.max(end, distance - this.#gap));
    return Math.floor(before / this.rowHeight);
  }

  /** What one can see, as distances from the list's top; below 0 where the list begins later. */
  #view() {
    if (this.scroller === this.element) {
      const { scrollTop, clientHeight } = this.element;
      return { from: scrollTop, to: scrollTop + clientHeight };
    }
    const { top } = this.space.getBoundingClientRect();
    const port = this.scroller.getBoundingClientRect();
    const covered = this.above?.getBoundingClientRect().bottom ?? 0;
    return { from: Math.max(port.top, covered) - top, to: port.bottom - top };
  }

  /** Bring the visible rows up to date. */
  draw() {
    const { from, to } = this.#view();
    const first = Math.max(0, this.#indexAt(from) - OVERSCAN);
    const last = Math.max(0, Math.min(this.#items.length, this.#indexAt(to) + 1 + OVERSCAN));
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
      row.element.setAttribute("aria-posinset", index + 1);
      this.#rows.set(index, row);
      this.space.append(row.element);
    }
    const item = this.#items[index];
    const key = this.keyOf(item);
    row.index = index;
    const top = this.#topOf(index);
    if (row.top !== top) {
      row.top = top;
      row.element.style.transform = `translateY(${top}px)`;
    }
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
    const { from, to } = this.#view();
    const page = Math.max(1, Math.floor((to - Math.max(0, from)) / this.rowHeight) - 1);
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
    const top = this.#topOf(index);
    const { from, to } = this.#view();
    if (top < from) this.scroller.scrollTop -= Math.ceil(from - top);
    else if (top + this.rowHeight > to) {
      this.scroller.scrollTop += Math.ceil(top + this.rowHeight - to);
    }
    this.draw();
  }
}
