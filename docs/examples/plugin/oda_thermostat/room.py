"""A heated room. Stands for the driver of a real heater."""

from __future__ import annotations


class Room:
    """Temperatures are degrees Celsius. ``warmth`` is how fast the room follows, in degrees a
    second."""

    def __init__(self, temperature: float = 18.0, warmth: float = 0.5) -> None:
        self.temperature = temperature
        self.target = temperature
        self._warmth = warmth

    def pass_time(self, seconds: float) -> None:
        """Heat up or cool down towards the target."""
        step = self._warmth * seconds
        missing = self.target - self.temperature
        self.temperature += max(-step, min(step, missing))
