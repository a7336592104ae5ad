// The ways to misbehave as switches, towards one device or (null) all; and blows dealt once.

import { api } from "./api.js";
import { choice, h, newId, setText } from "./dom.js";
import { faultWords } from "./fault_words.js";
import { attempt, say } from "./notice.js";

const number = (name, label, value, min = 0) => ({ name, label, value, min });
const select = (name, label, options) => ({ name, label, options, value: options[0][0] });
const text = (name, label) => ({ name, label, value: "" });
const options = (...values) => values.map((value) => [value, value]);

/** `on(values)` gives the members of the fault, `isOn(fault)` says whether they are there. */
const SWITCHES = [
  {
    id: "refuse",
    label: "Refuse connections",
    hint: "What a device gets instead of the WebSocket. An open connection stays. Retry-After goes with 429 and 503.",
    fields: [
      select("refuse", "with", [
        ["401", "401 Unauthorized"],
        ["403", "403 Forbidden"],
        ["404", "404 Not Found"],
        ["429", "429 Too Many Requests"],
        ["503", "503 Service Unavailable"],
        ["garbage", "garbage"],
        ["silence", "silence"],
      ]),
      number("retryAfter", "Retry-After (s)", ""),
    ],
  },
  {
    id: "end",
    label: "End connections",
    hint: "Every connection, again and again.",
    fields: [
      select("end", "by", [
        ["reset", "TCP reset"],
        ["close", "close frame"],
      ]),
      number("close", "code", 1011),
      text("closeReason", "reason"),
      number("afterMessages", "after messages", 0),
    ],
  },
  { id: "freeze", label: "Freeze", hint: "Read nothing; the connection stays open.", fields: [] },
  {
    id: "slow",
    label: "Read slowly",
    hint: "",
    fields: [number("slow", "bytes/s", 1000, 1)],
  },
  {
    id: "pong",
    label: "Answer pings wrongly",
    hint: "",
    fields: [
      select("pong", "how", [
        ["drop", "not at all"],
        ["coalesce", "only the newest"],
        ["empty", "empty payload"],
        ["wrong", "wrong payload"],
        ["die", "once, then die"],
        ["early", "before reading"],
        ["late", "late"],
      ]),
      number("pongDelay", "delay (s)", 1),
    ],
  },
  {
    id: "terminateAfterPings",
    label: "End after pings",
    hint: "Cut the connection at that ping.",
    fields: [number("terminateAfterPings", "pings", 3, 1)],
  },
  {
    id: "closeAboveBytes",
    label: "Close on large messages",
    hint: "Close with 1009.",
    fields: [number("closeAboveBytes", "above bytes", 1000, 1)],
  },
  {
    id: "operations",
    label: "Garble operations",
    hint: "",
    fields: [select("operations", "by", options("duplicate", "reorder", "malformed"))],
  },
];

const IS_ON = { end: (fault) => Boolean(fault.reset) || fault.close !== undefined };

/** The members of a fault that a switch with these values stands for. */
function membersOf(id, values) {
  if (id === "freeze") return { freeze: true };
  if (id === "end") {
    const after = values.afterMessages ? { afterMessages: values.afterMessages } : {};
    if (values.end === "reset") return { reset: true, ...after };
    const reason = values.closeReason ? { closeReason: values.closeReason } : {};
    return { close: values.close ?? 1011, ...reason, ...after };
  }
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
}

export class FaultSwitches {

