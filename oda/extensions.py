"""Loads the plugins that the configuration names.

Plugins are objects that provide ``IPlugin``, found in the modules of the package ``oda.plugins``.
Other packages add their own directory ``oda/plugins``. Importing and creating plugins runs foreign
code in the reactor's thread. An error there is logged in one line that names the plugin; so is the
time when loading holds the reactor up.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module, invalidate_caches
from types import ModuleType
from typing import Any

from oda.boundary import foreign_code, reason_of
from oda.errors import PluginError
from oda.interfaces import IPlugin
from oda.log import Logger
from oda.settings import PluginSettings
from oda.troubles import TroubleKind, Troubles

#: The agent logs loading that takes longer than this, in seconds: it blocks the reactor.
SLOW_S = 1.0

_log = Logger()


class InstalledPlugins:
    """The plugins in a package's modules. ``faults`` says which can't be used, and why."""

    def __init__(self, package: ModuleType) -> None:
        self.by_name: dict[str, list[Any]] = {}
        self.faults: list[str] = []
        invalidate_caches()  # a plugin may have been installed a moment ago
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda one: one.name):
            module = f"{package.__name__}.{found.name}"
            try:
                with foreign_code:
                    self.add(_plugins_in(import_module(module)), module)
            except Exception as error:  # noqa: BLE001 - go on with the other modules
                name = type(error.__cause__ or error).__name__
                reason = reason_of(error)
                self.faults.append(
                    f"the module {module} can't be imported: "
                    + (reason if reason.startswith(name) else f"{name}: {reason}")
                )

    def add(self, plugins: Iterable[Any], module: str) -> None:
        """Add the plugins of one module."""
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
    """All installed plugins."""
    # Imported here: only an agent with plugins needs to know their place.
    import oda.plugins

    return InstalledPlugins(oda.plugins)


def load_plugins(
    wanted: Sequence[PluginSettings],
    reactor: Any,
    find: Callable[[], InstalledPlugins] = installed_plugins,
    troubles: Troubles | None = None,
) -> dict[str, list[object]]:
    """The components of each plugin in ``wanted``, by plugin name and in that order.

    Raises ``PluginError`` when a plugin is not installed, is installed twice, or can't be created.
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
            "loading the plugins took {took_s:.1f} s; the agent did nothing else during that time",
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
    """The plugins among the module's objects, each once."""
    seen: list[object] = []
    for _, value in sorted(vars(module).items()):
        try:
            with foreign_code:
                is_plugin: bool = IPlugin.providedBy(value)
        except Exception:  # noqa: BLE001, S112 - a proxy without a target is no plugin
            continue
        if is_plugin and not any(value is other for other in seen):
            seen.append(value)
            yield value
