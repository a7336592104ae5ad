"""SET_CLOCK_EQUIPMENT: sets the device's clock (OpenGate protocol, "Operations")."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.interfaces import IOperation, IStateManager, IWallClock
from oda.model import OperationRequest, OperationResult, Step
from oda.operations.clock import read_datetime_ms, set_clock


@implementer(IOperation)
class SetClockEquipment:
    """Writes ``datetime``, or the current time if the request has none, to the datastream
    ``clock_datastream`` as milliseconds since the Unix epoch."""

    name = "SET_CLOCK_EQUIPMENT"
    reads_only = False

    def __init__(
        self, state: IStateManager, wall_clock: IWallClock, clock_datastream: str = "device.clock"
    ) -> None:
        self._state = state
        self._wall_clock = wall_clock
        self._clock_datastream = clock_datastream

    def execute(
        self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]
    ) -> Deferred[OperationResult]:
        """Fires once the clock is set or has failed. Raises ``InvalidParameter``."""
        now_ms = read_datetime_ms(request.parameters)
        if now_ms is None:
            now_ms = self._wall_clock.now_ms()
        return set_clock(self._state, request.device_id, self._clock_datastream, now_ms, self.name)
