"""Finding out who the device is, again and again until there is an answer to connect with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.errors import ConnectorError, DatastreamError
from oda.interfaces import IDeviceInfoProvider
from oda.settings import Secret

_log = Logger()

#: When the device's id can't be read, it is asked for again after this many seconds.
IDENTIFY_AGAIN_S = 30.0


class Identification:
    """From ``start()`` to one successful call of ``identified(device_id, api_key)``, or
    ``cancel()``.

    When the id can't be read, or ``identified`` raises (``ConnectorError``: what was found can't be
    used), it says why and begins again after ``IDENTIFY_AGAIN_S``.
    """

    def __init__(
        self,
        device_info: IDeviceInfoProvider,
        reactor: Any,
        identified: Callable[[str, Secret], None],
    ) -> None:
        self._device_info = device_info
        self._reactor = reactor
        self._identified = identified
        self._again: Any = None
        self._round = 0

    @property
    def is_waiting(self) -> bool:
        """True while a timer will ask again."""
        return self._again is not None

    def start(self) -> None:
        """Ask now; an answer to an earlier question doesn't count any more."""
        self.cancel()
        question = maybeDeferred(self._device_info.device_id)
        question.addCallback(self._answered, self._round)
        question.addErrback(self._failed, self._round)

    def cancel(self) -> None:
        """Ask no more, and ignore an answer that is still to come."""
        self._round += 1
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _answered(self, device_id: str, asked_in: int) -> None:
        if asked_in == self._round:
            self._identified(device_id, Secret(self._device_info.api_key()))

    def _failed(self, failure: Failure, asked_in: int) -> None:
        if asked_in != self._round:
            return
        if failure.check(DatastreamError, ConnectorError):
            _log.error(
                "can't connect: {reason}; trying again in {delay:g} s",
                reason=failure.getErrorMessage(),
                delay=IDENTIFY_AGAIN_S,
            )
        else:
            _log.failure("can't connect: a defect in the device info", failure)
        self._again = self._reactor.callLater(IDENTIFY_AGAIN_S, self.start_again)

    def start_again(self) -> None:
        """The wait is over."""
        self._again = None
        self.start()
