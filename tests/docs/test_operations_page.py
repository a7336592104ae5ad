"""The requests of docs/operations.md and of its further pages get the answers behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.agent import Agent
from oda.errors import WritingFailed
from oda.interfaces import IDatastreamGetter, IDatastreamSetter, IOperation, IWallClock
from oda.model import HOST, Answer, ContentType, Reading
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    DispatcherSettings,
    OutboxKind,
    OutboxSettings,
    Secret,
)
from tests.docs.pages import ROOT, Page

STANDARD = Page(ROOT / "docs/operations.md")
CLOCK = Page(ROOT / "docs/clock-operations.md")
OWN = Page(ROOT / "docs/own-operations.md")
PAGES = (STANDARD, CLOCK, OWN)
AT_MS = 1_700_000_000_000
DOCUMENTS = [json.loads(block.text) for page in PAGES for block in page.of("json")]
EXCHANGES = list(zip(DOCUMENTS[::2], DOCUMENTS[1::2], strict=True))


@implementer(IWallClock)
class StoppedClock:
    """The time of the page."""

    def now_ms(self) -> int:
        return AT_MS


@implementer(IDatastreamGetter, IDatastreamSetter)
class Target:
    """The heater of the page."""

    datastream_id = "heating.target"

    def __init__(self) -> None:
        self.target = 20.5

    def devices(self) -> list[str]:
        return [HOST]

    def get(self, device_id: str) -> Reading:
        return Reading(self.target)

    def set(self, device_id: str, value: Any) -> None:
        if not 5 <= value <= 30:
            raise WritingFailed("must be from 5 to 30")
        self.target = value


@implementer(IDatastreamGetter)
class Thermometer:
    """The device behind the agent."""

    datastream_id = "room.temperature"

    def devices(self) -> list[str]:
        return ["sensor-1"]

    def get(self, device_id: str) -> Reading:
        return Reading(19.5, AT_MS)


@implementer(IDatastreamSetter)
class RecordingClock:
    """Takes the place of the machine's clock, which no test may set."""

    datastream_id = "test.clock"

    def __init__(self) -> None:
        self.set_to: list[int] = []

    def devices(self) -> list[str]:
        return [HOST]

    def set(self, device_id: str, value: Any) -> None:
        self.set_to.append(value)


class Pump:
    """The pump of the page's own operations."""

    has_water = True

    def __init__(self) -> None:
        self.litres: list[int] = []

    def run(self, litres: int) -> None:
        self.litres.append(litres)


class Garden:
    """An agent as the pages describe it, with their own operations."""

    def __init__(self, tmp_path: Path) -> None:
        self.reactor = MemoryReactorClock()
        self.clock = RecordingClock()
        self.pump = Pump()
        page: dict[str, Any] = {}
        for block in OWN.of("python"):
            exec(compile(block.text, OWN.name, "exec"), page)
        water: Callable[..., Any] = page["Water"]
        water_beds: Callable[..., Any] = page["WaterBeds"]
        operations = [water(self.pump), water_beds(self.pump, self.reactor)]
        for operation in operations:
            verifyObject(IOperation, operation)
        self.agent = Agent(
            AgentSettings(
                connector=ConnectorSettings(host="localhost", path="/south/v80/sessions"),
                device_info=DeviceInfoSettings(device_id="dev-1", api_key=Secret("k")),
                outbox=OutboxSettings(kind=OutboxKind.MEMORY, path=tmp_path / "outbox.sqlite"),
                dispatcher=DispatcherSettings(clock_datastream="test.clock"),
            ),
            components=[Target(), Thermometer(), self.clock, *operations],
            reactor=self.reactor,
            wall_clock=StoppedClock(),
            environ={},
        )
        self.agent.parts.outbox.open()
        self.agent.parts.identified("dev-1")

    def ask(self, request: Any) -> Any:
        """The answer to a request, after as much time as it takes."""
        assert self.agent.parts.operations is not None
        payload = json.dumps(request).encode()
        answer = self.agent.parts.operations.process(payload, ContentType.JSON)
        answers: list[Answer | None] = []
        answer.addCallback(answers.append)
        self.reactor.pump([0.5] * 10)
        (answered,) = answers
        assert answered is not None
        return json.loads(answered.payload)


@pytest.fixture
def garden(tmp_path: Path) -> Garden:
    """The agent of the page."""
    return Garden(tmp_path)


@pytest.mark.parametrize(
    ("request_shown", "answer_shown"),
    EXCHANGES,
    ids=[request["operation"]["request"]["name"] for request, _ in EXCHANGES],
)
def test_the_answer_is_the_one_on_the_page(
    garden: Garden, request_shown: Any, answer_shown: Any
) -> None:
    """Word for word, members that are left out included."""
    assert garden.ask(request_shown) == answer_shown


def test_all_standard_operations_are_on_the_page(garden: Garden) -> None:
    """Every operation that an agent has by itself is shown."""
    assert garden.agent.parts.operations is not None
    shown = {request["operation"]["request"]["name"] for request, _ in EXCHANGES}
    assert set(garden.agent.parts.operations.operation_names) <= shown


def test_what_the_examples_do(garden: Garden) -> None:
    """Setting the clock writes the time of the request, synchronising it that of the host; the
    pump gives what was asked for."""
    for request, _ in EXCHANGES:
        garden.ask(request)
    assert garden.clock.set_to == [1706929506000, 1700000000000]
    assert garden.pump.litres == [5, 2, 2]
