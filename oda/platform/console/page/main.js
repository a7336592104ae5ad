// The console: the list of devices beside what is chosen, following the address behind the #.

import { DeviceList } from "./devices.js";
import { DevicePage } from "./device.js";
import { faultCount } from "./fault_words.js";
import { FaultsPage } from "./faults.js";
import { count } from "./format.js";
import { setText } from "./dom.js";
import { Model } from "./model.js";
import { Overview } from "./overview.js";
import { readRoute } from "./route.js";

const RETRY_MS = 2000;
const STATES = { connecting: "connecting", live: "live", lost: "reconnecting", resting: "resting" };

const model = new Model();
const list = new DeviceList(model);
const main = document.getElementById("main");
let page = null;

function show() {
  const route = readRoute(location.hash);
  document.body.dataset.view = route.page === "overview" ? "list" : "detail";
  list.select(route.device ?? null);
  document.title = `${route.device ?? (route.page === "faults" ? "Faults" : "Devices")} · Stand-in platform`;
  if (page?.shows(route)) return;
  page?.close();
  page = makePage(route);
  main.replaceChildren(page.element);
  main.scrollTop = 0;
}

function makePage(route) {
  if (route.page === "faults") return new FaultsPage(model);
  if (route.page === "device") return new DevicePage(model, route);
  return new Overview(model);
}

function drawBar() {
  const connected = [...model.devices.values()].filter((device) => device.connected).length;
  setText(document.getElementById("totals"), `${count(connected)} of ${count(model.devices.size)} connected`);
  const live = document.getElementById("live");
  live.dataset.state = model.state;
  setText(live, STATES[model.state]);
  const faults = faultCount(model.faultOf(null));
  const link = document.getElementById("all-faults");
  link.classList.toggle("on", faults > 0);
  setText(link, faults > 0 ? `Faults for all: ${faults}` : "Faults for all");
}

async function start() {
  try {
    await model.start();
  } catch (error) {
    console.info("the platform does not answer:", error.message);
    document.getElementById("live").dataset.state = "lost";
    setTimeout(start, RETRY_MS);
    return;
  }
  for (const what of ["devices", "faults", "state"]) model.on(what, drawBar);
  drawBar();
  addEventListener("hashchange", () => {
    show();
    if (document.body.dataset.view === "detail" && matchMedia("(max-width: 760px)").matches) main.focus();
  });
  show();
  performance.mark("console-ready");
}

document.getElementById("side").append(list.element);
start();
