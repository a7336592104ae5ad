"""Ways to damage an operation request, for devices that should survive them. Pure."""

from __future__ import annotations

from collections.abc import Callable

#: Each takes a good JSON request and returns one that a device can't execute.
_DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda good: good[: len(good) // 2],
    lambda good: b'{"operation":{"request":{"id":{"not":"text"},"name":17}}}',
    lambda good: b'{"operation":{"request":{"name":"GET_DEVICE_PARAMETERS"}}}',
    lambda good: b"[" + good + b"]",
    lambda good: b'{"operation":null}',
    lambda good: b"\x00\xff" + good,
    lambda good: b'{"a":' * 5000,
    lambda good: b"",
)


def damage(good: bytes, number: int) -> bytes:
    """The request with the ``number``-th kind of damage (the kinds repeat)."""
    return _DAMAGES[number % len(_DAMAGES)](good)


def kinds_of_damage() -> int:
    """How many kinds there are."""
    return len(_DAMAGES)
