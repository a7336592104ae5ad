"""The list of what is wrong: what comes in, what is shown, and that every component reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from oda.connector.connecting import IDENTIFY_AGAIN_S, Identification
from oda.errors import ReadingFailed
from oda.logs.redaction import Redactor
from oda.model import DatastreamValue, ValueStatus
from oda.settings import Schedule
from oda.telemetry.poller import Poller
from oda.troubles import MAX_TROUBLES, TroubleKind, Troubles
from tests.telemetry.fakes import FakeCounters

KIND = TroubleKind.READING
PAGE = Path(__file__).resolve().parents[1] / "docs/troubles.md"


class Bench:
    """A list on a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.troubles = Troubles(self.clock.seconds)

    def shown(self) -> list[tuple[str, str, str, float]]:
        """Kind, subject, text and beginning of each."""
        return [
            (one.kind.value, one.subject, one.text, one.since_s) for one in self.troubles.current()
        ]


def test_a_trouble_lasts_from_its_first_report_to_its_end() -> None:
    """The newest text is shown, with the time at which it began."""
    bench = Bench()
    bench.clock.advance(5.0)
    bench.troubles.report(KIND, "no such file", "a")
    bench.clock.advance(5.0)
    bench.troubles.report(KIND, "not permitted", "a")
    assert bench.shown() == [("reading", "a", "not permitted", 5.0)]
    bench.troubles.end(KIND, "b")
    bench.troubles.end(KIND, "a")
    assert bench.shown() == []
    bench.troubles.report(KIND, "again", "a")
    assert bench.shown() == [("reading", "a", "again", 10.0)]


def test_who_knows_better_says_since_when() -> None:
    """A certificate that ends soon did so before anybody looked."""
    bench = Bench()
    bench.clock.advance(100.0)
    bench.troubles.report(TroubleKind.CERTIFICATE, "ends in 3 days", lasts_s=90.0)
    assert bench.shown()[0][3] == 10.0


def test_all_of_a_kind_are_set_at_once() -> None:
    """Those that are not among them are over; the others go on."""
    bench = Bench()
    bench.troubles.set(KIND, {"a": "1", "b": "2"})
    bench.clock.advance(1.0)
    bench.troubles.report(TroubleKind.DISK, "full")
    bench.troubles.set(KIND, {"b": "3", "c": "4"})
    assert bench.shown() == [
        ("disk", "", "full", 1.0),
        ("reading", "b", "3", 0.0),
        ("reading", "c", "4", 1.0),
    ]
    bench.troubles.end_all(KIND)
    assert bench.shown() == [("disk", "", "full", 1.0)]


def test_a_secret_is_masked() -> None:
    """The reason of a failed reading may hold the key: a getter asks with it, and says so."""
    bench = Bench()
    bench.troubles.clean = Redactor(["canary-key"]).clean
    bench.troubles.report(KIND, "refused: canary-key", "a")
    bench.troubles.set(KIND, {"b": "?key=canary-key"})
    assert [text for _, _, text, _ in bench.shown()] == ["?key=***"]
    bench.troubles.report(KIND, "refused: canary-key", "a")
    assert "canary" not in str(bench.shown())


def test_there_is_an_end_to_the_list() -> None:
    """Those that are on it can still change and end."""
    bench = Bench()
    for number in range(MAX_TROUBLES + 10):
        bench.troubles.report(KIND, "bad", str(number))
    assert len(bench.shown()) == MAX_TROUBLES
    bench.troubles.report(TroubleKind.DISK, "no space left")
    assert bench.shown()[0][0] == "disk"
    bench.troubles.report(KIND, "worse", "0")
    assert bench.shown()[1][2] == "worse"


def test_the_page_names_every_kind() -> None:
    """docs/troubles.md is where a code of ``oda status --json`` is looked up; it has no others."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = [row.split("`")[1] for row in rows if "oda_" not in row]
    codes = [kind.value for kind in TroubleKind]
    assert [name for name in named if name in codes] == codes


# -- who reports ---------------------------------------------------------------------------------


class Readings:
    """A state manager whose reading fails with ``error``, or works."""

    def __init__(self) -> None:
        self.error: str | None = "no such file"

    def read(self, datastream_id: str, device_pattern: str) -> Any:
        status = ValueStatus.OK if self.error is None else ValueStatus.ERROR
        return succeed([DatastreamValue(datastream_id, "", status, value=1, error=self.error)])


def test_a_reading_that_fails() -> None:
    """From the first failure to the next success; a line that is no longer configured, and the end
    of the poller, end it as well."""
    bench, readings = Bench(), Readings()
    lines = [Schedule(datastream_id="t", first_s=1.0, period_s=1.0)]
    poller = Poller(bench.clock, readings, FakeCounters(), lines, bench.troubles)
    poller.start()
    bench.clock.pump([1.0, 1.0, 1.0])
    (shown,) = bench.shown()
    assert shown[:3] == ("reading", "t of the host", "no such file")
    assert shown[3] == pytest.approx(1.0)
    poller.set_schedules([*lines, Schedule(datastream_id="u", first_s=50.0, period_s=1.0)])
    assert len(bench.shown()) == 1
    readings.error = None
    bench.clock.pump([1.0])
    assert bench.shown() == []
    readings.error = "gone"
    bench.clock.pump([1.0])
    assert len(bench.shown()) == 1
    poller.set_schedules([])
    assert bench.shown() == []


class Info:
    """A device info that fails with ``error``."""

    def __init__(self) -> None:
        self.error: Exception | None = ReadingFailed("no file /etc/serial")

    def device_id(self) -> str:
        if self.error is not None:
            raise self.error
        return "dev-1"

    def api_key(self) -> str:
        return "key"


def test_an_identity_that_can_not_be_read() -> None:
    """The reason is told, until the id is known."""
    bench, info, found = Bench(), Info(), []
    asking = Identification(
        info, bench.clock, lambda device_id, key: found.append(device_id), bench.troubles
    )
    asking.start()
    assert bench.shown() == [("identity", "", "no file /etc/serial", 0.0)]
    info.error = None
    bench.clock.advance(IDENTIFY_AGAIN_S)
    assert (bench.shown(), found) == ([], ["dev-1"])
