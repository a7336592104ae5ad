"""DISCOVER: the devices, datastreams and operations there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.datastreams.registry import DatastreamRegistry
from oda.interfaces import IDatastreamGetter, IDatastreamSetter, IOperation
from oda.model import Reading
from oda.operations.catalogue import BY_SCRIPT
from oda.operations.discover import Discover

from .fakes import HOST_ID, Bench, request


@implementer(IDatastreamGetter, IDatastreamSetter)
class Port:
    """A datastream of some devices; reading it is a defect of the test."""

    def __init__(self, datastream_id: str, devices: Callable[[], Iterable[str]]) -> None:
        self.datastream_id = datastream_id
        self.devices = devices

    def get(self, device_id: str) -> Reading:
        raise AssertionError("DISCOVER reads nothing")

    def set(self, device_id: str, value: Any) -> None:
        raise AssertionError("DISCOVER writes nothing")


def no_devices() -> Iterable[str]:
    raise RuntimeError("the bus is down")


def discovered(**members: Any) -> dict[str, Any]:
    """The values of the answer, by variable."""
    registry = DatastreamRegistry(HOST_ID)
    registry.add_getter(Port("temperature", lambda: ["", "b"]))
    registry.add_getter(Port("pump", lambda: ["b", "a"]))
    registry.add_setter(Port("pump", lambda: ["a"]))
    registry.add_setter(Port("clock", lambda: [""]))
    registry.add_setter(Port("broken", no_devices))
    operation = Discover(registry, lambda: ["DISCOVER", "X"], lambda: HOST_ID)
    assert verifyObject(IOperation, operation)
    response = Bench(operation).response(name="DISCOVER", **members)
    assert response["resultCode"] == "SUCCESSFUL"
    (step,) = response["steps"]
    return {entry["variableName"]: entry["variableValue"] for entry in step["response"]}


def stream(datastream_id: str, device_id: str, readable: bool, writable: bool) -> dict[str, Any]:
    return {
        "datastreamId": datastream_id,
        "deviceId": device_id,
        "readable": readable,
        "writable": writable,
    }


def test_without_a_device_it_tells_of_all() -> None:
    """The host first, then by id; what is only written is there too."""
    found = discovered()
    assert found["devices"] == [HOST_ID, "a", "b"]
    assert found["operations"] == ["DISCOVER", "X"]
    assert found["datastreams"] == [
        stream("clock", HOST_ID, False, True),
        stream("temperature", HOST_ID, True, False),
        stream("pump", "a", True, True),
        stream("pump", "b", True, False),
        stream("temperature", "b", True, False),
    ]


@pytest.mark.parametrize(
    ("device_id", "devices"),
    [(HOST_ID, [HOST_ID]), ("b", ["b"]), ("*", [HOST_ID, "a", "b"]), ("nobody", [])],
)
def test_a_device_or_a_pattern_chooses(device_id: str, devices: list[str]) -> None:
    """A device that nobody knows has nothing."""
    assert discovered(deviceId=device_id)["devices"] == devices


@pytest.mark.parametrize("name", [*BY_SCRIPT, "REBOOT_EQUIPMENT"])
def test_the_catalogue_is_refused_with_the_key_that_would_allow_it(name: str) -> None:
    """The code and the beginning of the text are those of every unknown operation."""
    response = Bench().response(name=name)
    assert response["resultCode"] == "NOT_SUPPORTED"
    key = "rebootCommand" if name == "REBOOT_EQUIPMENT" else f"{name}=<script>"
    assert response["resultDescription"] == (
        f"Operation not supported by the device: {key} in es.amplia.oda.operations.scripts.cfg"
        " would allow it"
    )
    assert request(name=name)
