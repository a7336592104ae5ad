// A device's operations: the form to send one, and every exchange there was.

import { h } from "./dom.js";
import { Exchanges } from "./exchanges.js";
import { OrderForm } from "./order_form.js";

export class OperationsTab {
  constructor(model, device) {
    this.exchanges = new Exchanges(model, device);
    this.form = new OrderForm(model, device, (operation) => this.exchanges.show(operation));
    this.element = h(
      "div",
      { class: "operations" },
      this.form.element,
      h("section", { "aria-label": "Exchanges" }, h("h2", {}, "Exchanges"), this.exchanges.element),
    );
  }

  close() {
    this.exchanges.close();
  }
}
