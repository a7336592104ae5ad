"""The reference pages say what the docstrings of the public modules say."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from oda.reference import MODULES, render
from tests.docs.pages import ROOT

modules = pytest.mark.parametrize("module", MODULES)


@modules
def test_the_page_is_up_to_date(module: str) -> None:
    """Generate it with ``python -m oda.reference MODULE > docs/reference-MODULE.md``."""
    assert (ROOT / "docs" / f"reference-{module}.md").read_text() == render(module)


@modules
def test_every_public_name_has_a_heading(module: str) -> None:
    """Each class and function that an embedder may import from the module."""
    loaded = import_module(f"oda.{module}")
    names = [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "") == loaded.__name__
        and (inspect.isclass(value) or inspect.isfunction(value) or module == "interfaces")
    ]
    page = render(module)
    assert names
    assert [name for name in names if f"## `{name}`\n" not in page] == []


def test_a_field_shows_its_type_and_default() -> None:
    """An embedder sees what has to be given, and what an attribute of an interface means."""
    assert "- `datastream_id: str`\n" in render("model")
    assert "- `at_ms: int | None = None`\n" in render("model")
    assert "- `parameters: Mapping[str, Any] = dict()`\n" in render("model")
    assert "- `name: str`: The operation's name on the wire" in render("interfaces")
