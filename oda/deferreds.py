"""A shorter way for Deferreds that have fired already, as most do on the path of a request.

``addCallbacks`` on such a Deferred costs as much as decoding a small request. Where nothing follows
the callback, the result can be taken as it is.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred

_T = TypeVar("_T")


def result_now(deferred: Deferred[Any], kind: type[_T]) -> _T | None:
    """The result of ``deferred`` if it has fired with a ``kind``, exactly; else None.

    None also while it is paused, as one that waits for another is, and for subclasses of
    ``Deferred``, which may be foreign code.
    """
    if type(deferred) is Deferred and deferred.called and not deferred.paused:
        result: Any = deferred.result
        if type(result) is kind:
            return result
    return None
