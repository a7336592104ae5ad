"""Bundles too big for one message are cut. Pure.

A cut goes through the datapoints, taken run by run: every part holds a stretch of them, in order,
so the parts sent one after the other keep the order of each datastream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from oda.errors import EncodeError
from oda.model import TelemetryDocument
from oda.telemetry.documents import Bundle, Run

#: How many datapoints one document holds at most.
MAX_DATAPOINTS = 500


class Part(msgspec.Struct, frozen=True):
    """A bundle that fits: its complete document is encoded in ``payload``.

    ``payload`` is None for a single datapoint that can't be sent; ``problem`` then says why.
    """

    bundle: Bundle
    payload: bytes | None
    problem: str = ""


def cut(bundle: Bundle, max_datapoints: int) -> Iterator[Bundle]:
    """Bundles of at most ``max_datapoints`` that together are ``bundle``."""
    if len(bundle) <= max_datapoints:
        yield bundle
        return
    runs: list[Run] = []
    room = max_datapoints
    for run in bundle.runs:
        start, total = 0, len(run.datapoints)
        while start < total:
            end = min(start + room, total)
            runs.append(run if end - start == total else run.part(start, end))
            room -= end - start
            start = end
            if not room:
                yield Bundle(bundle.device_id, bundle.path, bundle.is_host, runs)
                runs, room = [], max_datapoints
    if runs:
        yield Bundle(bundle.device_id, bundle.path, bundle.is_host, runs)


def encode_parts(
    bundle: Bundle,
    encode: Callable[[TelemetryDocument], bytes],
    max_bytes: int,
    max_datapoints: int = MAX_DATAPOINTS,
) -> Iterable[Part]:
    """The parts of ``bundle``, each encoded in at most ``max_bytes`` and ``max_datapoints``.

    ``encode`` may raise ``EncodeError``: the datapoint at fault becomes a part without payload and
    the others are sent.
    """
    if len(bundle) <= max_datapoints:  # the way of nearly every document
        return _encode_piece(bundle, encode, max_bytes)
    return (
        part
        for piece in cut(bundle, max_datapoints)
        for part in _encode_piece(piece, encode, max_bytes)
    )


def _encode_piece(
    piece: Bundle, encode: Callable[[TelemetryDocument], bytes], max_bytes: int
) -> list[Part]:
    number = len(piece)
    try:
        payload = encode(piece.complete())
    except EncodeError as error:
        if number == 1:
            return [Part(piece, None, error.problem)]
        size = (number + 1) // 2
    else:
        if len(payload) <= max_bytes:
            return [Part(piece, payload)]
        if number == 1:
            return [Part(piece, None, f"{len(payload)} bytes exceed the maximum of {max_bytes}")]
        # As many as should fit if all were of one size; at least a halving, so that it ends.
        size = max(1, min(number * max_bytes // len(payload), (number + 1) // 2))
    return [
        part for smaller in cut(piece, size) for part in _encode_piece(smaller, encode, max_bytes)
    ]
