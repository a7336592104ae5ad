"""The registry of getters and setters."""

from __future__ import annotations

from enum import StrEnum
from typing import cast

import pytest
from zope.interface.verify import verifyObject

from oda.datastreams.registry import DatastreamRegistry
from oda.errors import DatastreamError, DatastreamNotFound, DatastreamTaken
from oda.interfaces import IDatastreamGetter, IDatastreamRegistry, IDatastreamSetter
from tests.datastreams.fakes import FakeGetter, FakeSetter


def test_it_provides_its_interface() -> None:
    """The registry and the fakes keep their contracts."""
    assert verifyObject(IDatastreamRegistry, DatastreamRegistry())
    assert verifyObject(IDatastreamGetter, FakeGetter("t"))
    assert verifyObject(IDatastreamSetter, FakeSetter("t"))


def test_lookup_by_datastream_and_device() -> None:
    """A getter is found for exactly its datastream and its devices."""
    registry = DatastreamRegistry()
    host, children = FakeGetter("t"), FakeGetter("t", ["c2", "c1"])
    registry.add_getter(children)
    registry.add_getter(host)
    assert registry.getters("t", "") == [("", host)]
    assert registry.getters("t", "c1") == [("c1", children)]
    assert registry.getters("t", "c3") == []
    assert registry.getters("u", "*") == []
    assert registry.getters("t", "*") == [("", host), ("c1", children), ("c2", children)]
    assert registry.getters("t", "c*") == [("c1", children), ("c2", children)]


def test_devices_are_asked_at_every_lookup() -> None:
    """A device that appears behind a getter later is found, one that disappears is not."""
    registry = DatastreamRegistry()
    getter = FakeGetter("t", [])
    registry.add_getter(getter)
    assert registry.getters("t", "*") == []
    getter.served = ["c1"]
    assert registry.getters("t", "c1") == [("c1", getter)]
    assert registry.datastream_ids("c1") == ["t"]
    getter.served = []
    assert registry.getters("t", "c1") == []


def test_doubled_registration_is_refused() -> None:
    """Two getters (or setters) for one datastream of one device are an error that names both."""
    registry = DatastreamRegistry()
    registry.add_getter(FakeGetter("t", ["a", "b"]))
    with pytest.raises(DatastreamTaken, match=r"FakeGetter\('t'\).*'b'.*FakeGetter\('t'\)"):
        registry.add_getter(FakeGetter("t", ["c", "b"]))
    assert registry.getters("t", "c") == [], "nothing of the refused one stays"
    registry.add_setter(FakeSetter("t", ["a"]))
    with pytest.raises(DatastreamTaken, match=r"'t'.*'a'"):
        registry.add_setter(FakeSetter("t", ["a"]))


def test_a_fallback_gives_way() -> None:
    """A built-in is replaced by any other getter of its device, and is back when that has gone."""
    registry = DatastreamRegistry()
    other, builtin, script = FakeGetter("t", ["c"]), FakeGetter("t"), FakeGetter("t")
    registry.add_getter(other)
    registry.add_getter(builtin, fallback=True)
    assert registry.getters("t", "") == [("", builtin)]
    registry.add_getter(script)
    assert registry.getters("t", "") == [("", script)]
    assert registry.getters("t", "*") == [("", script), ("c", other)]
    registry.remove_getter(script)
    assert registry.getters("t", "") == [("", builtin)]
    with pytest.raises(DatastreamTaken):
        registry.add_getter(FakeGetter("t"), fallback=True)
    registry.remove_getter(builtin)
    assert registry.getters("t", "") == []
    assert registry.getters("t", "c") == [("c", other)]


def test_the_older_getter_wins_a_later_conflict() -> None:
    """When devices grow into each other after registration, the answer doesn't change."""
    registry = DatastreamRegistry()
    older, newer = FakeGetter("t", ["a"]), FakeGetter("t", ["b"])
    registry.add_getter(older)
    registry.add_getter(newer)
    newer.served = ["a", "b"]
    assert registry.getters("t", "a") == [("a", older)]
    assert registry.getters("t", "*") == [("a", older), ("b", newer)]


