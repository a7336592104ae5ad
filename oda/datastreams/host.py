"""Everything that reads and writes the host device, built from the settings and updated with them.

Built-in readings are fallbacks: a script of the configuration, or a plugin, replaces the built-in
reading of the same datastream.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from oda.datastreams.clock import ClockSetter
from oda.datastreams.deviceinfo import SERIAL_NUMBER, USUAL_SCRIPT, DeviceInfo
from oda.datastreams.reading import DatastreamAccess
from oda.datastreams.registry import DatastreamRegistry
from oda.datastreams.scripts import ScriptGetter, ScriptRunner
from oda.datastreams.system import SystemReadings
from oda.errors import DatastreamError
from oda.interfaces import (
    ICounters,
    IDatastreamSetter,
    IDating,
    IDeviceInfoProvider,
    IWallClock,
)
from oda.settings import DeviceInfoSettings, ScriptSettings, ValueType
from oda.troubles import Troubles


class HostDatastreams:
    """``registry``, ``access`` and ``device_info`` of an agent.

    The owner sets ``registry.host_id`` once the device id is known, calls ``configure`` with new
    settings, and ``stop`` at the end.
    """

    def __init__(
        self,
        registry: DatastreamRegistry,
        access: DatastreamAccess,
        device_info: DeviceInfo,
        runner: ScriptRunner,
        working_directory: Path,
        readings: SystemReadings,
    ) -> None:
        self._readings = readings
        self.registry = registry
        self.access = access
        self.device_info = device_info
        self._runner = runner
        self._working_directory = working_directory
        self._usual_serial = ScriptGetter(
            ScriptSettings(
                datastream_id=SERIAL_NUMBER, command=USUAL_SCRIPT, value_type=ValueType.STRING
            ),
            runner,
        )
        self._scripts: dict[str, ScriptGetter] = {}

    def configure(self, settings: DeviceInfoSettings) -> None:
        """Follow the settings: replaces only scripts whose line has changed.

        Raises ``DatastreamError`` when a plugin reads the datastream of a new script, or its id is
        invalid; the scripts are then unchanged.
        """
        wanted = {script.datastream_id: script for script in settings.scripts}
        kept = {
            datastream_id: getter
            for datastream_id, getter in self._scripts.items()
            if wanted.get(datastream_id) == getter.settings
        }
        removed = [g for d, g in self._scripts.items() if d not in kept]
        added = [ScriptGetter(s, self._runner) for d, s in wanted.items() if d not in kept]
        self._exchange(removed, added)
        self._scripts = {**kept, **{getter.datastream_id: getter for getter in added}}
        self._runner.scripts_directory = settings.path
        self._runner.timeout_s = settings.script_timeout_s
        self._runner.max_output_bytes = settings.script_max_output_bytes
        self._readings.clock_timezone = settings.clock_timezone
        usual_file = None
        if settings.path is not None:
            usual_file = self._working_directory / settings.path / USUAL_SCRIPT
        self.device_info.configure(settings, self._scripts, usual_file, self._usual_serial)

    def stop(self) -> Deferred[None]:
        """End the scripts that are still running; fires when they have ended."""
        return self._runner.stop()

    def kill_scripts(self) -> None:
        """Kill those that ``stop`` could not end in time."""
        self._runner.kill_rest()

    def _exchange(self, removed: list[ScriptGetter], added: list[ScriptGetter]) -> None:
        done: list[ScriptGetter] = []
        for getter in removed:
            self.registry.remove_getter(getter)
        try:
            for getter in added:
                self.registry.add_getter(getter)
                done.append(getter)
        except DatastreamError:
            for getter in done:
                self.registry.remove_getter(getter)
            for getter in removed:
                self.registry.add_getter(getter)
            raise


def build_datastreams(
    settings: DeviceInfoSettings,
    reactor: Any,
    wall_clock: IWallClock,
    environment: Mapping[str, str],
    working_directory: Path,
    root: Path = Path("/"),
    clock_setter: IDatastreamSetter | None = None,
    identity: IDeviceInfoProvider | None = None,
    may_set_clock: Callable[[], bool] = lambda: False,
    counters: ICounters | None = None,
    dating: IDating | None = None,
    clock_was_set: Callable[[], None] = lambda: None,
    troubles: Troubles | None = None,
) -> HostDatastreams:
    """The datastreams of the host, ready for reading.

    ``environment`` is for scripts, without the secrets in it; ``working_directory`` is where they
    run. ``clock_setter`` None means one that sets the system's clock if ``may_set_clock()`` allows
    the platform to do so; ``clock_was_set()`` is called afterwards. The readings of identifier,
    serial number and software query ``identity``; None means the device info built here. ``dating``
    says whether ``wall_clock`` can be believed.
    """
    registry = DatastreamRegistry()
    access = DatastreamAccess(registry, wall_clock, reactor, dating=dating)
    device_info = DeviceInfo(settings, root)
    runner = ScriptRunner(
        reactor,
        working_directory,
        environment,
        set_session=shutil.which("setsid"),
        counters=counters,
        troubles=troubles,
    )
    readings = SystemReadings(reactor, wall_clock, root)
    for getter in readings.getters(identity or device_info):
        registry.add_getter(getter, fallback=True)
    usual_setter = ClockSetter(is_allowed=may_set_clock, was_set=clock_was_set)
    registry.add_setter(clock_setter or usual_setter, fallback=True)
    host = HostDatastreams(registry, access, device_info, runner, working_directory, readings)
    host.configure(settings)
    return host
