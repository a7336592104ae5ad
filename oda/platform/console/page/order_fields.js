// What the form asks for, operation by operation. Each maker gives `{element, read()}`; `read` gives
// the operation's parameters (undefined: none) or throws a `Mistake`.

import { deployment } from "./deployment_fields.js";
import { choice, field, h, newId, setText } from "./dom.js";
import { parse } from "./exact_json.js";
import { kindOf } from "./format.js";
import { Mistake } from "./mistake.js";

/** Text that is JSON is meant as JSON, any other as itself. */
export function readValue(text) {
  try {
    return parse(text);
  } catch {
    return text;
  }
}

function nothing() {
  return { element: h("div"), read: () => undefined };
}

/** Rows of names, with a value each where `withValue`. */
function variables(datastreams, withValue) {
  const names = h("datalist", { id: newId("names") });
  const rows = h("div", { class: "variables" });
  datastreams().then((found) => {
    names.replaceChildren(...found.map((value) => h("option", { value })));
  });
  const add = h("button", { type: "button", class: "quiet" }, "Add a variable");
  add.addEventListener("click", () => addRow().querySelector("input").focus());

  function addRow() {
    const name = h("input", {
      "aria-label": "Variable",
      placeholder: "datastream",
      list: names.id,
      class: "code-input variable-name",
      autocomplete: "off",
      spellcheck: "false",
    });
    const kind = h("span", { class: "hint kind" });
    const value = h("input", {
      "aria-label": "Value",
      placeholder: "value",
      class: "code-input variable-value",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => setText(kind, value.value ? kindOf(readValue(value.value)) : ""),
    });
    const remove = h("button", { type: "button", class: "quiet", "aria-label": "Remove this variable" }, "Remove");
    const row = h("div", { class: "variable" }, name, ...(withValue ? [value, kind] : []), remove);
    remove.addEventListener("click", () => {
      row.remove();
      if (!rows.children.length) addRow();
      add.focus();
    });
    rows.append(row);
    return row;
  }

  function read() {
    const variableList = [];
    for (const row of rows.children) {
      const name = row.querySelector(".variable-name");
      const value = row.querySelector(".variable-value");
      if (!name.value && !value?.value) continue;
      if (!name.value) throw new Mistake("A value without a variable.", name);
      variableList.push(withValue ? { name: name.value, value: readValue(value.value) } : name.value);
    }
    if (!variableList.length) {
      throw new Mistake("Name at least one variable.", rows.querySelector("input"));
    }
    return { variableList };
  }

  addRow();
  return { element: h("div", {}, rows, add, names), read };
}

function clockTime() {
  const now = new Date();
  const zone = -now.getTimezoneOffset() / 60;
  const local = new Date(now.getTime() + zone * 3_600_000).toISOString();
  const date = h("input", { type: "date", value: local.slice(0, 10) });
  const time = h("input", { type: "time", step: 1, value: local.slice(11, 19) });
  const timezone = h("input", { type: "number", step: "any", min: -14, max: 14, value: zone });
  const dst = h("input", { type: "number", step: "any", min: 0, max: 2, value: 0 });
  const isGiven = h("input", { type: "checkbox", checked: true });
  const grid = h(
    "div",
    { class: "fields" },
    field("Date", date),
    field("Time", time),
    field("Zone (h)", timezone),
    field("Summer time (h)", dst),
  );
  isGiven.addEventListener("change", () => {
    grid.hidden = !isGiven.checked;
  });
  function read() {
    if (!isGiven.checked) return undefined;
    for (const control of [date, time, timezone, dst]) {
      if (!control.value) throw new Mistake("Fill in the whole time.", control);
    }
    const text = time.value.length === 5 ? `${time.value}:00` : time.value;
    return {
      datetime: { date: date.value, time: text, timezone: Number(timezone.value), dst: Number(dst.value) },
    };
  }
  const label = h("label", { class: "check" }, isGiven, " Set this time (otherwise the device takes its own)");
  return { element: h("div", {}, label, grid), read };
}

function timeSource() {
  const source = h("input", { class: "code-input", autocomplete: "off", spellcheck: "false" });
  const read = () => (source.value ? { source: source.value } : undefined);
  return { element: field("Time source", source, "may be left empty"), read };
}

/** What REBOOT_EQUIPMENT restarts. */
function rebootType() {
  const kinds = [
    ["", "the device (no type)"],
    ["HARDWARE", "the device (HARDWARE)"],
    ["SOFTWARE", "the agent (SOFTWARE)"],
  ];
  const type = choice(kinds, { class: "reboot-type" });
  const read = () => (type.value ? { type: type.value } : undefined);
  return { element: field("Restart", type, "the device answers after the restart"), read };
}

/** Any parameters, as JSON. */
export function freeJson(text = "") {
  const area = h("textarea", { rows: 7, class: "code-input", spellcheck: "false", value: text });
  function read() {
    if (!area.value.trim()) return undefined;
    try {
      return parse(area.value);
    } catch (error) {
      throw new Mistake(`This is no JSON: ${error.message}`, area);
    }
  }
  return { element: field("Parameters (JSON)", area, "may be left empty"), read, area };
}

/** The operations every OpenGate device may be asked for, with what each does. */
export const STANDARD = {
  REFRESH_INFO: ["Reads every datastream and publishes the values.", nothing],
  GET_DEVICE_PARAMETERS: ["Reads the variables named.", (names) => variables(names, false)],
  SET_DEVICE_PARAMETERS: ["Writes the variables named.", (names) => variables(names, true)],
  SET_CLOCK_EQUIPMENT: ["Sets the device's clock.", clockTime],
  SYNCHRONIZE_CLOCK: ["Sets the device's clock from a time source.", timeSource],
  REBOOT_EQUIPMENT: ["Restarts the device, or its agent.", rebootType],
  DISCOVER: ["Lists the devices, datastreams and operations there are.", nothing],
  UPDATE: ["Installs files, configuration and packages: all of them or none.", () => deployment()],
};
