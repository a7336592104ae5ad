"""What goes wrong at the platform, one thing after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

from oda.platform.faults import Fault, Incident, PongMode, Refusal
from oda.platform.testing import RunningPlatform


def _reset(platform: RunningPlatform) -> None:
    platform.strike(Incident(reset=True))


def _close(code: int) -> Callable[[RunningPlatform], None]:
    def close(platform: RunningPlatform) -> None:
        platform.strike(Incident(close=code))

    return close


def _lasting(
    fault: Fault, seconds: float, first_reset: bool = False
) -> Callable[[RunningPlatform], None]:
    def strike(platform: RunningPlatform) -> None:
        platform.set_fault(fault)
        if first_reset:
            _reset(platform)
        time.sleep(seconds)
        platform.clear_fault()

    return strike


def _early_pong_then_reset(platform: RunningPlatform) -> None:
    """Acknowledged, and yet not read: only the linger time saves these."""
    platform.set_fault(Fault(pong=PongMode.EARLY, pong_delay_s=2.0))
    time.sleep(1.0)
    _reset(platform)
    platform.clear_fault()


def _killed(platform: RunningPlatform) -> None:
    platform.kill()
    time.sleep(1.0)
    platform.start()


TROUBLES: dict[str, Callable[[RunningPlatform], None]] = {
    "reset": _reset,
    "closed with 1011": _close(1011),
    "frozen": _lasting(Fault(freeze=True), 4.0),
    "pong lost": _lasting(Fault(pong=PongMode.DROP), 4.0),
    "platform killed": _killed,
    "dies after its pong": _lasting(Fault(pong=PongMode.DIE), 1.0),
    "pongs before it reads": _early_pong_then_reset,
    "refuses with 503": _lasting(Fault(refuse=Refusal.UNAVAILABLE), 3.0, first_reset=True),
    "closed with 1012": _close(1012),
    "slow": _lasting(Fault(slow_bytes_per_s=50_000), 3.0),
}
