"""Device patterns: which devices a text names. Pure.

"" names the host only, a text without ``*`` one device, a text with one ``*`` every device whose
id begins with what stands before it and ends with what stands after it; ``*`` alone names every
device, the host included (OpenGate protocol, "Configuration files").
"""

from __future__ import annotations

from oda.model import HOST

WILDCARD = "*"


class DevicePattern:
    """A device pattern, taken apart. A text with several ``*`` is the plain id of one device."""

    __slots__ = ("_is_wildcard", "_prefix", "_suffix", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._prefix, _, self._suffix = text.partition(WILDCARD)
        self._is_wildcard = text.count(WILDCARD) == 1

    def matches(self, device_id: str) -> bool:
        """Whether ``device_id`` ("" being the host) is one of the devices it names."""
        if not self._is_wildcard:
            return device_id == self._text
        return (
            len(device_id) >= len(self._prefix) + len(self._suffix)
            and device_id.startswith(self._prefix)
            and device_id.endswith(self._suffix)
        )

    def __repr__(self) -> str:
        return f"DevicePattern({self._text!r})"


def device_order(device_id: str) -> tuple[bool, str]:
    """Sorting key for devices: the host first, then by id."""
    return (device_id != HOST, device_id)
