// The form of UPDATE: one row of fields for each element. A file that the platform serves fills in
// its address, its size and its digest.

import { api } from "./api.js";
import { choice, field, h, newId } from "./dom.js";
import { Mistake } from "./mistake.js";

const OPERATIONS = ["INSTALL", "UPGRADE", "UNINSTALL"].map((name) => [name, name]);
const TYPES = ["SOFTWARE", "FIRMWARE", "CONFIGURATION", "PARAMETERS", "RULE", "DEFAULT"].map((name) => [name, name]);

const text = (attributes = {}) => h("input", { class: "code-input", autocomplete: "off", spellcheck: "false", ...attributes });

export function deployment() {
  let served = [];
  const bundle = text({ value: "bundle" });
  const bundleVersion = text({ value: "1" });
  const names = h("datalist", { id: newId("files") });
  const rows = h("div", { class: "elements" });
  api.files().then(
    (found) => {
      served = found;
      names.replaceChildren(...found.map(({ url }) => h("option", { value: url })));
    },
    () => {}, // only suggestions
  );
  const add = h("button", { type: "button", class: "quiet", onclick: () => addRow().name.focus() }, "Add an element");
  const elements = new Map();

  function addRow() {
    const row = {
      name: text(),
      version: text({ value: "1" }),
      type: choice(TYPES),
      operation: choice(OPERATIONS, { onchange: () => turn(row) }),
      path: text(),
      url: text({ list: names.id }),
    };
    row.urlField = field("Download URL", row.url, "of a file in --files: size and SHA-256 are added");
    const remove = h("button", { type: "button", class: "quiet", "aria-label": "Remove this element" }, "Remove");
    const element = h(
      "fieldset",
      { class: "fields element" },
      field("Element", row.name),
      field("Version", row.version),
      field("Type", row.type),
      field("Does", row.operation),
      field("Path", row.path, "ends with / for a directory; empty for a package"),
      row.urlField,
      remove,
    );
    remove.addEventListener("click", () => {
      elements.delete(element);
      element.remove();
      if (!elements.size) addRow();
      add.focus();
    });
    elements.set(element, row);
    rows.append(element);
    return row;
  }

  function turn(row) {
    row.urlField.hidden = row.operation.value === "UNINSTALL";
  }

  function readRow(row, order) {
    for (const control of [row.name, row.version]) {
      if (!control.value) throw new Mistake("Name each element and its version.", control);
    }
    const element = {
      name: row.name.value,
      version: row.version.value,
      type: row.type.value,
      operation: row.operation.value,
      order,
    };
    if (row.path.value) element.path = row.path.value;
    if (row.operation.value === "UNINSTALL") return element;
    if (!row.url.value) throw new Mistake("Where is the file?", row.url);
    element.downloadUrl = row.url.value;
    const known = served.find(({ url }) => url === row.url.value);
    if (known) {
      element.size = known.size;
      element.validators = [{ type: "SHA-256", value: known.sha256 }];
    }
    return element;
  }

  function read() {
    return {
      bundleName: bundle.value,
      bundleVersion: bundleVersion.value,
      deploymentElements: [...elements.values()].map((row, index) => readRow(row, index + 1)),
    };
  }

  addRow();
  return {
    element: h(
      "div",
      {},
      h("div", { class: "fields" }, field("Bundle", bundle), field("Bundle version", bundleVersion)),
      rows,
      add,
      names,
    ),
    read,
  };
}
