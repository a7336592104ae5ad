// The live changes. The browser reconnects and says which event it saw last; where it gives up, or
// was told to rest while nobody looks, this takes over with the same number.

import { parse } from "./exact_json.js";

const KINDS = ["device", "datapoints", "unreadable", "operation", "fault", "lost"];
const RETRY_MS = 2000;
const REST_AFTER_MS = 20_000;

export class Live {
  #source = null;
  #last;
  #timer = null;
  #wasOpen = false;

  /** `onEvent(kind, data)`; `onState("connecting" | "live" | "lost" | "resting")`; `onGap()` when
   * events may have been missed and everything should be asked for again. */
  constructor(after, { onEvent, onState, onGap }) {
    this.#last = after;
    this.onEvent = onEvent;
    this.onState = onState;
    this.onGap = onGap;
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
    this.#open();
  }

  #open() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.onState("connecting");
    const source = new EventSource(`/events?after=${this.#last}`);
    this.#source = source;
    source.onopen = () => {
      this.onState("live");
      if (this.#wasOpen) this.onGap();
      this.#wasOpen = true;
    };
    source.onerror = () => {
      this.onState("lost");
      if (source.readyState === EventSource.CLOSED) this.#later(() => this.#open(), RETRY_MS);
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        this.#last = Number(event.lastEventId);
        if (kind === "lost") this.onGap();
        else this.onEvent(kind, parse(event.data));
      });
    }
  }

  /** A browser opens only six connections to one server: a tab nobody looks at gives its up. */
  #visibilityChanged() {
    if (document.hidden) {
      this.#later(() => this.#rest(), REST_AFTER_MS);
    } else if (this.#source === null || this.#source.readyState === EventSource.CLOSED) {
      this.#open();
    } else {
      clearTimeout(this.#timer);
    }
  }

  #rest() {
    this.#source.close();
    this.#source = null;
    this.onState("resting");
  }

  #later(act, ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, ms);
  }
}
