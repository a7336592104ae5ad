// The platform's REST API.

import { parse, stringify } from "./exact_json.js";

/** An answer other than success, in the API's own words. */
export class Refused extends Error {
  constructor(status, problem, parameter) {
    super(problem);
    this.status = status;
    this.parameter = parameter;
  }
}

const enc = encodeURIComponent;

async function call(method, path, { query = {}, body, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const search = given.map(([name, value]) => `${enc(name)}=${enc(value)}`).join("&");
  const response = await fetch(search ? `${path}?${search}` : path, {
    method,
    signal,
    body: body === undefined ? undefined : stringify(body),
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
  });
  const document = parse(await response.text());
  if (!response.ok) throw new Refused(response.status, document.error, document.parameter);
  return document;
}

const of = (device) => (device === null ? "" : `/devices/${enc(device)}`);

export const api = {
  platform: () => call("GET", "/platform"),
  devices: () => call("GET", "/devices"),
  device: (device) => call("GET", of(device)),
  datastreams: (device) => call("GET", `${of(device)}/datastreams`),
  datapoints: (device, datastream, feed, limit) =>
    call("GET", `${of(device)}/datastreams/${enc(datastream)}/datapoints`, {
      query: { feed, limit },
    }),
  connections: (device, after) => call("GET", "/connections", { query: { device, after, limit: 1000 } }),
  operations: (device, limit) => call("GET", `${of(device)}/operations`, { query: { limit } }),
  operation: (id) => call("GET", `/operations/${enc(id)}`),
  send: (device, order) => call("POST", `${of(device)}/operations`, { body: order }),
  messages: (device, { before, after, limit } = {}) =>
    call("GET", "/console/messages", { query: { device, before, after, limit } }),
  message: async (number) => {
    const query = { after: number - 1, limit: 1, decode: true };
    const [message] = await call("GET", "/messages", { query });
    return message?.number === number ? message : null;
  },
  files: () => call("GET", "/files"),
  faults: () => call("GET", "/faults"),
  setFault: (device, fault) => call("PUT", `${of(device)}/faults`, { body: fault }),
  strike: (device, incident) => call("POST", `${of(device)}/incidents`, { body: incident }),
};
