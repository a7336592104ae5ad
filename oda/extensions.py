"""Loads the plugins that the configuration names.

Plugins are objects providing ``IPlugin``. They are found in the modules of the package
``oda.plugins``, which others extend by a directory ``oda/plugins`` of their own. Importing and
creating them runs foreign code in the reactor's thread: whatever it raises is told in one line that
names it, and so is a time that others had to wait for it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module, invalidate_caches
from types import ModuleType
from typing import Any

from twisted.logger import Logger

from oda.boundary import foreign_code, reason_of
from oda.errors import PluginError
from oda.interfaces import IPlugin
from oda.settings import PluginSettings
from oda.troubles import TroubleKind, Troubles

#: Loading plugins for longer than this, in seconds, is told: the reactor stands still meanwhile.
SLOW_S = 1.0

_log = Logger()


class InstalledPlugins:
    """The plugins of a package's modules. ``faults`` are those that can't be used, and why."""

    def __init__(self, package: ModuleType) -> None:
        self.by_name: dict[str, list[Any]] = {}
        self.faults: list[str] = []
        invalidate_caches()  # one may have been installed a moment ago
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda one: one.name):
            module = f"{package.__name__}.{found.name}"
            try:
                with foreign_code:
                    self.add(_plugins_in(import_module(module)), module)
            except Exception as error:  # noqa: BLE001 - the other modules are none the worse
                name = type(error.__cause__ or error).__name__
                reason = reason_of(error)
                self.faults.append(
                    f"the module {module} can't be imported: "
                    + (reason if reason.startswith(name) else f"{name}: {reason}")
                )

    def add(self, plugins: Iterable[Any], module: str) -> None:
        """Take up the plugins of one module."""
        for plugin in plugins:
            reason = ""
            try:
                with foreign_code:
                    name = getattr(plugin, "name", None)
            except Exception as error:  # noqa: BLE001 - a foreign property
                name, reason = None, f": {reason_of(error)}"
            if isinstance(name, str) and name:
                self.by_name.setdefault(name, []).append(plugin)
            else:
                kind = type(plugin).__name__
                self.faults.append(f"the plugin {kind} of {module} has no name{reason}")


def installed_plugins() -> InstalledPlugins:
    """Everything that is installed."""
    # Imported here: only an agent that has plugins needs to know where they may be.
    import oda.plugins

    return InstalledPlugins(oda.plugins)


def load_plugins(
    wanted: Sequence[PluginSettings],
    reactor: Any,
    find: Callable[[], InstalledPlugins] = installed_plugins,
    troubles: Troubles | None = None,
) -> dict[str, list[object]]:
    """The components of each plugin named by ``wanted``, by its name and in that order.

    Raises ``PluginError`` when a plugin is not installed, installed twice, or fails to create.
    """
    if not wanted:
        return {}
    began_s = reactor.seconds()
    installed = find()
    for fault in installed.faults:
        _log.warn("{fault}", fault=fault)
    if troubles is not None:
        # A fault names its module or its plugin: it is what tells one from another.
        troubles.set(TroubleKind.PLUGIN, {fault: fault for fault in installed.faults})
    components: dict[str, list[object]] = {}
    for settings in wanted:
        plugin = _only(settings.name, installed)
        try:
            with foreign_code:
                created = list(plugin.create(settings.options, reactor))
        except Exception as error:
            reason = reason_of(error)
            raise PluginError(f"plugin {settings.name!r} can't be created: {reason}") from error
        _log.info("plugin {name} loaded", name=settings.name)
        components[settings.name] = created
    took_s = reactor.seconds() - began_s
    if took_s > SLOW_S:
        _log.warn(
            "loading the plugins took {took_s:.1f} s, and the agent did nothing else meanwhile",
            took_s=took_s,
        )
    return components


def _only(name: str, installed: InstalledPlugins) -> Any:
    candidates = installed.by_name.get(name, [])
    if not candidates:
        names = ", ".join(sorted(installed.by_name)) or "none"
        problems = "".join(f"; {fault}" for fault in installed.faults)
        raise PluginError(f"plugin {name!r} is not installed (installed: {names}){problems}")
    if len(candidates) > 1:
        modules = ", ".join(sorted(type(plugin).__module__ for plugin in candidates))
        raise PluginError(f"plugin {name!r} is installed more than once: {modules}")
    return candidates[0]


def _plugins_in(module: ModuleType) -> Iterator[Any]:
    """The module's objects that are plugins, each once."""
    seen: list[object] = []
    for _, value in sorted(vars(module).items()):
        try:
            with foreign_code:
                is_plugin: bool = IPlugin.providedBy(value)
        except Exception:  # noqa: BLE001, S112 - a proxy to what is not there is no plugin
            continue
        if is_plugin and not any(value is other for other in seen):
            seen.append(value)
            yield value
