// JSON that keeps whole numbers beyond 2^53 as they are written (as BigInt), both ways. Pure.

const LONG = /\d{16}/;

export function parse(text) {
  return LONG.test(text) ? JSON.parse(text, revive) : JSON.parse(text);
}

function revive(_key, value, context) {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source; // not every browser tells
  return source !== undefined && /^-?\d+$/.test(source) ? BigInt(source) : value;
}

export function stringify(value, indent) {
  return JSON.stringify(value, write, indent);
}

function write(_key, value) {
  if (typeof value !== "bigint") return value;
  return JSON.rawJSON ? JSON.rawJSON(String(value)) : String(value);
}
