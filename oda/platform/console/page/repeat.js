// Does something again and again while the page is looked at.

/** Run `act` (may be async) every `everyMs`, slower when it takes long, not while the page is
 * hidden; failures wait for the next time. The result stops it. */
export function repeat(act, everyMs) {
  let timer = null;
  let stopped = false;
  async function turn() {
    const began = performance.now();
    if (!document.hidden) {
      try {
        await act();
      } catch (error) {
        console.info("will try again:", error.message);
      }
    }
    if (!stopped) timer = setTimeout(turn, Math.max(everyMs, 20 * (performance.now() - began)));
  }
  timer = setTimeout(turn, everyMs);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
