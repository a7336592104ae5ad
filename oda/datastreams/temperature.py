"""The machine's temperature sensor.

Source: the kernel's documentation of /sys/class/thermal and /sys/class/hwmon; both give
thousandths of a degree Celsius.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oda.errors import ReadingFailed

#: What sensors near the processor are called, the best first.
_PREFERRED = ("x86_pkg_temp", "coretemp", "k10temp", "zenpower", "cpu", "soc", "core")


class TemperatureSensor:
    """The sensor nearest to the processor. ``path`` is None for a machine without any."""

    def __init__(self, root: Path = Path("/")) -> None:
        found = sorted(_sensors(root), key=lambda sensor: _rank(sensor[0]))
        self.path = next((path for _, path in found if _is_readable(path)), None)

    def celsius(self) -> float:
        """The temperature now, to a tenth of a degree; raises ``ReadingFailed``."""
        if self.path is None:
            raise ReadingFailed("no temperature sensor")
        try:
            return _read(self.path)
        except (OSError, ValueError) as error:
            raise ReadingFailed(f"the temperature sensor gave no value: {error}") from None


def _sensors(root: Path) -> Iterator[tuple[str, Path]]:
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        yield _name(zone / "type"), zone / "temp"
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        for sensor in sorted(monitor.glob("temp*_input")):
            yield _name(monitor / "name"), sensor


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
    return round(int(path.read_text()) / 1000, 1)