  /** `speaker` is the device looked at, where it speaks through the connection of `device`. */
  constructor(model, device, speaker = device) {
    this.model = model;
    this.device = device;
    const isBehind = speaker !== device;
    this.general = h("p", { class: "hint general" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.switches = SWITCHES.map((kind) => this.#makeSwitch(kind));
    this.element = h(
      "div",
      { class: "faults" },
      isBehind ? h("p", { class: "hint" }, `Of the connection of ${device}, which speaks for this device.`) : null,
      this.general,
      this.problem,
      h("div", { class: "switches" }, ...this.switches.map((one) => one.element)),
      this.#makeIncidents(),
    );
    this.off = model.on("faults", () => this.#draw());
    this.#draw();
  }

  close() {
    this.off();
  }

  #makeSwitch(kind) {
    const toggle = h("input", { type: "checkbox", role: "switch", id: newId("switch"), onchange: () => this.#put() });
    const controls = kind.fields.map((one) => this.#makeControl(one, toggle));
    const hint = kind.hint ? h("p", { class: "hint" }, kind.hint) : null;
    const element = h(
      "div",
      { class: "switch", "data-fault": kind.id },
      h("div", { class: "switch-head" }, toggle, h("label", { for: toggle.id }, kind.label)),
      hint,
      controls.length ? h("div", { class: "fields" }, ...controls.map(({ element }) => element)) : null,
    );
    return { kind, toggle, controls, element };
  }

  #makeControl(spec, toggle) {
    const attributes = { id: newId("fault"), name: spec.name, onchange: () => toggle.checked && this.#put() };
    let control;
    if (spec.options) control = choice(spec.options, attributes);
    else if (spec.min === undefined) control = h("input", { ...attributes, maxlength: 123 });
    else control = h("input", { ...attributes, type: "number", step: "any", min: spec.min, value: spec.value });
    const element = h("div", { class: "field" }, h("label", { for: attributes.id }, spec.label), control);
    return { spec, control, element };
  }

  #makeIncidents() {
    const code = h("input", { type: "number", id: newId("code"), min: 0, max: 65535, value: 1011 });
    const strike = (incident) =>
      attempt("The platform", async () => {
        const { connections } = await api.strike(this.device, incident);
        say(connections === 1 ? "One connection hit" : `${connections} connections hit`);
      });
    return h(
      "section",
      { class: "panel incidents", "aria-label": "Once, now" },
      h("h3", {}, "Once, now"),
      h("button", { type: "button", onclick: () => strike({ reset: true }) }, "Reset"),
      h("button", { type: "button", onclick: () => strike({ close: Number(code.value) }) }, "Close"),
      h("label", { for: code.id }, "with code"),
      code,
    );
  }

  /** Say the whole fault to the platform, as the switches stand. */
  async #put() {
    const fault = {};
    for (const { kind, toggle, controls } of this.switches) {
      if (toggle.checked) Object.assign(fault, membersOf(kind.id, valuesOf(controls)));
    }
    setText(this.problem, "");
    try {
      const now = await api.setFault(this.device, fault);
      say(Object.keys(now).length ? `In force: ${faultWords(now)}` : "Back to normal");
    } catch (error) {
      setText(this.problem, error.message);
    }
    await this.model.loadFaults().catch(() => {});
  }

  #draw() {
    const fault = this.model.faultOf(this.device);
    for (const one of this.switches) {
      const { kind, toggle, controls, element } = one;
      toggle.checked = IS_ON[kind.id]?.(fault) ?? fault[kind.id] !== undefined;
      element.classList.toggle("on", toggle.checked);
      if (toggle.checked) for (const { spec, control } of controls) show(control, spec, fault);
    }
    const words = this.device === null ? "" : faultWords(this.model.faultOf(null));
    setText(this.general, words ? `In force for all devices besides: ${words}.` : "");
  }
}

function valuesOf(controls) {
  const values = {};
  for (const { spec, control } of controls) {
    const isNumber = control.type === "number";
    values[spec.name] = isNumber ? (control.value === "" ? null : Number(control.value)) : control.value;
  }
  return values;
}

/** Show what is in force, unless it is being edited right now. */
function show(control, spec, fault) {
  if (control === document.activeElement) return;
  if (spec.name === "end") control.value = fault.close === undefined ? "reset" : "close";
  else if (fault[spec.name] !== undefined) control.value = fault[spec.name];
  else if (!spec.options && spec.name !== "close") control.value = spec.value;
}
