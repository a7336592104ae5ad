"""Whether something keeps the system's clock right: what the kernel and systemd-timesyncd say.

Every service that corrects the clock of Linux tells the kernel so (``adjtimex``):
systemd-timesyncd, ntpd, and chrony with ``rtcsync``, as distributions configure it. The kernel
takes that back when the clock has not been corrected for a long time, or has been set.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

#: What ``adjtimex`` returns while the clock is not synchronised.
_TIME_ERROR = 5
#: The bit of ``timex.status`` that says the same.
_STA_UNSYNC = 0x0040
#: ``struct timex`` has 208 bytes on 64-bit systems, and fewer on others. Its first member says what
#: to change: nothing.
_TIMEX_BYTES = 512
#: systemd-timesyncd touches it at each synchronisation, and the machine's start removes it.
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``; reading changes nothing while ``modes`` is 0."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * _TIMEX_BYTES),
    )


def ask_kernel() -> tuple[int, int]:
    """What ``adjtimex`` returns, and ``timex.status``. Needs no privilege. Raises ``OSError`` where
    the call is not allowed (a filter of system calls) or there is none."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except AttributeError as error:
        raise OSError("the C library knows no adjtimex") from error
    timex = _Timex()
    state = adjtimex(ctypes.byref(timex))
    if state == -1:
        number = ctypes.get_errno()
        raise OSError(number, "adjtimex failed")
    return int(state), int(timex.status)


def is_synchronised(
    ask: Callable[[], tuple[int, int]] = ask_kernel, timesyncd: Path = _TIMESYNCD
) -> bool | None:
    """Whether the system's clock is kept right; None where the agent can't tell."""
    try:
        if timesyncd.exists():
            return True
    except OSError:
        pass  # the kernel knows as well
    try:
        state, status = ask()
    except OSError:
        return None
    return state != _TIME_ERROR and not status & _STA_UNSYNC
