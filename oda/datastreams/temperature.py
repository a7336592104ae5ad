"""The machine's temperature sensor.

A sensor is identified by its name, not by its path. The kernel numbers sensors anew when drivers
are loaded in another order, so the processor's number may later be the battery's. The agent chooses
again when the name at the path has changed, after a failure, and now and then, because a better
sensor may have appeared.

Source: the kernel's documentation of /sys/class/thermal and /sys/class/hwmon; both give thousandths
of a degree Celsius.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from oda.errors import ReadingFailed

#: Names of sensors near the processor, the best first.
_PREFERRED = ("x86_pkg_temp", "coretemp", "k10temp", "zenpower", "cpu", "soc", "core")
#: Parts of names of sensors that don't measure the machine.
_OTHERS = ("battery", "bat0", "bat1", "charger")

#: Seconds until the agent looks for a better sensor, or for one if there was none.
CHOOSE_AGAIN_S = 600.0
LOOK_AGAIN_S = 60.0

#: Degrees outside this range show a faulty sensor: no machine would still run.
_LEAST, _MOST = -100.0, 250.0


class _Sensor(NamedTuple):
    name: str
    name_file: Path
    path: Path


class TemperatureSensor:
    """The sensor nearest to the processor. ``seconds`` is a monotonic clock."""

    def __init__(self, root: Path = Path("/"), seconds: Callable[[], float] = lambda: 0.0) -> None:
        self._root = root
        self._seconds = seconds
        self._sensor: _Sensor | None = None
        self._choose()

    @property
    def path(self) -> Path | None:
        """The sensor's path; None for a machine without any."""
        return None if self._sensor is None else self._sensor.path

    def is_there(self) -> bool:
        """Whether the machine has a sensor now."""
        if self._sensor is None and self._seconds() - self._chosen_at_s >= LOOK_AGAIN_S:
            self._choose()
        return self._sensor is not None

    def celsius(self) -> float:
        """The temperature now, to a tenth of a degree; raises ``ReadingFailed``."""
        sensor = self._sensor
        if (
            sensor is None
            or self._seconds() - self._chosen_at_s >= CHOOSE_AGAIN_S
            or _name(sensor.name_file) != sensor.name
        ):
            self._choose()
            sensor = self._sensor
        if sensor is None:
            raise ReadingFailed("no temperature sensor")
        try:
            return _read(sensor.path)
        except (OSError, ValueError) as error:
            self._choose()
            if self._sensor is None or self._sensor == sensor:
                reason = f"the temperature sensor gave no value: {error}"
                raise ReadingFailed(reason) from None
        return self.celsius()

    def _choose(self) -> None:
        self._chosen_at_s = self._seconds()
        found = sorted(_sensors(self._root), key=lambda sensor: _rank(sensor.name))
        self._sensor = next((sensor for sensor in found if _is_readable(sensor.path)), None)


def _sensors(root: Path) -> Iterator[_Sensor]:
    for zone in _numbered(root / "sys/class/thermal", "thermal_zone*"):
        yield from _named(zone / "type", zone / "temp")
    for monitor in _numbered(root / "sys/class/hwmon", "hwmon*"):
        for sensor in _numbered(monitor, "temp*_input"):
            yield from _named(monitor / "name", sensor)


def _numbered(directory: Path, pattern: str) -> list[Path]:
    """The files in the order of their numbers: a processor's first sensor covers all of it."""
    found = directory.glob(pattern)
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _named(name_file: Path, path: Path) -> Iterator[_Sensor]:
    name = _name(name_file)
    if not any(part in name for part in _OTHERS):
        yield _Sensor(name, name_file, path)


def _name(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip().lower()
    except OSError:
        return ""


def _rank(name: str) -> int:
    matching = (rank for rank, part in enumerate(_PREFERRED) if part in name)
    return next(matching, len(_PREFERRED))


def _is_readable(path: Path) -> bool:
    try:
        _read(path)
    except (OSError, ValueError):
        return False
    return True


def _read(path: Path) -> float:
    if path.name.endswith("_input"):
        fault = path.with_name(path.name.removesuffix("_input") + "_fault")
        if _name(fault) not in ("", "0"):
            raise ValueError("the sensor reports a fault")
    celsius = round(int(path.read_text()) / 1000, 1)
    if not _LEAST <= celsius <= _MOST:
        raise ValueError(f"{celsius} degrees are impossible")
    return celsius
