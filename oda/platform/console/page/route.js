// The address behind the #: which page, which device, which tab. Pure.

export const TABS = ["datastreams", "operations", "messages", "connections", "faults"];

export function readRoute(hash) {
  const [first, device, tab] = hash.replace(/^#\/?/, "").split("/");
  if (first === "faults") return { page: "faults" };
  const id = first === "devices" && device ? decode(device) : null;
  if (id === null) return { page: "overview" };
  return { page: "device", device: id, tab: TABS.includes(tab) ? tab : TABS[0] };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

export const deviceLink = (device, tab = TABS[0]) => `#/devices/${encodeURIComponent(device)}/${tab}`;
