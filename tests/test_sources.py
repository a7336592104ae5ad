"""Sources and device infos of other people, in an agent that lives on a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from oda.agent import STOP_SOURCE_S, Agent
from oda.assembly import build_parts
from oda.config.loader import load
from oda.interfaces import ICounters, IDatastreamSource, IDeviceInfoProvider, IWallClock
from oda.model import Event
from oda.outbox.outbox import Outbox, make_outbox
from oda.outbox.worker import InlineWorker
from oda.settings import AgentSettings

ERRORS = [SystemExit("no bus"), asyncio.CancelledError("no bus"), ValueError("no bus")]


def _make_outbox(
    settings: AgentSettings, reactor: Any, wall_clock: IWallClock, counters: ICounters
) -> Outbox:
    return make_outbox(settings.outbox, reactor, wall_clock, counters, InlineWorker())


@pytest.fixture
def make_agent(tmp_path: Path) -> Callable[..., Any]:
    """An agent with the given components, and its reactor."""
    texts = {
        "connector.websocket": "outbox=memory\nhost=127.0.0.1\nport=9\npath=p\n",
        "datastreams.deviceinfo": "deviceId=dev-1\napiKey=k\n",
    }
    for component, text in texts.items():
        (tmp_path / f"es.amplia.oda.{component}.cfg").write_text(text)

    def make(*components: object) -> tuple[Agent, MemoryReactorClock]:
        reactor = MemoryReactorClock()
        assemble = partial(build_parts, make_outbox=_make_outbox)
        settings = load(tmp_path, {}).settings
        return Agent(settings, components, reactor, environ={}, assemble=assemble), reactor

    return make


def stop(agent: Agent) -> list[Any]:
    stopped: list[Any] = []
    agent.stopService().addBoth(stopped.append)
    return stopped


@implementer(IDatastreamSource)
class Property:
    """A source whose methods can't even be looked at."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @property
    def start(self) -> Any:
        raise self.error

    @property
    def stop(self) -> Any:
        raise self.error


@implementer(IDatastreamSource)
class Stubborn:
    """A source that never stops."""

    def start(self, publish: Any) -> None:
        pass

    def stop(self) -> Deferred[None]:
        return Deferred()


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_source_that_cannot_be_looked_at(
    make_agent: Callable[..., Any], error: BaseException
) -> None:
    """The agent starts and stops all the same, as a whole."""
    agent, reactor = make_agent(Property(error))
    agent.startService()
    reactor.advance(0)
    stopped = stop(agent)
    reactor.pump([0] * 3)
    assert stopped == [None]
    assert agent.parts.outbox.counts()["waiting"] == 0
    assert reactor.getDelayedCalls() == []


def test_sources_that_never_stop_are_waited_for_together(make_agent: Callable[..., Any]) -> None:
    """However many they are, the end of the agent comes after the time of one."""
    agent, reactor = make_agent(*[Stubborn() for _ in range(10)])
    agent.startService()
    reactor.advance(0)
    stopped = stop(agent)
    reactor.advance(STOP_SOURCE_S - 0.1)
    assert stopped == []
    reactor.pump([0.1, 0, 0])
    assert stopped == [None]


@implementer(IDeviceInfoProvider)
class Info:
    """Gives the ids in order; an exception is raised."""

    def __init__(self, *ids: Any) -> None:
        self.ids = list(ids)

    def device_id(self) -> Any:
        given = self.ids.pop(0) if len(self.ids) > 1 else self.ids[0]
        if isinstance(given, BaseException):
            raise given
        return given

    def api_key(self) -> str:
        return "k"

    def serial_number(self) -> str:
        return "s"

    def software(self) -> list[dict[str, str]]:
        return []


@pytest.mark.parametrize(
    "given", [5, None, "", b"dev", "caf\udce9", SystemExit("no bus")], ids=repr
)
def test_a_device_id_that_is_none_is_asked_for_again(
    make_agent: Callable[..., Any], given: object
) -> None:
    """Nothing is published under it: what was published before waits until there is one."""
    agent, reactor = make_agent(Info(given, "dev-2"))
    agent.startService()
    outcome: list[Any] = []
    agent.publish(Event("t", 1)).addBoth(outcome.append)
    reactor.advance(1)
    assert outcome == []
    assert agent.parts.host_id == ""
    reactor.advance(60)
    assert outcome == [None]
    assert agent.parts.host_id == "dev-2"
    stop(agent)
