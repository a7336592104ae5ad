"""Loads the plugins that the configuration names.

Plugins are ``twisted.plugin`` objects providing ``IPlugin``, found in the modules of the package
``oda.plugins`` (which others extend by a directory ``oda/plugins`` of their own).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.logger import Logger

from oda.errors import PluginError
from oda.interfaces import IPlugin
from oda.settings import PluginSettings

_log = Logger()


def installed_plugins() -> Iterable[Any]:
    """Every installed ``IPlugin``. A module that can't be imported is logged by Twisted."""
    # Imported here: looking for plugins reads directories and writes a cache, which an agent
    # without plugins should not do.
    from twisted.plugin import getPlugins

    import oda.plugins

    return getPlugins(IPlugin, oda.plugins)


def load_plugins(
    wanted: Sequence[PluginSettings], reactor: Any, available: Iterable[Any] | None = None
) -> dict[str, list[object]]:
    """The components of each plugin named by ``wanted``, by its name and in that order.

    Raises ``PluginError`` when a plugin is not installed, installed twice, or fails to create.
    """
    if not wanted:
        return {}
    found: dict[str, list[Any]] = {}
    for plugin in installed_plugins() if available is None else available:
        found.setdefault(plugin.name, []).append(plugin)
    components: dict[str, list[object]] = {}
    for settings in wanted:
        candidates = found.get(settings.name, [])
        if not candidates:
            names = ", ".join(sorted(found)) or "none"
            raise PluginError(f"plugin {settings.name!r} is not installed (installed: {names})")
        if len(candidates) > 1:
            modules = ", ".join(sorted(type(plugin).__module__ for plugin in candidates))
            raise PluginError(f"plugin {settings.name!r} is installed more than once: {modules}")
        try:
            created = list(candidates[0].create(settings.options, reactor))
        except Exception as error:
            raise PluginError(f"plugin {settings.name!r} can't be created: {error}") from error
        _log.info("plugin {name} loaded", name=settings.name)
        components[settings.name] = created
    return components
