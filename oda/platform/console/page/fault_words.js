// Faults in words. Pure.

const DETAILS = new Set(["retryAfter", "pongDelay", "closeReason", "afterMessages"]);

/** How many things go wrong under this fault. */
export const faultCount = (fault) => Object.keys(fault).filter((name) => !DETAILS.has(name)).length;

const WORDS = {
  refuse: (fault) => `refuse ${fault.refuse}`,
  freeze: () => "freeze",
  slow: (fault) => `slow, ${fault.slow} bytes/s`,
  pong: (fault) => `pong ${fault.pong}`,
  terminateAfterPings: (fault) => `end at ping ${fault.terminateAfterPings}`,
  closeAboveBytes: (fault) => `1009 above ${fault.closeAboveBytes} bytes`,
  reset: () => "reset",
  close: (fault) => `close ${fault.close}`,
  operations: (fault) => `${fault.operations} operations`,
};

export function faultWords(fault) {
  return Object.keys(fault)
    .filter((name) => !DETAILS.has(name))
    .map((name) => WORDS[name]?.(fault) ?? name)
    .join(", ");
}
