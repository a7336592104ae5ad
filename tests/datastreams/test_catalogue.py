"""The table of the built-in readings says what the getters do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from oda.datastreams.catalogue import BUILT_INS, render_page
from oda.datastreams.system import SystemReadings
from oda.model import Reading
from oda.settings import ValueType
from tests.datastreams.fakes import FixedClock
from tests.datastreams.test_system import Somebody

PAGE = Path(__file__).parents[2] / "docs" / "readings-reference.md"

_TYPES: dict[ValueType, tuple[type, ...]] = {
    ValueType.STRING: (str,),
    ValueType.INTEGER: (int,),
    ValueType.DOUBLE: (float,),
    ValueType.JSON: (dict, list),
}


def values(root: Path) -> dict[str, Any]:
    """What each getter of a machine with everything reads."""
    for place, text in {
        "proc/uptime": "5.5 1.0\n",
        "proc/stat": "cpu 1 2 3 4\ncpu0 1 2 3 4\n",
        "proc/meminfo": "MemTotal: 2048 kB\nMemAvailable: 512 kB\n",
        "sys/class/thermal/thermal_zone0/type": "cpu\n",
        "sys/class/thermal/thermal_zone0/temp": "26000",
    }.items():
        file = root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    info = Somebody()
    info.identifying.callback("dev-1")
    readings = SystemReadings(cast(IReactorTime, Clock()), FixedClock(0), root, lambda _: (0, 0))
    found = {}
    for getter in readings.getters(info):
        reading = getter.get("")
        if not isinstance(reading, Reading):
            reading = reading.result
        found[getter.datastream_id] = reading.value
    return found


def test_the_page_is_up_to_date() -> None:
    """Generate it with ``python -m oda.datastreams.catalogue > docs/readings-reference.md``."""
    assert PAGE.read_text() == render_page()


def test_every_built_in_reading_has_a_row(tmp_path: Path) -> None:
    """No reading is missing from the table, and the table invents none."""
    assert [one.datastream_id for one in BUILT_INS] == sorted(values(tmp_path))


@pytest.mark.parametrize("row", BUILT_INS, ids=lambda one: one.datastream_id)
def test_values_and_examples_have_the_type_of_the_row(row: Any, tmp_path: Path) -> None:
    """The table names the type that the platform receives."""
    wanted = _TYPES[row.value_type]
    value = values(tmp_path)[row.datastream_id]
    assert type(row.example) in wanted
    assert type(value) in wanted
    if isinstance(value, dict):
        assert value.keys() == row.example.keys()


def test_a_number_has_a_unit() -> None:
    """A reader of the table need not guess what a number counts."""
    numbers = (ValueType.INTEGER, ValueType.DOUBLE)
    assert [
        one.datastream_id for one in BUILT_INS if one.value_type in numbers and not one.unit
    ] == []
