"""docs/configuration.md says what the tables say."""

from __future__ import annotations

from pathlib import Path

import msgspec

from oda.config.components import COMPONENTS, FILES
from oda.config.reference import render

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    """Generate it again with ``python -m oda.config.reference > docs/configuration.md``."""
    assert PAGE.read_text() == render()


def test_every_file_key_alias_and_variable_is_in_it() -> None:
    """Nothing that can be configured is missing."""
    page = render()
    names = list(FILES)
    for component in COMPONENTS:
        names += [name for key in component.all_keys() for name in (key.name, *key.aliases)]
        names += [key.variable for key in component.overridable()]
        names += component.ignored
    assert [name for name in names if f"`{name}`" not in page] == []


def test_defaults_are_those_of_the_settings() -> None:
    """Booleans, choices, numbers, nothing and required keys are each shown in the file's words."""
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip()
        for line in render().splitlines()
        if line.startswith("| `")
    }
    assert rows["`host`"] == "required"
    assert rows["`apiKey`"] == "required (or `apiKeyFile`)"
    assert rows["`port`"] == "`80`"
    assert rows["`secure`"] == "`false`"
    assert rows["`auth`"] == "`header`"
    assert rows["`keepAliveInterval`"] == "`180`"
    assert rows["`caFile`"] == "none"


def test_the_defaults_are_those_of_the_settings_classes() -> None:
    """For each key: the tables read them from the classes without their annotations."""
    for component in COMPONENTS:
        for section in component.sections:
            known = {one.name: one for one in msgspec.structs.fields(section.settings)}
            for key in section.keys:
                assert section.requires(key) == known[key.field].required
                default = known[key.field].default
                assert section.default(key) == (None if section.requires(key) else default)
