// The latest operations, newest first, each with its transcript, kept up to date.

import { api } from "./api.js";
import { h } from "./dom.js";
import { ExchangeCard } from "./exchange_card.js";
import { say } from "./notice.js";

const PAGE = 30;
const MANY = 20;

export class Exchanges {
  #cards = new Map();
  #limit = PAGE;
  #changed = new Set();
  #isBusy = false;
  #isClosed = false;

  /** Those of one device, or (null) of all. */
  constructor(model, device) {
    this.model = model;
    this.device = device;
    this.host = device === null ? null : model.hostOf(device);
    this.list = h("div", { class: "exchanges" });
    this.empty = h("p", { class: "empty", hidden: true }, "No operation yet.");
    this.more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.#showMore() }, "Show more");
    this.element = h("div", {}, this.list, this.empty, this.more);
    this.offs = [
      model.on("events", (events) => this.#heard(events)),
      model.on("gap", () => this.#load()),
    ];
    this.#load();
  }

  close() {
    this.#isClosed = true;
    for (const off of this.offs) off();
  }

  /** Put an operation that was just sent on top, opened. */
  show(operation) {
    this.#put([operation]);
    const card = this.#cards.get(operation.id);
    card.element.open = true;
    return card;
  }

  async #load() {
    try {
      const found = await api.operations(this.host, this.#limit);
      this.more.hidden = found.length < this.#limit;
      this.#put(found.filter((operation) => this.#isOurs(operation)).reverse());
    } catch (error) {
      say(`The operations: ${error.message}`, true);
    }
    this.empty.hidden = this.#cards.size > 0;
  }

  /** A host's record also holds what was sent to the devices behind it. */
  #isOurs(operation) {
    if (this.device === null || this.device === this.host) return true;
    return operation.request.deviceId === this.device;
  }

  #put(operations) {
    if (this.#isClosed) return;
    for (const operation of operations) {
      const card = this.#cards.get(operation.id);
      if (card) card.update(operation);
      else this.#add(operation);
    }
    while (this.#cards.size > this.#limit) {
      this.#cards.delete(this.list.lastElementChild.dataset.id);
      this.list.lastElementChild.remove();
      this.more.hidden = false;
    }
    this.empty.hidden = this.#cards.size > 0;
  }

  #add(operation) {
    const card = new ExchangeCard(operation, this.device === null);
    this.#cards.set(operation.id, card);
    const later = [...this.list.children].find((other) => other.created <= operation.created);
    this.list.insertBefore(card.element, later ?? null);
  }

  #showMore() {
    this.#limit += PAGE * 4;
    this.#load();
  }

  #heard(events) {
    for (const [kind, data] of events) {
      const isWanted = this.host === null || data.device === this.host;
      if (kind === "operation" && isWanted) this.#changed.add(data.id);
    }
    if (this.#changed.size) this.#refresh();
  }

  /** One at a time; when many have changed, all at once. */
  async #refresh() {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      while (this.#changed.size && !this.#isClosed) {
        const ids = [...this.#changed];
        this.#changed.clear();
        if (ids.length > MANY) await this.#load();
        else for (const id of ids) await this.#refreshOne(id);
      }
    } catch (error) {
      console.info("will be told again:", error.message);
    } finally {
      this.#isBusy = false;
    }
  }

  async #refreshOne(id) {
    const operation = await api.operation(id);
    if (this.#isOurs(operation)) this.#put([operation]);
  }
}
