"""The documentation page says what there is."""

from __future__ import annotations

from pathlib import Path

from oda.platform.faults import MEMBERS, OperationsMode, PongMode, Refusal
from oda.platform.orders import MEMBERS as ORDER_MEMBERS
from oda.platform.tap import Options

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("platform.md", "platform-api.md", "platform-faults.md")
PAGE = "\n".join((DOCS / name).read_text("utf-8") for name in PAGES)


def test_every_option_is_documented() -> None:
    """No option of the command line is missing from the page."""
    names = {name.rstrip("=") for name in Options().longOpt} - {"help", "version"}
    assert names
    assert [name for name in sorted(names) if f"`--{name}`" not in PAGE] == []


def test_every_fault_and_member_of_an_order_is_documented() -> None:
    """Nor is a fault, one of its values, or a member of an operation's order."""
    values = [mode.value for kind in (Refusal, PongMode, OperationsMode) for mode in kind]
    wanted = {*MEMBERS, *ORDER_MEMBERS, *values} - {"normal"}
    assert [name for name in sorted(wanted) if f"`{name}`" not in PAGE] == []


def test_the_example_is_the_one_that_is_tested() -> None:
    """The ten lines on the page are those of the file that a test runs."""
    code = (DOCS / "examples" / "ten_lines.py").read_text("utf-8").partition("\n\n")[2]
    lines = [line.partition("  # noqa")[0] for line in code.splitlines() if line.strip()]
    for line in lines:
        assert line in PAGE, line
