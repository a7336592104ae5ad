"""Status texts of the device for numbers (OpenGate protocol, "Configuration files"). Pure."""

from __future__ import annotations


def cpu_status(usage_percent: float) -> str:
    """``device.cpu.status`` for a usage in percent."""
    for below, status in ((5, "IDLE"), (20, "IDLE/WORKING"), (60, "WORKING"), (80, "STRESSED")):
        if usage_percent < below:
            return status
    return "OVERLOAD"


def temperature_status(celsius: float) -> str:
    """``device.temperature.status`` for a temperature in degrees Celsius."""
    if celsius <= -50:
        return "LOW_CRITICAL"
    if celsius <= -25:
        return "LOW_WARNING"
    if celsius >= 50:
        return "HIGH_CRITICAL"
    if celsius >= 25:
        return "HIGH_WARNING"
    return "NORMAL"
