"""Everything here starts processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: How much longer each fdatasync takes, in milliseconds: a quick disk, and one like an SD card.
_USUAL_MS = "0,5"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with ``fdatasync_ms`` run on each of the disks in ``ODA_TEST_FDATASYNC_MS``."""
    if "fdatasync_ms" in metafunc.fixturenames:
        listed = os.environ.get("ODA_TEST_FDATASYNC_MS", _USUAL_MS)
        metafunc.parametrize("fdatasync_ms", [float(one) for one in listed.split(",")])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marked like the other tests that do."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
