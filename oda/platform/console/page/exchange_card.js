// One operation from its request to its answer.

import { api } from "./api.js";
import { h, setText } from "./dom.js";
import { clock, exact, short, span } from "./format.js";
import { jsonBlock } from "./json.js";
import { attempt } from "./notice.js";
import { deviceLink } from "./route.js";

const EVENTS = {
  queued: "Queued",
  sent: "Sent",
  partial: "Partly answered",
  answered: "Answered",
  timed_out: "Timed out",
  extra: "Answered again",
};

export class ExchangeCard {
  #drawn = "";

  constructor(operation, withDevice) {
    this.pill = h("span", { class: "pill" });
    this.duration = h("span", { class: "duration" });
    this.result = h("span", { class: "result data" });
    this.body = h("div", { class: "exchange-body" });
    const time = h("time", { title: exact(operation.created) }, clock(operation.created));
    this.element = h(
      "details",
      { class: "exchange", "data-id": operation.id, ontoggle: () => this.#opened() },
      h(
        "summary",
        {},
        h("span", { class: "exchange-name data" }, operation.name),
        withDevice
          ? h("a", { class: "data", href: deviceLink(operation.device, "operations") }, operation.device)
          : null,
        h("span", { class: "grow" }),
        this.pill,
        this.duration,
        time,
        this.result,
      ),
      this.body,
    );
    this.element.created = operation.created;
    this.update(operation);
  }

  update(operation) {
    this.operation = { transcript: this.operation?.transcript, ...operation };
    const outcome = outcomeOf(operation);
    this.pill.dataset.state = outcome.state;
    setText(this.pill, outcome.text);
    setText(this.result, operation.answer?.resultDescription ?? "");
    setText(this.duration, operation.duration === undefined ? "" : span(operation.duration));
    this.element.dataset.state = operation.state;
    if (!this.element.open) return;
    if (operation.transcript) this.#draw();
    else this.#opened();
  }

  #opened() {
    if (!this.element.open) return;
    attempt("The transcript", async () => {
      this.operation = await api.operation(this.operation.id);
      this.#draw();
    });
  }

  /** Drawn anew only when something has happened, so that what is unfolded stays so. */
  #draw() {
    const { transcript, id } = this.operation;
    if (this.#drawn === `${id} ${transcript.length}`) return;
    this.#drawn = `${id} ${transcript.length}`;
    const steps = stepsOf(this.operation);
    this.body.replaceChildren(
      ...(steps.length ? [h("h4", {}, "Steps"), ...steps.map(stepBlock)] : []),
      h("h4", {}, "Transcript"),
      h("ol", { class: "transcript" }, ...transcript.map((line) => lineBlock(line, transcript[0].at))),
      h("p", { class: "hint data" }, `id ${id}`),
    );
  }
}

function outcomeOf({ state, answer, late }) {
  if (state === "answered") {
    const code = answer.resultCode ?? "answered";
    return { state: code === "SUCCESSFUL" ? "good" : "bad", text: late ? `${code}, late` : code };
  }
  if (state === "timed_out") return { state: "bad", text: "timed out" };
  return { state: "waiting", text: state };
}

/** The steps told so far: those of the answer, or of the last partial one. */
function stepsOf({ answer, partials = [] }) {
  const told = answer ?? partials[partials.length - 1];
  return Array.isArray(told?.steps) ? told.steps : [];
}

function stepBlock(step) {
  const response = Array.isArray(step.response) ? step.response : [];
  const isTable = response.length > 0 && response.every((entry) => entry?.variableName !== undefined);
  const state = step.result === "SUCCESSFUL" ? "good" : "bad";
  return h(
    "div",
    { class: "step" },
    h(
      "p",
      {},
      h("span", { class: "data" }, short(step.name ?? "step")),
      " ",
      h("span", { class: "pill", "data-state": state }, short(step.result ?? "–")),
      " ",
      h("span", { class: "data hint" }, short(step.description ?? "")),
    ),
    isTable ? variableTable(response) : null,
    !isTable && response.length ? jsonBlock(response, "The step's response") : null,
  );
}

function variableTable(entries) {
  const rows = entries.map((entry) =>
    h(
      "tr",
      {},
      h("td", { class: "data" }, short(entry.variableName)),
      h("td", { class: "data" }, entry.variableValue === undefined ? "–" : short(latest(entry.variableValue))),
      h("td", { class: "data" }, [entry.resultCode, entry.resultDescription].filter(Boolean).join(" · ")),
    ),
  );
  const headings = ["Variable", "Value", "Result"].map((text) => h("th", { scope: "col" }, text));
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Variables" },
    h("table", {}, h("thead", {}, h("tr", {}, ...headings)), h("tbody", {}, ...rows)),
  );
}

/** REFRESH_INFO answers with a list of readings; the value of the last is what one looks for. */
function latest(value) {
  const last = Array.isArray(value) ? value[value.length - 1] : null;
  return last?.datastreamId !== undefined && last.value !== undefined ? last.value : value;
}

function lineBlock({ at, event, document }, began) {
  const words = [
    h("span", { class: "offset", title: exact(at) }, `+${span(at - began)}`),
    " ",
    EVENTS[event] ?? event,
  ];
  if (document === null) return h("li", {}, ...words);
  const block = h("details", {}, h("summary", {}, ...words));
  block.addEventListener("toggle", () => block.append(jsonBlock(document, EVENTS[event] ?? event)), {
    once: true,
  });
  return h("li", {}, block);
}
