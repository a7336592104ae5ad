"""1,000 devices and 100,000 datapoints: the page stays small and answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oda.platform.clock import SystemClock
from oda.platform.database import Database
from oda.platform.recording import Recording
from oda.platform.store import Store
from oda.platform.testing import RunningPlatform
from oda.platform.wire import Point, Telemetry

from .browser import Browser, Page
from .device import Device

DEVICES = 1000
NOW_MS = 1_700_000_000_000
#: Of one page with everything in it. A row for each device alone would be more.
MAX_NODES = 1500

_WATCH = """
window.stalls = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.stalls.push(Math.round(entry.duration));
}).observe({ type: "longtask", buffered: true });
"""


@pytest.fixture(scope="module")
def full_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """1,000 devices; half of the 100,000 datapoints are of the first one, in 50 datastreams."""
    path = tmp_path_factory.mktemp("full") / "platform.sqlite"
    _fill(path)
    with RunningPlatform(["--database", str(path)]) as platform:
        yield platform


def _fill(path: Path) -> None:
    database = Database(path, False)
    store, recording = Store(database, SystemClock()), Recording(database, SystemClock())
    for index in range(50):
        points = [Point(f"stream.{index}", at % 97, "", NOW_MS + at * 1000) for at in range(1000)]
        store.received("device-0000", Telemetry(None, (), points))
    for index in range(1, DEVICES):
        device = f"device-{index:04d}"
        points = [Point("t", at, "", NOW_MS + at * 1000) for at in range(50)]
        store.received(device, Telemetry(None, (), points))
    for index in range(20_000):
        recording.add(1, index + 1, "device-0000", "in", b'{"datastreams":[]}', False, "JSON")
    store.received("device-0000", Telemetry(None, (), [Point("t", at) for at in range(50)]))
    database.close()


def nodes(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


def report(what: str, page: Page) -> None:
    """Print what can be measured; a time is no rule on a computer that others use as well."""
    stalls = page.evaluate("window.stalls")
    since_ms = page.evaluate("performance.getEntriesByName('console-ready')[0].startTime")
    text = f"{what}: {nodes(page)} elements, tasks over 50 ms: {stalls or 'none'}"
    print(f"\n{text} (ready {since_ms:.0f} ms after the start)")  # noqa: T201 - a figure to read


def test_a_full_platform_is_shown_without_stalling(
    full_platform: RunningPlatform, browser: Browser
) -> None:
    """The page holds only the rows that are seen, wherever one scrolls, and takes live changes of
    a full device as they come."""
    assert len(full_platform.devices()) == DEVICES
    page = browser.new_page()
    page.resize(1280, 800)
    page.run_first(_WATCH)
    page.open(full_platform.url)
    page.wait("document.getElementById('totals').textContent === '0 of 1,000 connected'")
    page.wait("document.querySelectorAll('.device-row').length > 10")
    report("list", page)
    assert nodes(page) < MAX_NODES

    page.evaluate("document.querySelector('.devices .list').scrollTop = 1e9")
    page.wait("document.querySelector('.devices .list').textContent.includes('device-0999')")
    assert nodes(page) < MAX_NODES

    page.evaluate("location.hash = '#/devices/device-0000/datastreams'")
    page.wait("document.querySelector('.list-title')?.textContent === '51 datastreams'")
    page.wait("Number(document.querySelector('.chart').dataset.points) === 1000")
    report("full device", page)
    assert nodes(page) < MAX_NODES

    with Device(full_platform.device_url_of("device-0000")) as device:
        for batch in range(40):
            streams = [
                {
                    "id": f"stream.{index}",
                    "datapoints": [{"at": NOW_MS + 2_000_000 + batch, "value": batch}],
                }
                for index in range(50)
            ]
            device.send({"version": "9.0", "datastreams": streams})
        page.wait("Number(document.querySelector('.chart').dataset.points) === 1040")
        page.wait("document.querySelector('.latest').textContent === '39'")
    report("after 2,000 live datapoints", page)
    assert nodes(page) < MAX_NODES

    page.evaluate("location.hash = '#/devices/device-0000/messages'")
    page.wait("document.querySelectorAll('.message-row').length > 10")
    for _ in range(5):
        page.evaluate("document.getElementById('main').scrollTop = 1e9")
        page.evaluate("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
    page.wait("Number(document.querySelector('.message-row').getAttribute('aria-setsize')) > 400")
    report("messages", page)
    assert nodes(page) < MAX_NODES
    assert not page.problems

    page.evaluate(
        "void setTimeout(() => { const end = performance.now() + 500;"
        " while (performance.now() < end); })"
    )
    page.wait("window.stalls.some((ms) => ms >= 500)")  # the watch itself works
    page.close()


def test_the_list_is_filtered_as_one_types(
    full_platform: RunningPlatform, browser: Browser
) -> None:
    """Of a thousand devices those that match remain, by the keys of a keyboard."""
    page = browser.new_page()
    page.resize(1280, 800)
    page.open(full_platform.url)
    page.click("input[type=search]")
    page.type("0420")
    page.wait("document.querySelectorAll('.device-row').length === 1")
    page.click(".device-row")
    page.wait("document.querySelector('.device-head h1')?.textContent === 'device-0420'")
    assert not page.problems
    page.close()
