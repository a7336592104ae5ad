"""Files that the tests write are private, as configuration files should be."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def private_files() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)
