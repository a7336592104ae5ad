"""REFRESH_INFO: reads every datastream of a device (OpenGate protocol, "Operations")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.interfaces import ICounters, IOperation, IStateManager
from oda.model import DatastreamValue, OperationRequest, OperationResult, Step, ValueStatus
from oda.operations.response import CheckValue, single_step, unsendable, variable_entry


@implementer(IOperation)
class RefreshInfo:
    """Answers with one entry per datastream that could be read, each with a list of values: one
    value, or one per device when the request's device id is a pattern. Omits and counts a value
    that can't be sent (``values_not_sendable``)."""

    name = "REFRESH_INFO"
    reads_only = True

    def __init__(self, state: IStateManager, check_value: CheckValue, counters: ICounters) -> None:
        self._state = state
        self._check_value = check_value
        self._counters = counters

    def execute(
        self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]
    ) -> Deferred[OperationResult]:
        """Fires when the state manager has read everything; ignores parameters."""
        return self._state.get(request.device_id, None).addCallback(self._result)

    def _result(self, values: Sequence[DatastreamValue]) -> OperationResult:
        by_datastream: dict[str, list[dict[str, Any]]] = {}
        left_out = 0
        for value in values:
            if value.status is not ValueStatus.OK:
                continue
            parts = (value.value, value.datastream_id, value.feed, value.at_ms)
            if unsendable(self._check_value, *parts) is None:
                by_datastream.setdefault(value.datastream_id, []).append(_value_document(value))
            else:
                left_out += 1
        if left_out:
            self._counters.increment("values_not_sendable", left_out)
        return single_step(
            self.name,
            [variable_entry(name, value=documents) for name, documents in by_datastream.items()],
        )


def _value_document(value: DatastreamValue) -> dict[str, Any]:
    document: dict[str, Any] = {"datastreamId": value.datastream_id}
    if value.feed is not None:
        document["feed"] = value.feed
    document["status"] = "OK"
    if value.at_ms is not None:
        document["at"] = value.at_ms
    if value.value is not None:
        document["value"] = value.value
    return document
