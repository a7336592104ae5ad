"""What the plugins of the field have in common."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event as Signal
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from oda.errors import ReadingFailed
from oda.field import Line, OneAtATime, place_of, read_lines
from oda.plugins.modbus import modbus
from oda.plugins.mqtt import mqtt
from oda.plugins.snmp import snmp
from tests.plugins.loop import LIMIT_S, Loop

# Imported whole before a part of them is hidden: they notice once what there is.
for library in ("pymodbus.client", "serial", "pysnmp.hlapi.v3arch.asyncio", "paho.mqtt.client"):
    pytest.importorskip(library)


def test_a_line() -> None:
    """Members with commas between; a value may hold colons."""
    line = Line("o", "ip: ::1 , port:7,on:TRUE")
    assert (line.text("ip"), line.number("port", 1, 9), line.flag("on")) == ("::1", 7, True)
    assert (line.text("none", "x"), line.flag("off")) == ("x", False)
    line.end()


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    """The file holds the secret and nothing else; one that can't be read is told."""
    (tmp_path / "secret").write_text("s3,cret\n")
    assert Line("o", f"keyFile:{tmp_path}/secret").secret("key") == "s3,cret"
    assert Line("o", "key:plain").secret("key") == "plain"
    with pytest.raises(ValueError, match="'keyFile' of the option 'o'"):
        Line("o", f"keyFile:{tmp_path}/none").secret("key")


def test_names() -> None:
    """A datastream's id may have dots; the device is the host where none is named."""
    lines = read_lines(
        {"datastream.a.b;c": "x:1", "connection.c": "y:2"}, ("connection", "datastream")
    )
    assert list(lines["datastream"]) == ["a.b;c"]
    assert place_of("a.b;c") == ("a.b", "c")
    assert place_of("a.b") == ("a.b", "")


@pytest.mark.parametrize(
    ("plugin", "library", "options"),
    [
        (modbus, "pymodbus.client", {"connection.c": "host:h"}),
        (modbus, "serial", {"connection.c": "serial:/dev/x"}),
        (snmp, "pysnmp.hlapi.v3arch.asyncio", {"agent.a": "ip:h"}),
        (mqtt, "paho.mqtt.client", {"broker.b": "host:h"}),
    ],
)
def test_a_library_that_is_missing(
    plugin: Any, library: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text says how to install it."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"pip install 'oda-websocket\[{plugin.name}\]'"):
        list(plugin.create(options, Loop()))


class Client:
    """A client whose calls block until they are let go."""

    def __init__(self) -> None:
        self.is_closed = False
        self.may_go = Signal()
        self.has_begun = Signal()

    def work(self) -> str:
        self.has_begun.set()
        assert self.may_go.wait(LIMIT_S)
        return "done"


def test_a_call_that_was_cancelled_still_has_its_turn() -> None:
    """A library's client is never used by two calls at once, also where the first was given up."""
    loop, client = Loop(), Client()
    access = OneAtATime(loop, lambda: client, lambda one: setattr(one, "is_closed", True))
    first = access.call(Client.work)
    assert client.has_begun.wait(LIMIT_S)
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    order: list[str] = []
    second = access.call(lambda one: order.append(f"second, {one.may_go.is_set()}"))
    client.may_go.set()
    loop.result(second)
    assert order == ["second, True"]
    loop.result(access.stop())
    assert client.is_closed


def test_an_answer_keeps_the_connection_and_a_fault_does_not() -> None:
    """What the device refuses is an answer; anything else may have left the connection in any
    state."""
    loop = Loop()
    made: list[Client] = []

    def connect() -> Client:
        made.append(Client())
        return made[-1]

    def fail_with(error: Exception) -> Any:
        def work(_: Client) -> None:
            raise error

        return work

    access = OneAtATime(loop, connect, lambda one: setattr(one, "is_closed", True))
    for error, clients in ((ReadingFailed("no"), 1), (OSError("gone"), 1), (OSError("gone"), 2)):
        with pytest.raises(type(error)):
            loop.result(access.call(fail_with(error)))
        assert len(made) == clients
    assert all(one.is_closed for one in made)
    loop.result(access.stop())
