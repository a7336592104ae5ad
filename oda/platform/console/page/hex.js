// Bytes as the classic dump: offset, sixteen bytes, their text. Pure.

const SHOWN = 8192;

export function base64Bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function hexDump(bytes) {
  const lines = [];
  for (let offset = 0; offset < Math.min(bytes.length, SHOWN); offset += 16) {
    const part = [...bytes.subarray(offset, offset + 16)];
    const hex = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = part.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${offset.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  if (bytes.length > SHOWN) lines.push(`… ${bytes.length - SHOWN} more bytes`);
  return lines.join("\n");
}
