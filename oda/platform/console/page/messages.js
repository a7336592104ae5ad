// The raw messages of a device, newest first, and one of them in full.

import { api } from "./api.js";
import { h, setText } from "./dom.js";
import { bytes, clock, count, counted, exact, formatName } from "./format.js";
import { base64Bytes, hexDump } from "./hex.js";
import { jsonBlock, textBlock } from "./json.js";
import { attempt } from "./notice.js";
import { repeat } from "./repeat.js";
import { VirtualList } from "./virtual.js";

const PAGE = 200;
const KEPT = 5000;
const LARGE = 256_000;

const HEADS = [
  ["time", "Time"],
  ["direction", "Sent by"],
  ["format", "Format"],
  ["size", "Size"],
  ["preview", "Content"],
];

export class MessagesTab {
  #items = [];
  #isWhole = false;
  #isLoading = false;
  #isClosed = false;

  constructor(model, device) {
    this.host = model.hostOf(device);
    this.detail = h("section", { class: "panel message", "aria-label": "The chosen message" });
    const heads = HEADS.map(([name, text]) => h("span", { class: `message-${name}` }, text));
    this.heads = h("div", { class: "message-head", "aria-hidden": "true" }, ...heads);
    this.list = new VirtualList({
      label: "Messages, newest first",
      rowHeight: 32,
      build: buildRow,
      keyOf: (item) => item.number,
      onOpen: (item) => this.#turn(item),
      onShow: (items) => this.#shown(items),
      empty: "No message yet.",
      scroller: document.getElementById("main"),
      above: this.heads,
      detail: h("div", { class: "below-row", hidden: true }, this.detail),
    });
    this.heading = h("h3", { class: "list-title" });
    this.element = h(
      "div",
      { class: "messages" },
      this.host === device ? null : h("p", { class: "hint" }, `Those of ${this.host}, which speaks for this device.`),
      this.heading,
      this.heads,
      this.list.frame,
    );
    this.offs = [repeat(() => this.#loadNewer(), 1000), model.on("gap", () => this.#restart())];
    this.#restart();
  }

  close() {
    this.#isClosed = true;
    this.list.close();
    for (const off of this.offs) off();
  }

  async #restart() {
    this.#items = [];
    this.#isWhole = false;
    await this.#loadOlder();
  }

  async #loadNewer() {
    if (this.#isLoading) return;
    const after = this.#items[0]?.number ?? 0;
    const newer = await api.messages(this.host, { after, limit: PAGE });
    if (newer.length === 0 || this.#isClosed) return;
    if ((this.#items[0]?.number ?? 0) !== after) return; // another answer came first
    const hasGap = newer.length === PAGE && newer[PAGE - 1].number > after + 1 && after > 0;
    this.#items = hasGap ? newer : newer.concat(this.#items).slice(0, KEPT);
    if (hasGap) this.#isWhole = false;
    this.#show(hasGap ? 0 : newer.length);
  }

  async #loadOlder() {
    if (this.#isLoading || this.#isWhole || this.#isClosed || this.#items.length >= KEPT) return;
    this.#isLoading = true;
    try {
      const before = this.#items[this.#items.length - 1]?.number;
      const older = await api.messages(this.host, { before, limit: PAGE });
      if (this.#items[this.#items.length - 1]?.number !== before) return; // another answer came first
      this.#isWhole = older.length < PAGE;
      this.#items = this.#items.concat(older);
      this.#show(0);
    } catch {
      this.#isWhole = false; // the platform is away; scrolling asks again
    } finally {
      this.#isLoading = false;
    }
  }

  #shown(items) {
    if (items.length && items[items.length - 1] === this.#items[this.#items.length - 1]) this.#loadOlder();
  }

  /** Rows that are looked at stay in place while new ones come in above. */
  #show(added) {
    if (this.#isClosed) return;
    const messages = counted(this.#items.length, "message");
    setText(this.heading, this.#isWhole ? messages : `The newest ${messages}`);
    this.list.setItems(this.#items);
    this.list.keepPlace(added);
  }

  /** A second click closes what the first has opened. */
  #turn(item) {
    if (this.list.selected === item.number) this.list.closeDetail();
    else this.#open(item);
  }

  #open(item, evenLarge = false) {
    this.detail.replaceChildren(...head(item));
    this.list.openDetail(item.number);
    if (item.size > LARGE && !evenLarge) {
      const load = h("button", { type: "button" }, `Load ${bytes(item.size)}`);
      load.addEventListener("click", () => this.#open(item, true));
      this.detail.append(load);
      return;
    }
    attempt("The message", async () => {
      const message = await api.message(item.number);
      if (this.list.selected !== item.number) return;
      if (message === null) throw new Error("it is no longer on record");
      this.detail.replaceChildren(...head(item), ...content(message));
    });
  }
}

function head(item) {
  const facts = [
    ["Sent by", item.direction === "in" ? "the device" : "the platform"],
    ["Time", exact(item.at)],
    ["Format", `${formatName(item.format)}, ${item.text ? "text" : "binary"} frame`],
    ["Size", `${count(item.size)} bytes`],
    ["Connection", `${item.connection}, message ${item.position}`],
  ];
  return [
    h("h2", {}, `Message ${item.number}`),
    h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
  ];
}

function content(message) {
  const parts = [];
  if (message.document !== undefined) {
    parts.push(h("h3", {}, "Decoded"), jsonBlock(message.document, "Decoded"));
  }
  if (message.problem) parts.push(h("p", { class: "problem data" }, message.problem));
  const raw = message.encoding === "base64" ? hexDump(base64Bytes(message.payload)) : message.payload;
  parts.push(h("h3", {}, "As received"), textBlock(raw, "As received"));
  if (message.direction === "out") parts[parts.length - 2].textContent = "As sent";
  return parts;
}

function buildRow() {
  const time = h("span", { class: "message-time" });
  const direction = h("span", { class: "message-direction" });
  const format = h("span", { class: "message-format" });
  const size = h("span", { class: "message-size" });
  const preview = h("span", { class: "message-preview data" });
  return {
    element: h("div", { class: "message-row" }, time, direction, format, size, preview),
    update(item) {
      setText(time, clock(item.at, undefined, true));
      direction.dataset.direction = item.direction;
      setText(direction, item.direction === "in" ? "device" : "platform");
      setText(format, formatName(item.format));
      setText(size, bytes(item.size));
      setText(preview, item.preview ?? "binary");
    },
  };
}
