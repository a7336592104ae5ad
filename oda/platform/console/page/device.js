// One device: its state and counters on top, one of the tabs below.

import { api } from "./api.js";
import { ConnectionsTab } from "./connections.js";
import { DatastreamsTab } from "./datastreams.js";
import { h, setText } from "./dom.js";
import { FaultSwitches } from "./fault_switches.js";
import { clock, count, exact } from "./format.js";
import { MessagesTab } from "./messages.js";
import { OperationsTab } from "./operations.js";
import { repeat } from "./repeat.js";
import { TABS, deviceLink } from "./route.js";

const MAKERS = {
  datastreams: (model, device) => new DatastreamsTab(model, device),
  operations: (model, device) => new OperationsTab(model, device),
  messages: (model, device) => new MessagesTab(model, device),
  connections: (model, device) => new ConnectionsTab(model, device),
  faults: (model, device) => new FaultSwitches(model, model.hostOf(device), device),
};

const COUNTERS = [
  ["Messages read", (device) => device.connection?.messagesIn],
  ["Messages written", (device) => device.connection?.messagesOut],
  ["Pings received", (device) => device.connection?.pingsIn],
  ["Pongs sent", (device) => device.connection?.pongsOut],
  ["Datapoints kept", (device) => device.datapoints],
  ["Copies", (device) => device.copies],
  ["Conflicts", (device) => device.conflicts],
];

export class DevicePage {
  #tab = null;
  #tabName = null;

  constructor(model, route) {
    this.model = model;
    this.device = route.device;
    this.pill = h("span", { class: "pill" });
    this.about = h("p", { class: "about data" });
    this.counters = COUNTERS.map(([label, read]) => ({ read, value: h("dd", {}), label }));
    this.links = TABS.map((tab) => h("a", { href: deviceLink(this.device, tab) }, title(tab)));
    this.place = h("div", { class: "tab" });
    this.element = h(
      "div",
      { class: "page device" },
      h("a", { class: "back", href: "#/" }, "Devices"),
      h("div", { class: "device-head" }, h("h1", { class: "data" }, this.device), this.pill),
      this.about,
      h(
        "dl",
        { class: "counters" },
        ...this.counters.map(({ label, value }) => h("div", {}, h("dt", {}, label), value)),
      ),
      h("nav", { class: "tabs", "aria-label": "About this device" }, ...this.links),
      this.place,
    );
    this.full = model.devices.get(this.device) ?? null;
    this.offs = [
      model.on("devices", () => this.#draw()),
      model.on("state", () => this.#draw()),
      repeat(() => this.#load(), 1000),
    ];
    this.#load().catch(() => {});
    this.#draw();
    this.shows(route);
  }

  /** Turn to the route if it is of this device. */
  shows(route) {
    if (route.page !== "device" || route.device !== this.device) return false;
    if (route.tab === this.#tabName) return true;
    this.#tab?.close();
    this.#tabName = route.tab;
    this.#tab = MAKERS[route.tab](this.model, this.device);
    this.place.replaceChildren(this.#tab.element);
    this.links.forEach((link, index) => {
      if (TABS[index] === route.tab) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    const current = this.links[TABS.indexOf(route.tab)];
    requestAnimationFrame(() => current.scrollIntoView({ block: "nearest", inline: "nearest" }));
    return true;
  }

  close() {
    this.#tab?.close();
    for (const off of this.offs) off();
  }

  async #load() {
    this.full = await api.device(this.device);
    this.#draw();
  }

  #draw() {
    const known = this.model.devices.get(this.device);
    const connected = this.model.isConnected(this.device);
    const via = known?.via ?? null;
    this.pill.dataset.state = connected ? "connected" : "away";
    setText(this.pill, connected ? (via === null ? "connected" : `through ${via}`) : "away");
    const host = this.model.devices.get(this.model.hostOf(this.device));
    const connection = connected ? (this.full?.connection ?? host?.connection ?? null) : null;
    const shown = { ...this.full, connection };
    for (const { read, value } of this.counters) {
      const number = read(shown);
      setText(value, number === undefined || number === null ? "–" : count(number));
    }
    const { pingsIn = 0, pongsOut = 0 } = connection ?? {};
    this.counters[3].value.classList.toggle("lacking", pingsIn > pongsOut);
    setText(this.about, aboutText(known, connection));
    this.about.title = known ? `first seen ${exact(known.firstSeen)}` : "";
  }
}

function aboutText(device, connection) {
  if (!device) return "This device was never seen.";
  const first = `first seen ${clock(device.firstSeen)}`;
  if (!connection) return `${first} · last seen ${clock(device.lastSeen)}`;
  return `connection ${connection.number} from ${connection.peer} · ${first}`;
}

const title = (tab) => tab[0].toUpperCase() + tab.slice(1);
