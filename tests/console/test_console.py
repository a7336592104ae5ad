"""The console in a real browser, with real devices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from oda.platform.testing import Fault, PongMode, RunningPlatform

from .browser import Browser, Page
from .device import Device

Connect = Callable[[str], Device]
Keep = Callable[[Page, str], None]

NOW_MS = 1_700_000_000_000


def named(device: str) -> str:
    """Whether the list shows a device."""
    return (
        "[...document.querySelectorAll('.device-row .device-id')]"
        f".some((it) => it.textContent === {json.dumps(device)})"
    )


def state_of(device: str, state: str) -> str:
    """Whether the list shows a device in this state."""
    return (
        "[...document.querySelectorAll('.device-row')].some((row) =>"
        f" row.querySelector('.device-id').textContent === {json.dumps(device)}"
        f" && row.querySelector('.dot').dataset.state === {json.dumps(state)})"
    )


def counter(label: str, value: str) -> str:
    """Whether a counter of the device's head has this value."""
    return (
        "[...document.querySelectorAll('.counters div')].some((it) =>"
        f" it.querySelector('dt').textContent === {json.dumps(label)}"
        f" && it.querySelector('dd').textContent === {json.dumps(value)})"
    )


POINTS = "Number(document.querySelector('.chart').dataset.points)"


