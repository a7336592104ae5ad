"""Looking for plugins, and creating them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from oda.errors import PluginError
from oda.extensions import InstalledPlugins, load_plugins
from oda.settings import PluginSettings

PLUGIN = """
from zope.interface import implementer
from oda.interfaces import IPlugin
@implementer(IPlugin)
class Plugin:
    {members}
plugin = Plugin()
same = plugin
"""


@pytest.fixture
def logged() -> Iterator[list[tuple[LogLevel, str]]]:
    lines: list[tuple[LogLevel, str]] = []

    def observe(event: LogEvent) -> None:
        assert "log_failure" not in event, "no traceback"
        lines.append((event["log_level"], str(formatEvent(event))))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class Package:
    """A package of plugins in a directory of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.module = ModuleType(name)
        self.module.__path__ = [str(directory)]
        sys.modules[name] = self.module

    def write(self, name: str, text: str) -> None:
        (self.directory / f"{name}.py").write_text(text)

    def find(self) -> InstalledPlugins:
        return InstalledPlugins(self.module)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    name = f"plugins_of_{tmp_path.name}"
    yield Package(tmp_path, name)
    for module in [one for one in sys.modules if one.partition(".")[0] == name]:
        del sys.modules[module]


def wanted(*names: str) -> list[PluginSettings]:
    return [PluginSettings(name=name, options={}) for name in names]


CREATES = "name = 'good'\n    def create(self, options, reactor): return [options]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("this is no Python", "SyntaxError"),
        ("import a_module_that_is_nowhere", "ModuleNotFoundError"),
    ],
)
def test_a_module_that_fails_is_one_line(
    package: Package, logged: list[tuple[LogLevel, str]], text: str, reason: str
) -> None:
    """It is named with its reason, and the plugins beside it are used."""
    package.write("bad", text)
    package.write("fine", PLUGIN.format(members=CREATES))
    assert load_plugins(wanted("good"), Clock(), package.find) == {"good": [{}]}
    ((level, line), _) = logged
    assert level is LogLevel.warn
    assert ".bad can't be imported" in line
    assert reason in line
    with pytest.raises(PluginError, match=r"'other' is not installed .*bad can't be imported"):
        load_plugins(wanted("other"), Clock(), package.find)


@pytest.mark.parametrize("members", ["pass", "name = ''", "name = 5"])
def test_a_plugin_without_a_name_is_one_line(
    package: Package, logged: list[tuple[LogLevel, str]], members: str
) -> None:
    """It is told by its class and module, and the other plugins are used."""
    package.write("bad", PLUGIN.format(members=members))
    package.write("fine", PLUGIN.format(members=CREATES))
    assert load_plugins(wanted("good"), Clock(), package.find) == {"good": [{}]}
    assert logged[0][0] is LogLevel.warn
    assert logged[0][1].startswith("the plugin Plugin of plugins_of_")
    assert logged[0][1].endswith(".bad has no name")


@pytest.mark.parametrize("raised", ["SystemExit('no licence')", "ValueError('no licence')"])
def test_a_plugin_whose_name_fails_is_one_line(
    package: Package, logged: list[tuple[LogLevel, str]], raised: str
) -> None:
    """It is told with the reason, and the plugin beside it in the same module is used."""
    bad = f"@property\n    def name(self): raise {raised}"
    other = PLUGIN.format(members=CREATES).replace("plugin = ", "other = ").replace("same", "also")
    package.write("both", PLUGIN.format(members=bad) + other.replace("= plugin", "= other"))
    assert load_plugins(wanted("good"), Clock(), package.find) == {"good": [{}]}
    assert logged[0][1].startswith("the plugin Plugin of plugins_of_")
    assert ".both has no name: " in logged[0][1]
    assert logged[0][1].endswith("no licence")


@pytest.mark.parametrize("raised", ["SystemExit('no context')", "RuntimeError('no context')"])
def test_a_module_may_hold_what_cannot_be_looked_at(package: Package, raised: str) -> None:
    """A proxy that a module has imported and that fails when it is asked what it provides is no
    plugin, and costs the module none."""
    proxy = (
        "class Proxy:\n    def __getattribute__(self, name): raise " + raised + "\na = Proxy()\n"
    )
    package.write("mixed", proxy + PLUGIN.format(members=CREATES))
    assert load_plugins(wanted("good"), Clock(), package.find) == {"good": [{}]}


@pytest.mark.parametrize("raised", ["SystemExit('no bus')", "ValueError('no bus')"])
@pytest.mark.parametrize("way", ["raise {0}", "yield 1; raise {0}"])
def test_a_plugin_that_can_not_be_created(package: Package, raised: str, way: str) -> None:
    """Whatever ``create`` raises, at once or while its objects are gone through, is a
    ``PluginError`` that names the plugin."""
    body = way.format(raised)
    package.write(
        "bad",
        PLUGIN.format(members=f"name = 'bad'\n    def create(self, options, reactor): {body}"),
    )
    with pytest.raises(PluginError, match=r"plugin 'bad' can't be created: .*no bus"):
        load_plugins(wanted("bad"), Clock(), package.find)


def test_a_slow_load_is_told(package: Package, logged: list[tuple[LogLevel, str]]) -> None:
    """The reactor stands still while plugins are imported and created: more than a second is a
    warning."""
    clock = Clock()
    package.write("fine", PLUGIN.format(members=CREATES))

    def find(seconds: float) -> Any:
        clock.advance(seconds)
        return package.find()

    load_plugins(wanted("good"), clock, lambda: find(0.9))
    assert [level for level, _ in logged] == [LogLevel.info]
    load_plugins(wanted("good"), clock, lambda: find(3))
    level, line = logged[-1]
    assert level is LogLevel.warn
    assert "took 3.0 s" in line
