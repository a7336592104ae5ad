// The form that sends an operation to a device.

import { api } from "./api.js";
import { choice, field, h, setText } from "./dom.js";
import { stringify } from "./exact_json.js";
import { say } from "./notice.js";
import { Mistake } from "./mistake.js";
import { STANDARD, freeJson } from "./order_fields.js";

const OTHER = "other";
const FORMATS = [
  ["JSON", "JSON"],
  ["MESSAGE_PACK", "MessagePack"],
  ["CBOR", "CBOR"],
];

export class OrderForm {
  /** `onSent(operation)` is called with what the platform made of it. */
  constructor(model, device, onSent) {
    Object.assign(this, { model, device, onSent });
    const names = Object.keys(STANDARD).map((name) => [name, name]);
    this.name = choice([...names, [OTHER, "Another operation…"]], { onchange: () => this.#turn() });
    this.other = h("input", { class: "code-input", autocomplete: "off", spellcheck: "false" });
    this.otherField = field("Name", this.other);
    this.asJson = h("input", { type: "checkbox", onchange: () => this.#toggleJson() });
    this.asJsonLabel = h("label", { class: "check" }, this.asJson, " Parameters as JSON");
    this.hint = h("p", { class: "hint" });
    this.place = h("div", { class: "parameters" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.submit = h("button", { type: "submit", class: "primary" }, "Send");
    this.#makeOptions();
    this.element = h(
      "form",
      {
        class: "panel order",
        novalidate: true,
        "aria-label": "Send an operation",
        onsubmit: (event) => {
          event.preventDefault();
          this.#send();
        },
      },
      h("div", { class: "fields" }, field("Operation", this.name), this.otherField),
      this.hint,
      this.place,
      this.asJsonLabel,
      this.options,
      this.problem,
      h("div", { class: "actions" }, this.submit),
    );
    this.#turn();
  }

  #makeOptions() {
    const host = this.model.hostOf(this.device);
    this.timeout = h("input", { type: "number", min: 1, max: 86400, step: "any", value: 90 });
    this.format = choice(FORMATS);
    this.dialect = choice([
      ["object", "object"],
      ["list", "list (older)"],
    ]);
    this.deviceId = h("input", { class: "code-input", value: this.device, autocomplete: "off", spellcheck: "false" });
    this.path = h("input", {
      class: "code-input",
      value: host === this.device ? "" : host,
      autocomplete: "off",
      spellcheck: "false",
    });
    this.options = h(
      "details",
      { class: "options" },
      h("summary", {}, "Options"),
      h(
        "div",
        { class: "fields" },
        field("Timeout (s)", this.timeout),
        field("Format", this.format),
        field("Parameter dialect", this.dialect),
        field("deviceId", this.deviceId, "empty: left out"),
        field("path", this.path, "ids with blanks between"),
      ),
    );
  }

  /** Show the fields of the operation chosen. */
  #turn() {
    const isOther = this.name.value === OTHER;
    const [hint, make] = isOther ? ["Goes to the device as it is.", () => freeJson()] : STANDARD[this.name.value];
    this.otherField.hidden = !isOther;
    setText(this.hint, hint);
    this.fields = make(() => this.#datastreams());
    this.place.replaceChildren(this.fields.element);
    this.asJson.checked = false;
    this.asJsonLabel.hidden = this.fields.area !== undefined;
    setText(this.problem, "");
  }

  async #datastreams() {
    try {
      const latest = await api.datastreams(this.device);
      return [...new Set(latest.map(({ datastream }) => datastream))];
    } catch {
      return []; // only suggestions
    }
  }

  #toggleJson() {
    if (!this.asJson.checked) {
      this.#turn();
      return;
    }
    let parameters;
    try {
      parameters = this.fields.read();
    } catch {
      parameters = undefined; // the form is not filled in yet
    }
    this.fields = freeJson(parameters === undefined ? "" : stringify(parameters, 2));
    this.place.replaceChildren(this.fields.element);
    this.fields.area.focus();
  }

  #read() {
    const isOther = this.name.value === OTHER;
    if (isOther && !this.other.value) throw new Mistake("Name the operation.", this.other);
    const order = {
      name: isOther ? this.other.value : this.name.value,
      timeout: Number(this.timeout.value),
      format: this.format.value,
      dialect: this.dialect.value,
      deviceId: this.deviceId.value || null,
      path: this.path.value.split(/\s+/).filter(Boolean),
    };
    const parameters = this.fields.read();
    return parameters === undefined ? order : { ...order, parameters };
  }

  async #send() {
    setText(this.problem, "");
    this.submit.disabled = true;
    try {
      const operation = await api.send(this.model.hostOf(this.device), this.#read());
      this.onSent(operation);
      say(operation.state === "queued" ? `${operation.name} waits for the device` : `${operation.name} sent`);
    } catch (error) {
      setText(this.problem, error.message);
      if (error instanceof Mistake) error.control.focus();
    } finally {
      this.submit.disabled = false;
    }
  }
}
