"""DISCOVER: tells what there is to read, to write and to ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from oda.interfaces import IDatastreamRegistry, IOperation, IProgress
from oda.model import HOST, WILDCARD, OperationRequest, OperationResult, device_order
from oda.operations.response import single_step, variable_entry


@implementer(IOperation)
class Discover:
    """Answers with the devices, their datastreams and the operations that the agent knows. A
    request without a device asks for all devices, one with a device (or a pattern) for that.

    ``operation_names`` gives the names of the operations that have a handler.
    """

    name = "DISCOVER"
    reads_only = True

    def __init__(
        self,
        registry: IDatastreamRegistry,
        operation_names: Callable[[], Sequence[str]],
        host_id: Callable[[], str],
    ) -> None:
        self._registry = registry
        self._operation_names = operation_names
        self._host_id = host_id

    def execute(self, request: OperationRequest, progress: IProgress) -> OperationResult:
        """Nothing is read; parameters are ignored."""
        registry = self._registry
        pattern = request.device_id
        if pattern == HOST and not request.requested_device_id:
            pattern = WILDCARD
        readable = {
            (datastream_id, device_id)
            for datastream_id in registry.datastream_ids(pattern)
            for device_id, _ in registry.getters(datastream_id, pattern)
        }
        writable = set(registry.writable(pattern))
        known = sorted(readable | writable, key=lambda one: (device_order(one[1]), one[0]))
        datastreams: list[dict[str, Any]] = [
            {
                "datastreamId": datastream_id,
                "deviceId": self._named(device_id),
                "readable": (datastream_id, device_id) in readable,
                "writable": (datastream_id, device_id) in writable,
            }
            for datastream_id, device_id in known
        ]
        devices = list(dict.fromkeys(one["deviceId"] for one in datastreams))
        return single_step(
            self.name,
            [
                variable_entry("devices", value=devices),
                variable_entry("datastreams", value=datastreams),
                variable_entry("operations", value=list(self._operation_names())),
            ],
        )

    def _named(self, device_id: str) -> str:
        return device_id or self._host_id()
