// The faults that hold for all devices, and who has some of their own.

import { h } from "./dom.js";
import { FaultSwitches } from "./fault_switches.js";
import { faultWords } from "./fault_words.js";
import { deviceLink } from "./route.js";

const SHOWN = 100;

export class FaultsPage {
  constructor(model) {
    this.model = model;
    this.switches = new FaultSwitches(model, null);
    this.special = h("ul", { class: "special" });
    this.element = h(
      "div",
      { class: "page" },
      h("a", { class: "back", href: "#/" }, "Devices"),
      h("h1", {}, "Faults for all devices"),
      this.switches.element,
      h("h2", {}, "Devices with faults of their own"),
      this.special,
    );
    this.off = model.on("faults", () => this.#draw());
    this.#draw();
  }

  shows(route) {
    return route.page === "faults";
  }

  close() {
    this.off();
    this.switches.close();
  }

  #draw() {
    const devices = Object.entries(this.model.faults.devices);
    const items = devices.slice(0, SHOWN).map(([device, fault]) =>
      h(
        "li",
        {},
        h("a", { class: "data", href: deviceLink(device, "faults") }, device),
        h("span", { class: "hint" }, ` ${faultWords(fault)}`),
      ),
    );
    if (!items.length) items.push(h("li", { class: "hint" }, "None."));
    if (devices.length > SHOWN) items.push(h("li", { class: "hint" }, `and ${devices.length - SHOWN} more`));
    this.special.replaceChildren(...items);
  }
}
