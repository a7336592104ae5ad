// Values, times and sizes as a person reads them. Pure.

import { stringify } from "./exact_json.js";

const DAY_MS = 86_400_000;
const numbers = new Intl.NumberFormat("en");
const two = (value) => String(value).padStart(2, "0");

export const count = (value) => numbers.format(value ?? 0);

/** "1 message", "1,200 messages". */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** A time of day, with the date unless it is today's. */
export function clock(ms, nowMs = Date.now(), withMillis = false) {
  const time = new Date(ms);
  if (Number.isNaN(time.getTime())) return `${ms} ms`;
  const millis = withMillis ? `.${String(time.getMilliseconds()).padStart(3, "0")}` : "";
  const text = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}${millis}`;
  return new Date(nowMs).toDateString() === time.toDateString() ? text : `${date(time)} ${text}`;
}

function date(time) {
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
}

/** A full time with its zone, for titles. */
export function exact(ms) {
  const time = new Date(ms);
  return Number.isNaN(time.getTime()) ? `${ms} ms` : `${time.toISOString()} (${ms})`;
}

/** A time, and how long ago it was as long as that says something. */
export function moment(ms, nowMs = Date.now()) {
  const past = nowMs - ms;
  const text = clock(ms, nowMs);
  return past >= -2000 && past < 60 * DAY_MS ? `${text} · ${ago(ms, nowMs)}` : text;
}

/** How long ago, in one unit. */
export function ago(ms, nowMs = Date.now()) {
  const past = nowMs - ms;
  if (past < -2000) return clock(ms, nowMs);
  if (past < 1500) return "now";
  if (past < 60_000) return `${Math.floor(past / 1000)} s ago`;
  if (past < 3_600_000) return `${Math.floor(past / 60_000)} min ago`;
  if (past < DAY_MS) return `${Math.floor(past / 3_600_000)} h ago`;
  if (past < 60 * DAY_MS) return `${Math.floor(past / DAY_MS)} d ago`;
  return date(new Date(ms));
}

/** A time span in ms. */
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1_000_000) return `${(size / 1000).toFixed(1)} kB`;
  return `${(size / 1_000_000).toFixed(1)} MB`;
}

/** A value in one line of at most `limit` characters. */
export function short(value, limit = 160) {
  if (typeof value === "number") return plainNumber(value);
  const text = typeof value === "string" ? value : stringify(value);
  if (text === undefined) return "";
  const line = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return line.replace(/\s+/g, " ");
}

/** A number without the noise of binary fractions. */
export function plainNumber(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(12)));
}

/** What a value is plotted as: numbers as they are, truth as 0 and 1, all else not at all. */
export function plotted(value) {
  if (typeof value === "number") return value;
  if (typeof value === "boolean" || typeof value === "bigint") return Number(value);
  return null;
}

export function kindOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "list";
  if (typeof value === "bigint") return "number";
  return typeof value === "object" ? "map" : typeof value;
}

const FORMATS = { JSON: "JSON", MESSAGE_PACK: "MessagePack", CBOR: "CBOR" };

export const formatName = (format) => FORMATS[format] ?? "unknown";
