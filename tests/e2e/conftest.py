"""Whole-process tests need the package installed in the interpreter that runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import KEY, environment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory starts processes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fails with a clear reason where ``pip install .`` was forgotten."""
    found = subprocess.run(
        [sys.executable, "-c", "import oda, twisted.plugins.oda_plugins"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment(),
        capture_output=True,
        check=False,
    )
    if found.returncode:
        pytest.fail("the package is not installed in this interpreter: run  pip install '.[test]'")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    """A stand-in platform that wants the key."""
    with RunningPlatform(["--key", KEY], log=tmp_path / "platform.log") as running:
        yield running
