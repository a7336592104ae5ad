"""How long the machine has been running, to compare with what an earlier process has read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Uptime:
    """``boot_id`` names this start of the machine, and is empty where it has no name. ``seconds``
    runs from then on and is the same for all processes."""

    def __init__(self, boot_id: str, seconds: Callable[[], float]) -> None:
        self.boot_id = boot_id
        self._seconds = seconds

    def now_ms(self) -> int:
        """How long it has been running."""
        return int(self._seconds() * 1000)

    def since_ms(self, boot_id: str, uptime_ms: int) -> int:
        """The time since an earlier reading; 0 where nobody knows, or the machine was off."""
        if not boot_id or boot_id != self.boot_id:
            return 0
        return max(0, self.now_ms() - uptime_ms)


def this_machine(boot_id: Path = _BOOT_ID) -> Uptime:
    """The machine that this runs on. Only Linux names its starts."""
    try:
        name = boot_id.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return Uptime(name, monotonic)