def test_a_device_connects_and_appears(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """A device that connects while the console is open is listed as connected, and as away once
    it has gone."""
    page.open(platform.url)
    assert not page.evaluate(named("boiler"))
    device = connect("boiler")
    page.wait(state_of("boiler", "connected"))
    page.wait("document.getElementById('totals').textContent === '1 of 1 connected'")
    keep(page, "device-appears")
    device.__exit__(None, None, None)
    page.wait(state_of("boiler", "away"))


def test_a_chart_grows_live(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """Each datapoint that arrives becomes a point of the chart and the latest value, without a
    reload; one that arrives again does not."""
    device = connect("boiler")
    for index in range(20):
        device.report("temperature", NOW_MS + index * 1000, 20 + index % 7)
    page.open(f"{platform.url}/#/devices/boiler/datastreams")
    page.wait(f"{POINTS} === 20")
    line = "document.querySelector('.chart .chart-line').getAttribute('d')"
    before = page.evaluate(line)
    device.report("temperature", NOW_MS + 20_000, 33.25)
    page.wait("document.querySelector('.latest').textContent === '33.25'")
    assert page.evaluate(POINTS) == 21
    assert page.evaluate(line).count("L") == before.count("L") + 1
    device.report("temperature", NOW_MS + 20_000, 33.25)
    device.report("pressure", NOW_MS, 1013, feed="main")
    page.wait("document.querySelectorAll('.stream-row').length === 2")
    assert page.evaluate(POINTS) == 21
    assert "pressure · main" in page.text(".datastreams .list")
    keep(page, "chart-grows")


def test_the_counters_tell_what_the_platform_has_acknowledged(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """Messages read, pings received and pongs sent are counted while one looks; pings that were
    not answered stand out."""
    device = connect("boiler")
    page.open(f"{platform.url}/#/devices/boiler")
    device.report("t", NOW_MS, 1)
    device.report("t", NOW_MS + 1, 2)
    device.ping()
    page.wait(counter("Messages read", "2"))
    page.wait(counter("Pings received", "1"))
    page.wait(counter("Pongs sent", "1"))
    assert not page.evaluate("document.querySelector('.counters .lacking')")
    platform.set_fault(Fault(pong=PongMode.DROP), "boiler")
    device.ping()
    page.wait(counter("Pings received", "2"))
    page.wait("document.querySelector('.counters .lacking')?.textContent === '1'")


def test_an_operation_is_sent_from_the_form_and_shows_its_answer(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """The form's fields become the request's parameters; the exchange shows result, steps,
    duration and both documents."""
    device = connect("boiler")
    response = [
        {
            "variableName": "temperature",
            "variableValue": 21.5,
            "resultCode": "SUCCESS",
            "resultDescription": "SUCCESS",
        }
    ]
    step = {"name": "GET_DEVICE_PARAMETERS", "result": "SUCCESSFUL", "response": response}
    device.answers["GET_DEVICE_PARAMETERS"] = {
        "resultCode": "SUCCESSFUL",
        "resultDescription": "No Error.",
        "steps": [step],
    }
    page.open(f"{platform.url}/#/devices/boiler/operations")
    page.choose(".order select", "GET_DEVICE_PARAMETERS")
    page.click(".variable-name")
    page.type("temperature")
    page.click(".order button.primary")
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'SUCCESSFUL'")
    page.wait("document.querySelector('.step table')?.textContent.includes('21.5')")
    assert " ms" in page.text(".exchange .duration")
    page.wait("document.querySelectorAll('.transcript li').length === 3")
    page.click(".transcript li:last-child summary")
    page.wait("document.querySelector('.transcript pre')?.textContent.includes('\"steps\"')")
    keep(page, "operation-answered")
    (operation,) = platform.operations("boiler")
    assert operation.request["parameters"] == {"variableList": ["temperature"]}


@pytest.mark.parametrize(
    ("name", "fill", "parameters"),
    [
        ("REFRESH_INFO", [], None),
        (
            "SET_DEVICE_PARAMETERS",
            [(".variable-name", "limit"), (".variable-value", "17")],
            {"variableList": [{"name": "limit", "value": 17}]},
        ),
        (
            "SET_CLOCK_EQUIPMENT",
            [
                ("input[type=date]", "2024-02-03"),
                ("input[type=time]", "04:05:06"),
                ("input[type=number][max='14']", "1"),
                ("input[type=number][max='2']", "1"),
            ],
            {"datetime": {"date": "2024-02-03", "time": "04:05:06", "timezone": 1, "dst": 1}},
        ),
        ("SYNCHRONIZE_CLOCK", [(".parameters input", "ntp")], {"source": "ntp"}),
        ("REBOOT_EQUIPMENT", [], None),
        (
            "UPDATE",
            [
                (".element .field:nth-child(1) input", "pump"),
                (".element .field:nth-child(2) input", "2"),
                (".element .field:nth-child(5) input", "pump/pump.bin"),
                (".element .field:nth-child(6) input", "http://files.example/pump.bin"),
            ],
            {
                "bundleName": "bundle",
                "bundleVersion": "1",
                "deploymentElements": [
                    {
                        "name": "pump",
                        "version": "2",
                        "type": "SOFTWARE",
                        "operation": "INSTALL",
                        "order": 1,
                        "path": "pump/pump.bin",
                        "downloadUrl": "http://files.example/pump.bin",
                    }
                ],
            },
        ),
        ("REBOOT_EQUIPMENT", [(".reboot-type", "SOFTWARE")], {"type": "SOFTWARE"}),
        ("DISCOVER", [], None),
    ],
)
def test_the_form_knows_the_standard_operations(
    platform: RunningPlatform,
    page: Page,
    connect: Connect,
    name: str,
    fill: list[tuple[str, str]],
    parameters: object,
) -> None:
    """What is filled in arrives at the device as that operation's parameters."""
    connect("boiler")
    page.open(f"{platform.url}/#/devices/boiler/operations")
    page.choose(".order select", name)
    for selector, value in fill:
        page.evaluate(
            f"document.querySelector({json.dumps('.order ' + selector)}).value ="
            f" {json.dumps(value)}"
        )
    page.click(".order button.primary")
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'NOT_SUPPORTED'")
    (operation,) = platform.operations("boiler")
    assert operation.name == name
    assert operation.request.get("parameters") == parameters


def test_an_update_of_a_file_that_the_platform_serves(
    tmp_path: Path, page: Page, platform: RunningPlatform, keep: Keep
) -> None:
    """The form adds size and digest of a served file, several elements, and asks for what is
    missing."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "pump.bin").write_bytes(b"new")
    platform.stop()
    platform._options = ["--files", str(files)]
    platform.start()
    with Device(platform.device_url_of("boiler")) as device:
        device.wait_until_connected()
        page.open(f"{platform.url}/#/devices/boiler/operations")
        page.choose(".order select", "UPDATE")
        page.wait("document.querySelectorAll('.order datalist option').length === 1")
        page.click(".order button.primary")
        page.wait("document.querySelector('.order .problem').textContent.includes('Name each')")
        page.type("pump")
        url = page.evaluate("document.querySelector('.order datalist option').value")
        page.click(".element .field:nth-child(6) input")
        page.type(url)
        page.click(".elements + button")
        page.type("stale")
        page.choose(".element:nth-child(2) .field:nth-child(4) select", "UNINSTALL")
        keep(page, "update")
        page.click(".order button.primary")
        page.wait("document.querySelector('.exchange .pill')?.textContent === 'NOT_SUPPORTED'")
    (operation,) = platform.operations("boiler")
    first, second = operation.request["parameters"]["deploymentElements"]
    assert (first["downloadUrl"], first["size"]) == (f"{platform.url}/files/pump.bin", 3)
    digest = hashlib.sha256(b"new").hexdigest()
    assert first["validators"] == [{"type": "SHA-256", "value": digest}]
    assert (second["operation"], second["order"]) == ("UNINSTALL", 2)
    assert "downloadUrl" not in second


def test_any_operation_is_sent_as_json_and_mistakes_are_named(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """A name of one's own and free JSON go out as they are; what can't be sent is said beside the
    form, and nothing is sent."""
    connect("boiler")
    page.open(f"{platform.url}/#/devices/boiler/operations")
    page.choose(".order select", "other")
    page.click(".order button.primary")
    page.wait("document.querySelector('.order .problem').textContent === 'Name the operation.'")
    page.type("BLINK")
    page.click(".order textarea")
    page.type("{nonsense")
    page.click(".order button.primary")
    page.wait("document.querySelector('.order .problem').textContent.includes('no JSON')")
    assert platform.operations("boiler") == []
    page.click(".order textarea")
    page.type('{"colour": "red"}')
    page.click(".order button.primary")
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'NOT_SUPPORTED'")
    (operation,) = platform.operations("boiler")
    assert (operation.name, operation.request["parameters"]) == ("BLINK", {"colour": "red"})


def test_whole_numbers_beyond_the_doubles_are_exact(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """A 64-bit value is shown as the device said it, and sent as it was typed."""
    large = 2**63 - 25
    connect("boiler").report("counter", NOW_MS, large)
    page.open(f"{platform.url}/#/devices/boiler/datastreams")
    page.wait(f"document.querySelector('.latest')?.textContent === '{large}'")
    page.evaluate("location.hash = '#/devices/boiler/operations'")
    page.wait("document.querySelector('.order')")
    page.choose(".order select", "SET_DEVICE_PARAMETERS")
    page.click(".variable-name")
    page.type("counter")
    page.click(".variable-value")
    page.type(str(large))
    page.click(".order button.primary")
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'NOT_SUPPORTED'")
    (operation,) = platform.operations("boiler")
    assert operation.request["parameters"]["variableList"] == [{"name": "counter", "value": large}]


def test_a_device_behind_a_gateway_is_reached_through_it(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """It counts as reachable while its gateway is connected; its operations and faults go to the
    gateway's connection, named for the device."""
    gateway = connect("gateway")
    stream = {"id": "humidity", "datapoints": [{"at": NOW_MS, "value": 44}]}
    gateway.send(
        {"version": "9.0", "device": "sensor", "path": ["gateway"], "datastreams": [stream]}
    )
    page.open(f"{platform.url}/#/devices/sensor/datastreams")
    page.wait(state_of("sensor", "behind"))
    page.wait("document.querySelector('.latest')?.textContent === '44'")
    page.evaluate("location.hash = '#/devices/sensor/operations'")
    page.click(".order button.primary")
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'NOT_SUPPORTED'")
    (operation,) = platform.operations("gateway")
    assert operation.request["deviceId"] == "sensor"
    assert operation.request["path"] == ["gateway"]
    page.evaluate("location.hash = '#/devices/sensor/faults'")
    page.click("[data-fault=freeze] [role=switch]")
    page.wait("document.querySelector('.switch.on')")
    assert platform.call("GET", "/faults")["devices"] == {"gateway": {"freeze": True}}


def test_an_operation_waits_for_a_device_that_is_away(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """It is shown as queued, and as answered once the device has come and answered."""
    platform.post_operation("boiler", "REFRESH_INFO")
    page.open(platform.url)
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'queued'")
    connect("boiler")
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'NOT_SUPPORTED'")


def test_a_fault_is_switched_on_and_the_device_recovers_after(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """A device that is refused stays away and is marked; once the switch is off it is back."""
    connect("boiler")
    page.open(f"{platform.url}/#/devices/boiler/faults")
    page.wait(state_of("boiler", "connected"))
    page.choose("[data-fault=refuse] select", "503")
    page.click("[data-fault=refuse] [role=switch]")
    page.wait("document.querySelector('.device-row .badge')?.textContent === 'fault'")
    page.click(".incidents button")
    page.wait(state_of("boiler", "away"))
    keep(page, "fault-in-force")
    assert platform.call("GET", "/devices/boiler/faults")["own"] == {"refuse": "503"}
    page.click("[data-fault=refuse] [role=switch]")
    page.wait(state_of("boiler", "connected"))
    page.wait("document.querySelector('.device-row .badge').hidden")
    assert platform.call("GET", "/devices/boiler/faults")["own"] == {}


def test_every_fault_has_a_switch(platform: RunningPlatform, page: Page) -> None:
    """Each switch puts its fault in force for all devices, with the values beside it; a change
    made elsewhere moves the switches."""
    page.open(f"{platform.url}/#/faults")
    for one in ("freeze", "slow", "pong", "terminateAfterPings", "closeAboveBytes", "operations"):
        page.click(f"[data-fault={one}] [role=switch]")
        page.wait(f"document.querySelector('.switch.on[data-fault={one}]')")
    page.choose("[data-fault=end] select", "close")
    page.click("[data-fault=end] [role=switch]")
    page.wait("document.getElementById('all-faults').textContent === 'Faults for all: 7'")
    assert platform.call("GET", "/faults")["all"] == {
        "freeze": True,
        "slow": 1000,
        "pong": "drop",
        "pongDelay": 1,
        "terminateAfterPings": 3,
        "closeAboveBytes": 1000,
        "operations": "duplicate",
        "close": 1011,
    }
    platform.set_fault(Fault(freeze=True))
    page.wait("document.querySelectorAll('.switch.on').length === 1")
    platform.clear_fault()
    page.wait("document.querySelectorAll('.switch.on').length === 0")


def test_a_name_that_is_markup_is_harmless(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """Datastreams, values, devices and answers are shown as the text they are, on every tab."""
    markup = '<img src=x onerror="window.hit=1">'
    name = '"><svg onload=window.hit=1>'
    device = connect(name)
    device.answers["REFRESH_INFO"] = {
        "resultCode": markup,
        "resultDescription": markup,
        "steps": [{"name": markup, "result": markup, "description": markup, "response": [markup]}],
    }
    device.report(markup, NOW_MS, markup, feed=markup)
    platform.send_operation(name, "REFRESH_INFO", timeout_s=10)
    page.open(platform.url)
    page.click(".device-row")
    page.wait("document.querySelector('.stream-value')?.textContent.startsWith('<img')")
    assert page.text(".device-head h1") == name
    assert page.text(".stream-id") == f"{markup} · {markup}"
    keep(page, "markup-is-text")
    for tab in ("operations", "messages", "connections", "faults"):
        page.evaluate(f"location.hash = location.hash.replace(/[^/]+$/, '{tab}')")
        page.wait(
            f"document.querySelector('.tabs [aria-current]')?.textContent.toLowerCase() === '{tab}'"
        )
        if tab == "operations":
            page.click(".exchange summary")
            page.wait("document.querySelector('.step')")
        if tab == "messages":
            page.click(".message-row")
            page.wait("document.querySelector('.message pre')")
        assert (
            page.evaluate("document.querySelectorAll('#main img, #main svg[onload]').length") == 0
        )
    assert page.evaluate("window.hit === undefined")


def test_raw_messages_are_listed_with_format_and_size(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """Newest first, live, in both directions; a binary one is shown as bytes and decoded."""
    device = connect("boiler")
    device.report("t", NOW_MS, 1)
    page.open(f"{platform.url}/#/devices/boiler/messages")
    page.wait("document.querySelectorAll('.message-row').length === 1")
    packed = b"\x81\xabdatastreams\x90"
    device.send(packed)
    page.wait("document.querySelectorAll('.message-row').length === 2")
    page.click(".messages [aria-posinset='1']")
    page.wait("document.querySelectorAll('.message pre').length === 2")
    shown = page.text(".message")
    assert "MessagePack, binary frame" in shown
    assert f"{len(packed)} bytes" in shown
    assert '"datastreams": []' in shown
    assert "81 ab 64 61" in shown
    keep(page, "messages")


def test_the_console_is_worked_by_keyboard_alone(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """From the list to a device, to its operations, through the form to an answer: only keys;
    Tab reaches everything, shows where it is, and leaves again."""
    connect("alpha")
    connect("boiler")
    page.open(platform.url)
    page.wait(state_of("boiler", "connected"))

    def tab_to(selector: str, limit: int = 40) -> None:
        found = f"document.activeElement.matches({json.dumps(selector)})"
        for _ in range(limit):
            page.press("Tab")
            if page.evaluate(found):
                break
        assert page.evaluate(found), f"Tab does not reach {selector}"
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none", f"{selector} does not show that it has the focus"

    tab_to(".side [role=listbox]")
    page.press("ArrowDown")
    page.press("Enter")
    page.wait("document.querySelector('.device-head h1')?.textContent === 'boiler'")
    tab_to(".tabs a[href$=operations]")
    page.press("Enter")
    page.wait("document.querySelector('.order')")
    tab_to(".order button.primary")
    page.press("Enter")
    page.wait("document.querySelector('.exchange .pill')?.textContent === 'NOT_SUPPORTED'")
    tab_to(".exchange > summary")
    page.press("Enter")
    page.wait("!document.querySelector('.exchange').open")
    for _ in range(60):
        page.press("Tab", shift=True)
        if page.evaluate("document.activeElement.matches('.skip')"):
            return
    raise AssertionError("Shift+Tab does not lead back to the top")


def test_the_list_is_walked_from_end_to_end(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """End and Home go to the last and the first row; what is read out follows."""
    for index in range(40):
        platform.post_operation(f"d{index}", "X")
    for index in range(0, 40, 13):
        connect(f"d{index}")
    page.open(platform.url)
    active = (
        "document.getElementById(document.querySelector('[role=listbox]')"
        ".getAttribute('aria-activedescendant'))?.querySelector('.device-id').textContent"
    )
    page.wait(state_of("d39", "connected"))
    page.evaluate("document.querySelector('[role=listbox]').focus()")
    page.press("End")
    page.wait(f"{active} === 'd39'")
    page.press("Home")
    page.wait(f"{active} === 'd0'")


def test_controls_have_names(platform: RunningPlatform, page: Page, connect: Connect) -> None:
    """Every control that is seen has a name for those who don't see it."""
    device = connect("boiler")
    device.report("t", NOW_MS, 1)
    page.open(platform.url)
    for route in (
        "",
        *(f"devices/boiler/{tab}" for tab in ("datastreams", "operations", "faults")),
    ):
        page.evaluate(f"location.hash = '#/{route}'")
        page.wait("document.querySelector('#main h1')")
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        controls = {
            "button",
            "textbox",
            "combobox",
            "checkbox",
            "switch",
            "spinbutton",
            "searchbox",
        }
        nameless = [
            node["role"]["value"]
            for node in nodes
            if node.get("role", {}).get("value") in controls
            and not node["ignored"]
            and not node.get("name", {}).get("value")
        ]
        assert not nameless, route


def test_the_live_changes_survive_a_restart_of_the_platform(
    browser: Browser, tmp_path: Path
) -> None:
    """The console reconnects by itself, says which event it saw last, and shows what happened
    while it was cut off."""
    options = ["--database", str(tmp_path / "platform.sqlite")]
    with RunningPlatform(options) as platform:
        page = browser.new_page()
        with Device(platform.device_url_of("boiler")) as device:
            page.open(f"{platform.url}/#/devices/boiler/datastreams")
            device.report("t", NOW_MS, 1)
            page.wait("document.querySelector('.latest').textContent === '1'")
            platform.stop()
            page.wait("document.getElementById('live').dataset.state !== 'live'")
            platform.start()
            device.wait_until_connected()
            device.report("t", NOW_MS + 1000, 2)
            page.wait("document.getElementById('live').dataset.state === 'live'")
            page.wait("document.querySelector('.latest').textContent === '2'")
            page.wait(state_of("boiler", "connected"))
        sent = [headers for headers in page.request_headers if "Last-Event-ID" in headers]
        assert sent
        assert sent[-1]["Last-Event-ID"].isdigit()
        page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen_and_the_theme(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep, theme: str, width: int
) -> None:
    """Nothing is wider than the screen, and the colours are those of the theme, on every tab."""
    device = connect("a-device-with-quite-a-long-name-0123456789-0123456789-0123456789")
    for index in range(50):
        device.report("temperature", NOW_MS + index * 1000, 20 + (index * 7) % 5)
    device.report("x" * 200, NOW_MS, "y" * 500)
    page.use_theme(theme)
    page.resize(width, 844)
    page.open(platform.url)
    page.wait("document.querySelector('.device-row')")
    keep(page, f"list-{theme}-{width}")
    page.click(".device-row")
    for tab in ("datastreams", "operations", "messages", "connections", "faults"):
        page.evaluate(f"location.hash = location.hash.replace(/[^/]+$/, '{tab}')")
        page.wait(
            f"document.querySelector('.tabs [aria-current]')?.textContent.toLowerCase() === '{tab}'"
        )
        if tab == "datastreams":
            page.wait(f"{POINTS} === 50")
        assert page.evaluate("document.getElementById('main').scrollWidth <= innerWidth"), tab
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
        keep(page, f"{tab}-{theme}-{width}")
    red, *_ = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red > 128) == (theme == "light")


def test_the_datastream_that_moves_is_opened(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """A constant number that comes first by name says nothing; a choice by hand stays."""
    device = connect("boiler")
    for index in range(5):
        device.report("device.cpu.total", NOW_MS + index, 4)
        device.report("device.cpu.usage", NOW_MS + index, 10 + index)
    page.open(f"{platform.url}/#/devices/boiler")
    page.wait("document.querySelector('.panel h2').textContent === 'device.cpu.usage'")
    assert page.evaluate("document.querySelectorAll('.panel h2 wbr').length") == 2
    page.click(".stream-row")
    page.wait("document.querySelector('.panel h2').textContent === 'device.cpu.total'")
    device.report("device.cpu.usage", NOW_MS + 9, 50)
    page.wait("document.querySelector('.datastreams .list').textContent.includes('50')")
    assert page.text(".panel h2") == "device.cpu.total"


def test_the_messages_have_heads_and_say_who_sent_them(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """A stranger need not guess from whose side a message was "read"."""
    device = connect("boiler")
    device.report("t", NOW_MS, 1)
    page.open(f"{platform.url}/#/devices/boiler/messages")
    page.wait("document.querySelectorAll('.message-row').length === 1")
    heads = "[...document.querySelectorAll('.message-head span')].map((it) => it.textContent)"
    assert page.evaluate(heads) == ["Time", "Sent by", "Format", "Size", "Content"]
    assert page.text(".message-row .message-direction") == "device"


def test_an_empty_list_says_how_to_connect_a_device(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """On a phone the list of devices is all there is: the address stands in it, until a device has
    connected."""
    page.resize(390, 800)
    page.open(platform.url)
    page.wait("!document.querySelector('.connect-help').hidden")
    assert f"{platform.device_url}/<deviceId>" in page.text(".connect-help")
    connect("boiler")
    page.wait(state_of("boiler", "connected"))
    assert page.evaluate("document.querySelector('.connect-help').hidden")


#: The elements of the device's page that scroll up and down by themselves, the page excepted.
OWN_SCROLLERS = (
    "[...document.querySelectorAll('#main *')].filter((it) => it.scrollHeight > it.clientHeight + 1"
    " && ['auto', 'scroll'].includes(getComputedStyle(it).overflowY)).map((it) => it.className)"
)
SETTLED = "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"


def test_the_lists_of_a_device_scroll_with_its_page(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """The device's page has one scroller: however long its lists are, their last row comes into
    sight when the page scrolls, and only the rows in sight exist."""
    device = connect("boiler")
    for index in range(100):
        device.report(f"stream.{index:02}", NOW_MS, index)
    for tab, row, last in (
        ("datastreams", "stream-row", "stream.99"),
        ("messages", "message-row", "stream.00"),
    ):
        page.open(f"{platform.url}/#/devices/boiler/{tab}")
        page.wait(f"document.querySelector('.{row}')?.getAttribute('aria-setsize') === '100'")
        assert page.evaluate(OWN_SCROLLERS) == [], tab
        page.evaluate("document.getElementById('main').scrollTop = 1e9")
        page.wait(
            f"[...document.querySelectorAll('.{row}')].some((it) => it.textContent.includes("
            f"'{last}') && it.getBoundingClientRect().bottom <= innerHeight)"
        )
        keep(page, f"one-scroller-{tab}")
        assert page.evaluate(f"document.querySelectorAll('.{row}').length") < 60
    page.evaluate("document.querySelector('.messages .list').focus()")
    for key, expected in (("Home", "1"), ("End", "100"), ("Home", "1")):
        page.press(key)
        page.wait(
            f"(() => {{ const it = document.querySelector('.messages .row.active');"
            f" const {{top, bottom}} = it.getBoundingClientRect();"
            f" return it.getAttribute('aria-posinset') === '{expected}'"
            f" && top >= 0 && bottom <= innerHeight; }})()"
        )


def test_a_message_opens_below_its_row_which_stays_in_place(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep
) -> None:
    """One reads a message where one has found it, and closes it with a second click; opening
    another one does not move the row under the pointer."""
    device = connect("boiler")
    for index in range(60):
        device.report("stream", NOW_MS + index, index)
    page.open(f"{platform.url}/#/devices/boiler/messages")
    page.wait("document.querySelector('.message-row')?.getAttribute('aria-setsize') === '60'")
    top = "document.querySelector('.messages [aria-selected=true]').getBoundingClientRect().top"
    page.click(".messages [aria-posinset='3']")
    page.wait("document.querySelectorAll('.message pre').length === 2")
    detail = "document.querySelector('.message').getBoundingClientRect().top"
    assert 0 < page.evaluate(f"{detail} - {top}") < 60
    found = "document.querySelector('.messages [aria-posinset=\"22\"]')"
    page.evaluate("document.getElementById('main').scrollTop = 1200")
    page.wait(found)
    page.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
    page.evaluate(SETTLED)
    row = f"{found}.getBoundingClientRect().top"
    before = page.evaluate(row)
    page.click(".messages [aria-posinset='22']")
    page.wait("document.querySelector('.message h2')?.textContent === 'Message 39'")
    page.evaluate(SETTLED)
    assert abs(page.evaluate(row) - before) <= 1
    keep(page, "message-below-its-row")
    page.click(".messages [aria-posinset='22']")
    page.wait("document.querySelector('.message').offsetHeight === 0")
    assert abs(page.evaluate(row) - before) <= 1


@pytest.mark.parametrize("width", [390, 1280])
def test_the_fields_of_set_use_the_width_of_the_form(
    platform: RunningPlatform, page: Page, connect: Connect, keep: Keep, width: int
) -> None:
    """A datastream's name has the whole width of the form, its value at least half of it."""
    connect("boiler")
    page.resize(width, 844)
    page.open(f"{platform.url}/#/devices/boiler/operations")
    page.choose(".order select", "SET_DEVICE_PARAMETERS")
    name, value, form = (
        page.evaluate(f"document.querySelector('.order {one}').getBoundingClientRect().width")
        for one in (".variable-name", ".variable-value", "select")
    )
    keep(page, f"set-form-{width}")
    assert name == form
    assert value > form / 2


def test_each_message_is_listed_once(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """The first page and the look for newer messages are asked for at the same time. Whichever
    answer comes first, no message is listed twice."""
    device = connect("boiler")
    for index in range(30):
        device.report("stream", NOW_MS + index, index)
    page.run_first(
        "const plain = window.fetch; window.fetch = async (url, ...rest) => {"
        " const slow = String(url).includes('messages') && !String(url).includes('after=');"
        " if (slow) await new Promise((go) => setTimeout(go, 300)); return plain(url, ...rest); }"
    )
    page.open(f"{platform.url}/#/devices/boiler/messages")
    page.wait("document.querySelector('.messages .list-title').textContent.includes('message')")
    page.evaluate("new Promise((go) => setTimeout(go, 1500))")
    assert page.text(".messages .list-title") == "30 messages"


def test_the_rows_of_a_phone_hold_long_names(
    platform: RunningPlatform, page: Page, connect: Connect
) -> None:
    """A name that takes two lines stays within its row."""
    device = connect("boiler")
    device.report("a.very.long.name.of.a.stream.with.many.parts.indeed", NOW_MS, 1)
    page.resize(390, 844)
    page.open(f"{platform.url}/#/devices/boiler/datastreams")
    page.wait("document.querySelector('.stream-row')")
    row, name, value = (
        page.evaluate(
            f"(() => {{ const it = document.querySelector('.{one}').getBoundingClientRect();"
            " return [it.top, it.bottom]; })()"
        )
        for one in ("stream-row", "stream-id", "stream-value")
    )
    assert row[0] <= name[0] <= name[1] <= value[1] <= row[1]


def test_an_empty_list_says_how_to_connect_an_agent(platform: RunningPlatform, page: Page) -> None:
    """The command leads to this platform, not to one of its own as ``oda demo`` has."""
    page.open(platform.url)
    page.wait("document.querySelector('.connect-help')?.textContent.includes('oda init')")
    port = platform.device_url_of("x").split(":")[2].partition("/")[0]
    text = page.text(".connect-help")
    assert f"oda init my-conf --host 127.0.0.1 --port {port}" in text
    assert "oda demo" not in text
