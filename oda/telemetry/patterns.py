"""Which devices a device pattern names. Pure.

"" names the host only, a text without ``*`` that device, a text with one ``*`` every device whose
id begins and ends as the pattern does; ``*`` alone names every device, the host included (OpenGate
protocol, "Configuration files").
"""

from __future__ import annotations

from collections.abc import Callable

WILDCARD = "*"


def is_wildcard(pattern: str) -> bool:
    """Whether ``pattern`` may name several devices. Several ``*`` are the id of one device."""
    return pattern.count(WILDCARD) == 1


def device_matcher(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a device id ("" being the host) is named by ``pattern``."""
    if not is_wildcard(pattern):
        return pattern.__eq__
    prefix, _, suffix = pattern.partition(WILDCARD)
    shortest = len(prefix) + len(suffix)

    def matches(device_id: str) -> bool:
        return (
            len(device_id) >= shortest
            and device_id.startswith(prefix)
            and device_id.endswith(suffix)
        )

    return matches
