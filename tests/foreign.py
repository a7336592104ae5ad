"""Objects of other people that fail when they are looked at."""

from __future__ import annotations

from typing import Any


class Unseen:
    """A proxy to something that is not there: to look at its class fails."""

    def __init__(self, error: BaseException) -> None:
        object.__setattr__(self, "error", error)

    @property
    def __class__(self) -> Any:
        raise object.__getattribute__(self, "error")


class HashedOnce:
    """A key that can be put into one dict only."""

    hashed = 0

    def __hash__(self) -> int:
        self.hashed += 1
        if self.hashed > 1:
            raise RuntimeError("no hash any more")
        return 1
