"""A running platform, a Chromium, and a page in it that must not complain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform

from .browser import NAMES, Browser, Page, find_chromium
from .device import Device

ARTEFACTS = Path(__file__).resolve().parent.parent / "artefacts" / "console"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip(f"no Chromium on this computer ({', '.join(NAMES)})")
    with Browser(program, tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture
def page(browser: Browser, platform: RunningPlatform) -> Iterator[Page]:
    """A page of 1280 x 800. In the end nothing must have gone wrong in its console, and nothing
    but the platform may have been asked for."""
    one = browser.new_page()
    one.resize(1280, 800)
    one.use_theme("light")
    try:
        yield one
        strangers = [url for url in one.requests if not url.startswith((platform.url, "data:"))]
        assert not strangers
        assert not one.problems
    finally:
        one.close()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    with RunningPlatform(log=tmp_path / "platform.log") as one:
        yield one


@pytest.fixture
def connect(platform: RunningPlatform) -> Iterator[Callable[[str], Device]]:
    """Connects devices to the platform."""
    with ExitStack() as stack:

        def connect_one(device: str) -> Device:
            one = stack.enter_context(Device(platform.device_url_of(device)))
            one.wait_until_connected()
            return one

        yield connect_one


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keeps a screenshot of the page for whoever looks at the tests' results."""

    def keep_one(page: Page, name: str) -> None:
        page.screenshot(ARTEFACTS / f"{name}.png")

    return keep_one