def test_removal_while_running() -> None:
    """What was removed is not found, can be added again, and can't be removed twice."""
    registry = DatastreamRegistry()
    getter, setter = FakeGetter("t"), FakeSetter("t")
    registry.add_getter(getter)
    registry.add_setter(setter)
    registry.remove_getter(getter)
    registry.remove_setter(setter)
    assert registry.getters("t", "*") == []
    assert registry.setter("t", "") is None
    assert registry.datastream_ids("*") == []
    with pytest.raises(DatastreamNotFound, match="'t'"):
        registry.remove_getter(getter)
    with pytest.raises(DatastreamNotFound, match="'t'"):
        registry.remove_setter(setter)
    registry.add_getter(getter)
    assert registry.getters("t", "") == [("", getter)]


def test_the_hosts_own_id_means_the_host() -> None:
    """Wherever a device is named, the agent's own id is the host; a pattern is taken as it is."""
    registry = DatastreamRegistry()
    registry.host_id = "gw-1"
    getter, setter = FakeGetter("t"), FakeSetter("t")
    registry.add_getter(getter)
    registry.add_setter(setter)
    assert registry.getters("t", "gw-1") == [("", getter)]
    assert registry.setter("t", "gw-1") is setter
    assert registry.datastream_ids("gw-1") == ["t"]
    assert registry.canonical_id("gw-1") == ""
    assert registry.canonical_id("gw-2") == "gw-2"
    assert registry.getters("t", "gw*") == []


def test_setters_by_device() -> None:
    """A setter is found for its devices only."""
    registry = DatastreamRegistry()
    setter = FakeSetter("t", ["a"])
    registry.add_setter(setter)
    assert registry.setter("t", "a") is setter
    assert registry.setter("t", "") is None
    assert registry.setter("u", "a") is None


def test_datastreams_of_a_device_are_sorted() -> None:
    """The datastreams that some matching device has, in an order that registration can't change."""
    registry = DatastreamRegistry()
    for datastream_id, devices in (("z", [""]), ("a", ["c1"]), ("m", ["", "c1"])):
        registry.add_getter(FakeGetter(datastream_id, devices))
    assert registry.datastream_ids("") == ["m", "z"]
    assert registry.datastream_ids("c*") == ["a", "m"]
    assert registry.datastream_ids("*") == ["a", "m", "z"]
    assert registry.datastream_ids("nobody") == []


@pytest.mark.parametrize("datastream_id", [None, 5, "", b"t", "caf\udce9"])
def test_an_id_that_is_none_is_refused(datastream_id: object) -> None:
    """A getter or setter without a proper id would spoil the list of all ids: it is refused."""
    registry = DatastreamRegistry()
    registry.add_getter(FakeGetter("t"))
    with pytest.raises(DatastreamError, match="the datastream id"):
        registry.add_getter(FakeGetter(cast(str, datastream_id)))
    with pytest.raises(DatastreamError, match="the datastream id"):
        registry.add_setter(FakeSetter(cast(str, datastream_id)))
    assert registry.datastream_ids("") == ["t"]


def test_what_changes_its_id_is_removed_all_the_same() -> None:
    """An entry is found where it was put, whatever it calls its datastream by now."""
    registry = DatastreamRegistry()
    getter = FakeGetter("t")
    registry.add_getter(getter)
    getter.datastream_id = "u"
    registry.remove_getter(getter)
    assert registry.getters("t", "") == []


def test_the_id_may_be_a_member_of_an_enumeration() -> None:
    """What is read of it is named by the plain text, which every format carries."""

    class Ids(StrEnum):
        TEMPERATURE = "room.temperature"

    registry = DatastreamRegistry()
    getter = FakeGetter(Ids.TEMPERATURE)
    registry.add_getter(getter)
    assert registry.getters("room.temperature", "") == [("", getter)]
    assert [type(name) for name in registry.datastream_ids("")] == [str]
    registry.remove_getter(getter)
