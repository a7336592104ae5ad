// What is shown while no device is chosen: where devices connect, and the latest exchanges.

import { h } from "./dom.js";
import { Exchanges } from "./exchanges.js";

export class Overview {
  constructor(model) {
    this.exchanges = new Exchanges(model, null);
    this.element = h(
      "div",
      { class: "page" },
      h("h1", {}, "Devices"),
      h(
        "p",
        {},
        "A device connects to ",
        h("code", { class: "data" }, `${model.platform.url}/<deviceId>`),
        " with its key in the header ",
        h("code", {}, "X-ApiKey"),
        ". It appears in the list as soon as it has.",
      ),
      h("h2", {}, "Latest exchanges"),
      this.exchanges.element,
    );
  }

  shows(route) {
    return route.page === "overview";
  }

  close() {
    this.exchanges.close();
  }
}
