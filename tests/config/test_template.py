"""The files that a new agent begins with, made from the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.config.components import COMPONENTS, DEVICE_INFO, POLLER
from oda.config.connection import CONNECTOR
from oda.config.keys import Component, Key
from oda.config.loader import load
from oda.config.properties import read_properties
from oda.config.template import escape_key, escape_value, find_key, render_file

PRINTABLE = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" \\:=#!"), min_size=1
)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.file)
def test_every_key_stands_there_with_its_meaning_and_default(component: Component) -> None:
    """Commented out: the file changes nothing until somebody says so."""
    text = render_file(component, {})
    assert read_properties("f", text.encode()).entries == ()
    flat = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for key in component.all_keys():
        assert f"\n#{key.name}=" in text
        assert key.meaning[1:] in flat
        assert key.parser.allowed in flat
    assert max(map(len, text.splitlines())) <= 100


def test_the_defaults_that_are_shown_are_those_in_force(tmp_path: Path) -> None:
    """Uncommenting every key that has a default changes nothing."""

    def write(uncomment: bool) -> None:
        for component in COMPONENTS:
            required = {"host": "h", "path": "/p"} if component is CONNECTOR else {}
            if component is DEVICE_INFO:
                required = {"apiKey": "k"}
            lines = render_file(component, required).splitlines()
            if uncomment:
                lines = [uncommented(line, component) for line in lines]
            (tmp_path / component.file).write_text("\n".join(lines) + "\n")

    def uncommented(line: str, component: Component) -> str:
        name, separator, value = line.removeprefix("#").partition("=")
        # A proxy's port is a fault without a proxy, and so on: these stay commented out.
        known: Key | None = component.key(name)
        if separator and value and known is not None and name != "proxyPort":
            return line.removeprefix("#")
        return line

    write(uncomment=False)
    before = load(tmp_path, {}).settings
    write(uncomment=True)
    assert load(tmp_path, {}).settings == before


def test_values_and_lines_are_taken_up(tmp_path: Path) -> None:
    """What was asked for is what the agent reads."""
    (tmp_path / CONNECTOR.file).write_text(render_file(CONNECTOR, {"host": "h", "path": "/p"}))
    (tmp_path / DEVICE_INFO.file).write_text(
        render_file(DEVICE_INFO, {"apiKey": r"a\b#c", "deviceId": "ü: x"})
    )
    (tmp_path / POLLER.file).write_text(render_file(POLLER, {}, [("a b;dev*", "1;60")]))
    settings = load(tmp_path, {}).settings
    assert settings.device_info.api_key.reveal() == r"a\b#c"
    assert settings.device_info.device_id == "ü: x"
    (schedule,) = settings.poller.schedules
    assert (schedule.datastream_id, schedule.device_pattern) == ("a b", "dev*")


@given(key=PRINTABLE.filter(str.strip), value=PRINTABLE)
def test_escaping_is_the_inverse_of_reading(key: str, value: str) -> None:
    """Whatever can stand in a file comes out as it went in (a blank key can not)."""
    value = value.strip()
    text = f"{escape_key(key)}={escape_value(value)}\n"
    (entry,) = read_properties("f", text.encode()).entries
    assert (entry.key, entry.value) == (key, value)


def test_a_key_is_found_by_its_name_or_alias() -> None:
    """In whichever file it belongs."""
    found = find_key("generalPath")
    assert found is not None
    assert (found[0], found[1].name) == (CONNECTOR, "path")
    assert find_key("nonsense") is None
