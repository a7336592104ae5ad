"""Tells the agent that there is a plugin named ``thermostat``.

Every module of ``oda.plugins`` is imported when the agent looks for plugins, whether its plugin is
wanted or not. So there is no more here than the name; the rest is imported by ``create``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface import implementer

from oda.interfaces import IPlugin


@implementer(ITwistedPlugin, IPlugin)
class ThermostatPlugin:
    """What the line ``plugins=thermostat`` loads."""

    name = "thermostat"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        from oda_thermostat.components import create_components

        return create_components(options, reactor)


thermostat = ThermostatPlugin()
