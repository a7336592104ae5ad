"""A shorter way for Deferreds that have fired already, as most do on the path of a request.

``addCallbacks`` on such a Deferred costs as much as decoding a small request. Where nothing follows
the callback, its result can be taken as it is.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


def has_fired_with(deferred: Deferred[Any], kind: type) -> bool:
    """Whether ``deferred`` has fired and its ``result`` is a ``kind``, exactly. False while it is
    paused, as one that waits for another is, and for subclasses of ``Deferred``, which may be
    foreign code."""
    return (
        type(deferred) is Deferred
        and bool(deferred.called)
        and not deferred.paused
        and type(deferred.result) is kind
    )
