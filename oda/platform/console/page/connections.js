// Every connection a device had, newest first, with what passed and how it ended.

import { api } from "./api.js";
import { h } from "./dom.js";
import { clock, count, exact, span } from "./format.js";
import { repeat } from "./repeat.js";

const SHOWN = 100;
const HEADINGS = ["No.", "Opened", "Lasted", "Read", "Written", "Pings", "Pongs", "Ended"];

export class ConnectionsTab {
  #known = new Map();

  constructor(model, device) {
    this.model = model;
    this.host = model.hostOf(device);
    this.body = h("tbody");
    this.note = h("p", { class: "hint" });
    this.element = h(
      "div",
      {},
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Connections" },
        h(
          "table",
          { class: "wide" },
          h("thead", {}, h("tr", {}, ...HEADINGS.map((text) => h("th", { scope: "col" }, text)))),
          this.body,
        ),
      ),
      this.note,
    );
    this.stop = repeat(() => this.#load(), 2000);
    this.#load().catch(() => {});
  }

  close() {
    this.stop();
  }

  /** Those that are over don't change any more: only the others are asked for again. */
  async #load() {
    let after = 0;
    for (const [number, connection] of this.#known) {
      if (connection.closed === null) break;
      after = number;
    }
    for (;;) {
      const page = await api.connections(this.host, after);
      for (const connection of page) this.#known.set(connection.number, connection);
      if (page.length < 1000) break;
      after = page[page.length - 1].number;
    }
    this.#draw();
  }

  #draw() {
    const live = this.model.devices.get(this.host)?.connection;
    const newest = [...this.#known.values()].slice(-SHOWN).reverse();
    this.body.replaceChildren(...newest.map((one) => row(one, live?.number === one.number ? live : null)));
    this.note.textContent =
      this.#known.size > SHOWN ? `The newest ${SHOWN} of ${count(this.#known.size)}.` : "";
  }
}

function row(connection, live) {
  const traffic = live ?? connection;
  const until = connection.closed ?? (live ? Date.now() : null);
  const cells = [
    connection.number,
    h("time", { title: exact(connection.opened) }, clock(connection.opened)),
    until === null ? "–" : span(until - connection.opened),
    count(traffic.messagesIn),
    count(traffic.messagesOut),
    count(traffic.pingsIn),
    h("span", { class: traffic.pongsOut < traffic.pingsIn ? "lacking" : null }, count(traffic.pongsOut)),
    live ? h("span", { class: "pill", "data-state": "connected" }, "open") : ending(connection),
  ];
  return h("tr", {}, ...cells.map((cell) => h("td", {}, cell)));
}

function ending({ closed, closeCode, closeReason }) {
  if (closed === null) return "unknown";
  if (closeCode === null) return "lost";
  return closeReason ? `${closeCode} ${closeReason}` : String(closeCode);
}
