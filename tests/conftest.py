"""What every test may use."""

from __future__ import annotations

import pytest
from twisted.logger import globalLogBeginner

pytest_plugins = ["oda.platform.testing"]


@pytest.fixture(scope="session", autouse=True)
def _logging_has_begun() -> None:
    """Until logging begins Twisted keeps every event in memory, which would look like a leak."""
    globalLogBeginner.beginLoggingTo(
        [lambda event: None], discardBuffer=True, redirectStandardIO=False
    )
