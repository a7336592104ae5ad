// What the console knows of the platform, and who wants to hear of changes. Changes are told in
// batches: a thousand events a second still mean ten rounds of drawing.

import { api } from "./api.js";
import { Live } from "./live.js";
import { repeat } from "./repeat.js";

const DRAW_EVERY_MS = 100;

export class Model {
  devices = new Map();
  faults = { all: {}, devices: {} };
  platform = null;
  state = "connecting";
  #listeners = new Map();
  #pending = new Set();
  #events = [];
  #timer = null;

  /** Call `listener` on changes: "devices", "faults", "state", "gap", "events" (with the list of
   * [kind, data]). The result ends that. */
  on(what, listener) {
    if (!this.#listeners.has(what)) this.#listeners.set(what, new Set());
    this.#listeners.get(what).add(listener);
    return () => this.#listeners.get(what).delete(listener);
  }

  /** Load everything and follow the changes from there. */
  async start() {
    this.platform = await api.platform();
    await Promise.all([this.#loadDevices(), this.loadFaults()]);
    new Live(this.platform.lastEvent, {
      onEvent: (kind, data) => this.#heard(kind, data),
      onState: (state) => {
        this.state = state;
        this.#changed("state");
      },
      onGap: () => this.#reload(),
    });
    repeat(() => this.#loadDevices(), 2000); // the counters are not part of the live changes
  }

  async #reload() {
    try {
      this.platform = await api.platform();
      await Promise.all([this.#loadDevices(), this.loadFaults()]);
      this.#changed("gap");
    } catch (error) {
      console.info("asking again when the platform is back:", error.message);
    }
  }

  async #loadDevices() {
    const found = await api.devices();
    this.devices = new Map(found.map((device) => [device.id, device]));
    this.#changed("devices");
  }

  async loadFaults() {
    this.faults = await api.faults();
    this.#changed("faults");
  }

  /** The fault set for this device itself (null: for all). */
  faultOf(device) {
    return device === null ? this.faults.all : (this.faults.devices[device] ?? {});
  }

  /** The device whose connection this one speaks through (itself for most). */
  hostOf(device) {
    return this.devices.get(device)?.via ?? device;
  }

  /** Whether a device can be reached now. */
  isConnected(device) {
    return this.devices.get(this.hostOf(device))?.connected ?? false;
  }

  #heard(kind, data) {
    if (kind === "device") this.#deviceChanged(data);
    if (kind === "datapoints") this.#deviceSpoke(data.device);
    if (kind === "fault") this.loadFaults().catch(() => {});
    this.#events.push([kind, data]);
    this.#changed("events");
  }

  #deviceChanged({ device, connected }) {
    const now = Date.now();
    const known = this.devices.get(device);
    const fresh = { id: device, firstSeen: now, lastSeen: now, via: null, connection: null };
    this.devices.set(device, { ...(known ?? fresh), connected, lastSeen: now });
    this.#changed("devices");
  }

  #deviceSpoke(device) {
    const known = this.devices.get(device);
    if (known) known.lastSeen = Date.now();
    else this.#deviceChanged({ device, connected: false }); // behind a host: the next load tells
  }

  #changed(what) {
    this.#pending.add(what);
    this.#timer ??= setTimeout(() => this.#tell(), DRAW_EVERY_MS);
  }

  #tell() {
    this.#timer = null;
    const [what, events] = [this.#pending, this.#events];
    this.#pending = new Set();
    this.#events = [];
    for (const one of what) {
      for (const listener of this.#listeners.get(one) ?? []) listener(events);
    }
  }
}
