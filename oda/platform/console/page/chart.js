// Draws a series: a sparkline without words, and a chart with axes and a reading under the pointer.

import { h, setText, svg } from "./dom.js";
import { clock, counted, exact, plainNumber, plotted, short } from "./format.js";

/** Numbers that a line can go through. */
function plottable(points) {
  const found = [];
  for (const { at, value } of points) {
    const y = plotted(value);
    if (y !== null && Number.isFinite(y)) found.push({ at, y, value });
  }
  return found;
}

function extremes(points) {
  let [low, high] = [Infinity, -Infinity];
  for (const { y } of points) {
    if (y < low) low = y;
    if (y > high) high = y;
  }
  return [low, high];
}

/** The range to draw: never empty, so that a constant runs through the middle. */
function bounds(points) {
  const [low, high] = extremes(points);
  const room = Math.abs(low) * 0.01 || 1;
  return low === high ? [low - room, high + room] : [low, high];
}

function scale(points, [low, high], width, height, pad, left = 0) {
  const first = points[0].at;
  const length = Math.max(1, points[points.length - 1].at - first);
  const usable = height - 2 * pad;
  const right = width - 3;
  return {
    x: (at) => (points.length === 1 ? right : left + ((at - first) / length) * (right - left)),
    y: (value) => pad + usable - ((value - low) / (high - low)) * usable,
  };
}

function line(points, place) {
  let path = "";
  for (const { at, y } of points) {
    path += `${path ? "L" : "M"}${place.x(at).toFixed(1)} ${place.y(y).toFixed(1)}`;
  }
  return path;
}

/** A line as high as a row. */
export class Sparkline {
  constructor(width = 120, height = 28) {
    Object.assign(this, { width, height });
    this.path = svg("path", { class: "chart-line" });
    this.dot = svg("circle", { class: "chart-dot", r: 1.8 });
    this.element = svg(
      "svg",
      { class: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      this.path,
      this.dot,
    );
  }

  draw(points) {
    const numbers = plottable(points);
    this.element.setAttribute("data-points", points.length);
    this.dot.setAttribute("visibility", numbers.length ? "visible" : "hidden");
    if (!numbers.length) {
      this.path.setAttribute("d", "");
      return;
    }
    const place = scale(numbers, bounds(numbers), this.width, this.height, 3);
    const last = numbers[numbers.length - 1];
    this.path.setAttribute("d", line(numbers, place));
    this.dot.setAttribute("cx", place.x(last.at));
    this.dot.setAttribute("cy", place.y(last.y));
  }
}

const HEIGHT = 168;
const BOTTOM = 20;
/** About as wide as a digit of the labels, in pixels. */
const DIGIT = 7;

const label = (value) => plainNumber(Number(value.toPrecision(6)));

/** A chart as wide as its place. */
export class Chart {
  #points = [];
  #pointer = null;

  constructor() {
    this.area = svg("path", { class: "chart-area" });
    this.path = svg("path", { class: "chart-line" });
    this.dot = svg("circle", { class: "chart-dot", r: 3 });
    this.grid = svg("g", { class: "chart-grid" });
    this.cursor = svg("line", { class: "chart-cursor", y1: 0, y2: HEIGHT - BOTTOM });
    this.picture = svg(
      "svg",
      {
        class: "chart",
        height: HEIGHT,
        role: "img",
        onpointermove: (event) => this.#pointed(event.offsetX),
        onpointerleave: () => this.#pointed(null),
      },
      this.grid,
      this.area,
      this.path,
      this.cursor,
      this.dot,
    );
    this.reading = h("figcaption", { class: "reading data" });
    this.element = h("figure", { class: "figure" }, this.picture, this.reading);
    new ResizeObserver(() => this.draw(this.#points)).observe(this.element);
  }

  draw(points) {
    this.#points = points;
    const width = this.element.clientWidth;
    if (!width) return;
    const numbers = plottable(points);
    this.picture.setAttribute("data-points", points.length);
    this.picture.toggleAttribute("hidden", !numbers.length);
    if (numbers.length) this.#drawLine(numbers, width);
    this.#describe(points, numbers);
  }

  #drawLine(numbers, width) {
    const range = bounds(numbers);
    const [low, high] = range;
    const marks = [high, (low + high) / 2, low].map((value) => [value, label(value)]);
    const left = 12 + DIGIT * Math.max(...marks.map(([, text]) => text.length));
    const place = scale(numbers, range, width, HEIGHT - BOTTOM, 10, left);
    const path = line(numbers, place);
    const [first, last] = [numbers[0], numbers[numbers.length - 1]];
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.path.setAttribute("d", path);
    const floor = HEIGHT - BOTTOM;
    this.area.setAttribute("d", `${path}L${place.x(last.at)} ${floor}L${place.x(first.at)} ${floor}Z`);
    this.#drawGrid(marks, first, last, width, left, place);
    const chosen = this.#nearest(numbers, place) ?? last;
    this.dot.setAttribute("cx", place.x(chosen.at));
    this.dot.setAttribute("cy", place.y(chosen.y));
    this.cursor.setAttribute("visibility", this.#pointer === null ? "hidden" : "visible");
    this.cursor.setAttribute("x1", place.x(chosen.at));
    this.cursor.setAttribute("x2", place.x(chosen.at));
    this.chosen = chosen;
  }

  #drawGrid(marks, first, last, width, left, place) {
    const parts = [];
    for (const [value, text] of marks) {
      const y = place.y(value);
      parts.push(svg("line", { x1: left, x2: width, y1: y, y2: y }));
      parts.push(svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, text));
    }
    const times = [
      [first.at, left, "start"],
      [last.at, width, "end"],
    ];
    for (const [at, x, anchor] of times.slice(first.at === last.at ? 1 : 0)) {
      parts.push(svg("text", { x, y: HEIGHT - 4, "text-anchor": anchor }, clock(at)));
    }
    this.grid.replaceChildren(...parts);
  }

  #nearest(numbers, place) {
    if (this.#pointer === null) return null;
    let best = numbers[0];
    for (const point of numbers) {
      if (Math.abs(place.x(point.at) - this.#pointer) < Math.abs(place.x(best.at) - this.#pointer)) {
        best = point;
      }
    }
    return best;
  }

  #pointed(x) {
    this.#pointer = x;
    this.draw(this.#points);
  }

  #describe(points, numbers) {
    let text = counted(points.length, "datapoint");
    if (numbers.length) {
      const [low, high] = extremes(numbers);
      text += ` · lowest ${plainNumber(low)} · highest ${plainNumber(high)}`;
      if (this.#pointer !== null) {
        text = `${exact(this.chosen.at)} · ${short(this.chosen.value)}`;
      }
    } else if (points.length) text += " · not numbers, so there is no line";
    setText(this.reading, text);
    this.picture.setAttribute("aria-label", `Chart: ${text}`);
  }
}
