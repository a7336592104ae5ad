// A device's datastreams: the latest value of each, a sparkline, and one of them in full.

import { api } from "./api.js";
import { Chart, Sparkline } from "./chart.js";
import { h, setName, setText } from "./dom.js";
import { ago, clock, counted, exact, kindOf, moment, short } from "./format.js";
import { jsonBlock } from "./json.js";
import { repeat } from "./repeat.js";
import { Series } from "./series.js";
import { VirtualList } from "./virtual.js";

const KEPT = 2000;
const SPARK = 120;
const AT_ONCE = 3;
const RECENT = 12;

const keyOf = (item) => `${item.datastream}\u0000${item.feed}`;

export class DatastreamsTab {
  #items = new Map();
  #chosen = null;
  #loading = 0;
  #reloadTimer = null;
  #isClosed = false;
  #isByHand = false;

  constructor(model, device) {
    this.device = device;
    this.chart = new Chart();
    this.title = h("h2", { class: "data" });
    this.latest = h("p", { class: "latest data" });
    this.when = h("p", { class: "when" });
    this.recent = h("tbody");
    this.whole = h("div");
    this.panel = h(
      "section",
      { class: "panel", hidden: true, "aria-label": "The chosen datastream" },
      h("div", { class: "panel-head" }, h("div", {}, this.title, this.when), this.latest),
      this.chart.element,
      h(
        "details",
        { class: "recent", ontoggle: () => this.#drawRecent() },
        h("summary", {}, "Newest datapoints"),
        this.whole,
        h(
          "table",
          {},
          h("thead", {}, h("tr", {}, h("th", {}, "Time"), h("th", {}, "Value"))),
          this.recent,
        ),
      ),
    );
    this.list = new VirtualList({
      label: "Datastreams",
      rowHeight: matchMedia("(max-width: 760px)").matches ? 60 : 44, // a name may take two lines
      build: buildRow,
      keyOf,
      onOpen: (item) => {
        this.#isByHand = true;
        this.#choose(item);
        this.panel.scrollIntoView({ block: "nearest" });
      },
      onShow: (items) => this.#loadSeries(items),
      empty: "No datapoint yet.",
      scroller: document.getElementById("main"),
      above: this.panel,
    });
    this.heading = h("h3", { class: "list-title" });
    this.element = h("div", { class: "datastreams" }, this.panel, this.heading, this.list.frame);
    this.offs = [
      model.on("events", (events) => this.#heard(events)),
      model.on("gap", () => this.#reload()),
      repeat(() => this.#draw(), 1000),
    ];
    this.#load();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#reloadTimer);
    this.list.close();
    for (const off of this.offs) off();
  }

  async #load() {
    let latest;
    try {
      latest = await api.datastreams(this.device);
    } catch {
      latest = []; // never seen, or the platform is away: the live changes will tell
    }
    for (const { datastream, feed, at, value } of latest) this.#put(datastream, feed, at, value);
    this.#show();
  }

  /** Everything may have changed: ask for it again, and for the series as they are looked at. */
  #reload() {
    for (const item of this.#items.values()) item.state = "wanted";
    this.#load();
  }

  #put(datastream, feed, at, value) {
    const key = keyOf({ datastream, feed });
    let item = this.#items.get(key);
    if (!item) {
      item = { datastream, feed, at, value, series: new Series(KEPT), state: "wanted" };
      this.#items.set(key, item);
    }
    if (at >= item.at) Object.assign(item, { at, value });
    item.series.add(at, value);
  }

  #heard(events) {
    let changed = false;
    for (const [kind, data] of events) {
      if (kind !== "datapoints" || data.device !== this.device) continue;
      for (const { datastream, feed, at, value, omitted } of data.datapoints) {
        changed = true;
        if (omitted === undefined) this.#put(datastream, feed, at, value);
        else this.#reloadTimer ??= setTimeout(() => this.#loadOmitted(), 1000);
      }
    }
    if (changed) this.#show();
  }

  #loadOmitted() {
    this.#reloadTimer = null;
    this.#load();
  }

  #show() {
    if (this.#isClosed) return;
    if (this.list.items.length !== this.#items.size) {
      const items = [...this.#items.values()];
      items.sort((one, other) => (keyOf(one) < keyOf(other) ? -1 : 1));
      setText(this.heading, counted(items.length, "datastream"));
      this.list.setItems(items);
    }
    this.#chooseOne();
    this.#draw();
  }

  /** Until somebody chooses: a number that moves, else a number, else the first. */
  #chooseOne() {
    const items = this.list.items;
    if (this.#isByHand || !items.length || (this.#chosen !== null && moves(this.#chosen))) return;
    const one = items.find(moves) ?? this.#chosen ?? items.find(isNumber) ?? items[0];
    if (one !== this.#chosen) this.#choose(one);
  }

  #choose(item) {
    this.#chosen = item;
    this.panel.hidden = false;
    this.list.select(keyOf(item));
    this.#loadSeries([item]);
    this.#draw();
  }

  async #loadSeries(items) {
    for (const item of items) {
      const wanted = item === this.#chosen ? KEPT : SPARK;
      const has = item.state === "wanted" ? 0 : item.state;
      if (has >= wanted || this.#loading >= AT_ONCE || this.#isClosed) continue;
      item.state = wanted;
      this.#loading += 1;
      try {
        const points = await api.datapoints(this.device, item.datastream, item.feed, wanted);
        for (const { at, value } of points) item.series.add(at, value);
      } catch {
        item.state = "wanted";
      }
      this.#loading -= 1;
      if (this.#isClosed) return;
      this.#chooseOne();
      this.#draw();
    }
  }

  #draw() {
    this.list.draw();
    const item = this.#chosen;
    if (item === null) return;
    setName(this.title, label(item));
    setText(this.when, moment(item.at));
    this.when.title = exact(item.at);
    setText(this.latest, short(item.value, 60));
    this.latest.dataset.kind = kindOf(item.value);
    this.chart.draw(item.series.points);
    this.#drawRecent();
  }

  #drawRecent() {
    if (!this.recent.closest("details").open) return;
    const rows = this.#chosen.series.points.slice(-RECENT).reverse();
    this.recent.replaceChildren(
      ...rows.map(({ at, value }) =>
        h(
          "tr",
          {},
          h("td", { title: exact(at) }, clock(at, undefined, true)),
          h("td", { class: "data" }, short(value, 300)),
        ),
      ),
    );
    const { value } = this.#chosen;
    const isLong = (typeof value === "object" && value !== null) || short(value, 300).length > 60;
    this.whole.replaceChildren(...(isLong ? [jsonBlock(value, "The latest value")] : []));
  }
}

const isNumber = (item) => typeof item.value === "number";

/** Whether it is a number that has had another value, too. */
const moves = (item) =>
  isNumber(item) && item.series.points.some((point) => point.value !== item.value);

const label = (item) => (item.feed ? `${item.datastream} · ${item.feed}` : item.datastream);

function buildRow() {
  const name = h("span", { class: "stream-id data" });
  const value = h("span", { class: "stream-value data" });
  const time = h("span", { class: "stream-time" });
  const spark = new Sparkline();
  return {
    element: h("div", { class: "stream-row" }, name, value, time, spark.element),
    update(item) {
      setName(name, label(item));
      name.title = label(item);
      setText(value, short(item.value));
      value.dataset.kind = kindOf(item.value);
      setText(time, ago(item.at));
      time.title = exact(item.at);
      spark.draw(item.series.points.slice(-SPARK));
    },
  };
}
