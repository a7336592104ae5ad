"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from twisted.logger import globalLogBeginner

import oda.log

pytest_plugins = ["oda.platform.testing"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background that way, and every process of a test would
    # inherit that nobody can interrupt it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis fails an example that takes more than 200 ms: on a machine that is busy each may.
settings.register_profile("unhurried", settings(deadline=None))
settings.load_profile("unhurried")

#: How much longer each fdatasync takes, in milliseconds: a quick disk, and one like an SD card.
_USUAL_MS = "0,5"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with ``fdatasync_ms`` run on each of the disks in ``ODA_TEST_FDATASYNC_MS``."""
    if "fdatasync_ms" in metafunc.fixturenames:
        listed = os.environ.get("ODA_TEST_FDATASYNC_MS", _USUAL_MS)
        metafunc.parametrize("fdatasync_ms", [float(one) for one in listed.split(",")])


@pytest.fixture(autouse=True)
def _log_without_limits() -> Iterator[None]:
    """An agent that a test leaves running limits the log of the tests behind it no more."""
    yield
    oda.log._wanted.clear()


@pytest.fixture(scope="session", autouse=True)
def _logging_has_begun() -> None:
    """Until logging begins Twisted keeps every event in memory, which would look like a leak."""
    globalLogBeginner.beginLoggingTo(
        [lambda event: None], discardBuffer=True, redirectStandardIO=False
    )
