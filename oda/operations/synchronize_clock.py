"""SYNCHRONIZE_CLOCK: sets the device's clock from a time source (OpenGate protocol,
"Operations")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import InvalidParameter, OperationFailed, ReadingFailed
from oda.interfaces import IOperation, IStateManager, ITimeSource, IWallClock
from oda.model import OperationRequest, OperationResult, Step
from oda.operations.clock import set_clock
from oda.operations.parameters import kind_of, read_variables, refuse_unknown


@implementer(IOperation)
class SynchronizeClock:
    """Queries the time source in the parameter ``source``, else the configured one, else
    ``host_time``, and writes the time to the datastream ``clock_datastream``.

    ``source`` is a parameter, or a variable of ``variableList``. ``open_source`` makes an
    ``ITimeSource`` from a text like ``ntp://host``; it raises ``ValueError`` for an unusable text.
    The argument ``source`` is the configured text, None if there is none. A request may name only
    this one or one of ``named_sources``: otherwise a sender could make the agent query any host in
    the device's network. ``host_time`` is the time of this machine, for a device behind it.
    """

    name = "SYNCHRONIZE_CLOCK"
    reads_only = False

    def __init__(
        self,
        state: IStateManager,
        open_source: Callable[[str], ITimeSource],
        host_time: IWallClock,
        source: str | None = None,
        clock_datastream: str = "device.clock",
        named_sources: Collection[str] = (),
    ) -> None:
        self._state = state
        self._open_source = open_source
        self._host_time = host_time
        self._source = source
        self._clock_datastream = clock_datastream
        self._allowed = {*named_sources, *([] if source is None else [source])}

    def execute(
        self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]
    ) -> Deferred[OperationResult]:
        """Fires once the clock is set or has failed; fails with ``OperationFailed`` when the source
        gave no time. Raises ``InvalidParameter`` or ``OperationFailed``."""
        source = self._chosen_source(request)
        asking = succeed(self._host_time.now_ms()) if source is None else source.now_ms()
        asking.addErrback(_explain)
        return asking.addCallback(
            lambda now_ms: set_clock(
                self._state, request.device_id, self._clock_datastream, now_ms, self.name
            )
        )

    def _chosen_source(self, request: OperationRequest) -> ITimeSource | None:
        text = _named_source(request.parameters)
        if text is not None and not isinstance(text, str):
            raise InvalidParameter("source", f"must be a text, not {kind_of(text)}")
        if text and text not in self._allowed:
            raise InvalidParameter(
                "source", "is not named by timeSource or timeSources in the agent's configuration"
            )
        chosen = text or self._source
        if chosen is None:
            return None
        try:
            return self._open_source(chosen)
        except ValueError as error:
            raise OperationFailed(f"the configured time source is unusable: {error}") from error


def _named_source(parameters: Mapping[str, Any]) -> Any:
    """The value of ``source`` in either of its places. Raises ``InvalidParameter`` for any other
    parameter."""
    refuse_unknown(parameters, ("source", "variableList"))
    source = parameters.get("source")
    if parameters.get("variableList") is None:
        return source
    variables = read_variables(parameters)
    for index, (name, value) in enumerate(variables):
        if name != "source":
            raise InvalidParameter(f"variableList[{index}].name", "must be source")
        if source is not None and source != value:
            raise InvalidParameter("source", "given twice")
        source = value
    return source


def _explain(failure: Failure) -> None:
    if isinstance(failure.value, ReadingFailed):
        raise OperationFailed(f"the time source gave no time: {failure.value}") from failure.value
    failure.raiseException()
