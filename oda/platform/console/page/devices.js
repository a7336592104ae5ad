// The list of devices with their state, counters and faults.

import { choice, h, setText } from "./dom.js";
import { faultCount } from "./fault_words.js";
import { ago, count } from "./format.js";
import { repeat } from "./repeat.js";
import { deviceLink } from "./route.js";
import { VirtualList } from "./virtual.js";

const order = new Intl.Collator("en", { numeric: true }).compare;

/** The command that writes the configuration of an agent for this platform. */
function initCommand(url) {
  const { hostname, port, pathname, protocol } = new URL(url.replace(/^ws/, "http"));
  const isSecure = protocol === "https:";
  const words = ["oda init my-conf --host", hostname, "--port", port || (isSecure ? "443" : "80")];
  if (pathname !== "/south/v80/sessions") words.push("--path", pathname);
  return [...words, ...(isSecure ? ["--secure"] : [])].join(" ");
}

export class DeviceList {
  constructor(model) {
    this.model = model;
    this.search = h("input", {
      type: "search",
      placeholder: "Filter devices",
      "aria-label": "Filter devices",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#filter(),
    });
    this.state = choice(
      [
        ["all", "All"],
        ["connected", "Connected"],
        ["away", "Away"],
        ["faulty", "With faults"],
      ],
      { "aria-label": "Show", onchange: () => this.#filter() },
    );
    this.list = new VirtualList({
      label: "Devices",
      rowHeight: 48,
      build: () => buildRow(model),
      keyOf: (device) => device.id,
      onOpen: (device) => {
        location.hash = deviceLink(device.id);
      },
      empty: "No device.",
    });
    this.help = h("p", { class: "empty connect-help", hidden: true });
    model.on("state", () => this.#help());
    model.on("devices", () => this.#help());
    this.element = h(
      "div",
      { class: "devices" },
      h("div", { class: "filters" }, this.search, this.state),
      this.help,
      this.list.element,
    );
    model.on("devices", () => this.#filter());
    model.on("faults", () => this.#filter());
    repeat(() => this.list.draw(), 1000);
  }

  select(device) {
    this.list.select(device);
  }

  /** Where there is no device yet: how to connect one. On a phone this list is all there is. */
  #help() {
    const isNeeded = this.model.devices.size === 0 && this.model.platform !== null;
    this.help.hidden = !isNeeded;
    this.list.element.hidden = isNeeded;
    if (!isNeeded) return;
    setText(
      this.help,
      `No device yet. A device connects to ${this.model.platform.url}/<deviceId>, with its key in` +
        ` the header X-ApiKey, and then appears here. To connect an agent: ${initCommand(this.model.platform.url)}`,
    );
  }

  #filter() {
    const text = this.search.value.trim().toLowerCase();
    const wanted = TESTS[this.state.value];
    const found = [];
    for (const device of this.model.devices.values()) {
      if ((!text || device.id.toLowerCase().includes(text)) && wanted(this.model, device)) {
        found.push(device);
      }
    }
    found.sort((one, other) => order(one.id, other.id));
    this.list.setItems(found);
  }
}

const TESTS = {
  all: () => true,
  connected: (model, device) => model.isConnected(device.id),
  away: (model, device) => !model.isConnected(device.id),
  faulty: (model, device) => faultCount(model.faultOf(device.id)) > 0,
};

/** What a connection says of itself in a line. */
function summary(model, device) {
  if (device.via !== null) return `through ${device.via}`;
  const traffic = device.connection;
  if (!device.connected || !traffic) return "away";
  return `${count(traffic.messagesIn)} read · ${count(traffic.pongsOut)}/${count(traffic.pingsIn)} pings`;
}

function buildRow(model) {
  const dot = h("span", { class: "dot", "aria-hidden": "true" });
  const name = h("span", { class: "device-id data" });
  const detail = h("span", { class: "detail data" });
  const badge = h("span", { class: "badge fault", hidden: true });
  const seen = h("span", { class: "seen" });
  return {
    element: h("div", { class: "device-row" }, dot, name, badge, detail, seen),
    update(device) {
      const connected = model.isConnected(device.id);
      dot.dataset.state = connected ? (device.via === null ? "connected" : "behind") : "away";
      setText(name, device.id);
      setText(detail, summary(model, device));
      setText(seen, ago(device.lastSeen));
      const faults = faultCount(model.faultOf(device.id));
      badge.hidden = faults === 0;
      setText(badge, faults === 1 ? "fault" : `${faults} faults`);
    },
  };
}
