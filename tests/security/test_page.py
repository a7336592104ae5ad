"""SECURITY.md says what is tested, and nothing is tested that it does not say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oda.codecs.limits import ARRIVING
from oda.operations.request import MAX_PATH, MAX_TEXT_BYTES
from oda.peer_bounds import MAX_HANDSHAKE_BYTES
from oda.platform.pongs import MAX_LATE
from oda.platform.service import FAREWELL_S, Platform
from oda.platform.sessions import MAX_HELD_BYTES, MAX_HELD_MESSAGES
from oda.settings import DeviceInfoSettings, DispatcherSettings, Secret

KIB = 1024
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = (ROOT / "SECURITY.md").read_text()
#: What nothing protects needs no test, nor how to read the page.
CLAIMS = {
    heading: re.split(r"(?m)^- ", text)[1:]
    for heading, text in re.findall(r"(?ms)^## (.*?)$(.*?)(?=^## |\Z)", PAGE)
    if heading not in ("How to read this page", "What is not protected")
}
NAMED = set(re.findall(r"`([\w/]*test_\w+\.py)`", PAGE))
#: What is true of a scheme of somebody else's, and a weakness.
NOT_A_CLAIM = "A proxy's password goes to the proxy"


DEVICE = DeviceInfoSettings(api_key=Secret("k"))
#: The figures that are settings or constants, as the page writes them.
FIGURES = {
    "64 KiB long": MAX_HANDSHAKE_BYTES == 64 * KIB,
    "may take 80 s, and 100 run": DispatcherSettings().operation_timeout_s == 80
    and DispatcherSettings().max_concurrent_operations == 100,
    "over 1 KiB": MAX_TEXT_BYTES == KIB,
    "than 100 gateways": MAX_PATH == 100,
    "4 MiB or 50,000 items": ARRIVING[::2] == (4 * KIB * KIB, 50_000),
    "30 s and write 64 KiB": (DEVICE.script_timeout_s, DEVICE.script_max_output_bytes)
    == (30, 64 * KIB),
    "32 MiB at most": Platform(None)._max_message_bytes == 32 * KIB * KIB,
    "1,000 late pongs": MAX_LATE == 1000,
    "4 MiB or 10,000\n  messages": (MAX_HELD_BYTES, MAX_HELD_MESSAGES) == (4 * KIB * KIB, 10_000),
    "within a second": FAREWELL_S == 1,
}


def path_of(name: str) -> Path:
    return ROOT / name if "/" in name else HERE / name


@pytest.mark.parametrize("figure", FIGURES)
def test_the_figures_are_those_in_force(figure: str) -> None:
    """A bound that is changed is changed on the page."""
    assert FIGURES[figure]
    assert figure in PAGE


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_test_that_is_named_exists(name: str) -> None:
    """A file of tests that was moved or renamed is found on the page."""
    assert re.search(r"(?m)^(async )?def test_", path_of(name).read_text())


def test_every_point_names_its_test() -> None:
    """No claim is made that nothing tries to break."""
    assert len(CLAIMS) >= 5
    for heading, points in CLAIMS.items():
        assert points, heading
        for point in points:
            assert re.search(r"`[\w/]*test_\w+\.py`\)", point) or NOT_A_CLAIM in point, point


def test_every_attack_is_on_the_page() -> None:
    """What is attacked in this directory is promised."""
    files = {file.name for file in HERE.glob("test_*.py")} - {Path(__file__).name}
    assert files <= NAMED
