"""A good directory, damaged in every way an operator (or a disk) damages one.

Each mutation below changes the meaning invalidly, and has to be rejected with file, line and key.
Beside the list, random damage may be accepted where it leaves a valid text, but never crashes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oda.config.loader import load
from oda.errors import ConfigurationError
from tests.config.directories import GOOD, faults_of, name_of, write

CONNECTION = "connector.websocket"
DEVICE = "datastreams.deviceinfo"
DISPATCHER = "dispatcher.opengate"
POLLER = "subsystem.poller"
COLLECTOR = "subsystem.collector"
STATE = "statemanager.inmemory"
PLUGINS = "plugins"

#: file, what is replaced, by what, the line and the key of the fault (line 0: the file as a whole)
MUTATIONS = [
    # wrong types and ranges
    (CONNECTION, "port=9955", "port=abc", 2, "port"),
    (CONNECTION, "port=9955", "port=99559", 2, "port"),
    (CONNECTION, "port=9955", "port=-9955", 2, "port"),
    (CONNECTION, "port=9955", "port=0x26e3", 2, "port"),
    (CONNECTION, "port=9955", "port=99 55", 2, "port"),
    (CONNECTION, "port=9955", "port=9,955", 2, "port"),
    (CONNECTION, "port=9955", "port=", 2, "port"),
    (CONNECTION, "port=9955", "port", 2, "port"),
    (CONNECTION, "connectionTimeout=30", "connectionTimeout=3O", 4, "connectionTimeout"),
    (CONNECTION, "connectionTimeout=30", "connectionTimeout=1e999", 4, "connectionTimeout"),
    (CONNECTION, "connectionTimeout=30", "connectionTimeout=30;", 4, "connectionTimeout"),
    (CONNECTION, "keepAliveInterval=180", "keepAliveInterval=infinity", 5, "keepAliveInterval"),
    (CONNECTION, "keepAliveInterval=180", "keepAliveInterval=-0", 5, "keepAliveInterval"),
    (CONNECTION, "host=localhost", "host=ws://localhost", 1, "host"),
    (CONNECTION, "host=localhost", "host=local host", 1, "host"),
    (CONNECTION, "host=localhost", "host=localhost:9955", 1, "host"),
    (CONNECTION, "host=localhost", "host=localhost/x", 1, "host"),
    (CONNECTION, "host=localhost", "host=local\\u0000host", 1, "host"),
    (CONNECTION, "path=/south", "path=/so uth", 3, "path"),
    (CONNECTION, "path=/south", "path=http://h/south", 3, "path"),
    (CONNECTION, "sessions", "sessions#x", 3, "path"),
    (DISPATCHER, "reducedOutput=false", "reducedOutput=no", 1, "reducedOutput"),
    (DISPATCHER, "reducedOutput=false", "reducedOutput=0", 1, "reducedOutput"),
    (DISPATCHER, "=JSON", "=YAML", 2, "eventContentType"),
    (STATE, "maxData=4000", "maxData=-1", 2, "maxData"),
    (STATE, "maxData=4000", "maxData=4e3", 2, "maxData"),
    (STATE, "forgetTime=172800", "forgetTime=two days", 3, "forgetTime"),
    (STATE, "forgetPeriod=60", "forgetPeriod=0", 4, "forgetPeriod"),
    # misspelt, moved, missing, contradicting keys
    (CONNECTION, "host=", "hots=", 1, "hots"),
    (CONNECTION, "host=", "Host=", 1, "Host"),
    (CONNECTION, "host=localhost\n", "", 0, "host"),
    (CONNECTION, "port=", "prot=", 2, "prot"),
    (CONNECTION, "connectionTimeout", "conectionTimeout", 4, "conectionTimeout"),
    (CONNECTION, "port=9955", "generalPath=/x", 3, "path"),
    (CONNECTION, "port=9955", "apiKey=x", 2, "apiKey"),
    (CONNECTION, "port=9955", "=9955", 2, ""),
    (DEVICE, "apiKey=", "apiKeys=", 2, "apiKeys"),
    (DEVICE, "apiKey=", "APIKEY=", 2, "APIKEY"),
    (DEVICE, "apiKey=canary-key-0123456789\n", "", 0, "apiKey"),
    (DEVICE, "deviceId=", "deviceID=", 1, "deviceID"),
    (STATE, "maxData", "maxdata", 2, "maxdata"),
    (STATE, "databasePath=statemanager.bd", "databasePath=", 1, "databasePath"),
    # lines
    (DEVICE, ";LONG", ";LNOG", 5, "device.upTime"),
    (DEVICE, "scripts/obtainUptime.sh", "", 5, "device.upTime"),
    (DEVICE, "scripts/obtainUptime.sh", '"scripts/obtainUptime.sh', 5, "device.upTime"),
    (DISPATCHER, "value=60", "value=6O", 3, "device.temperature.value"),
    (DISPATCHER, "value=60", "value=60;60;60", 3, "device.temperature.value"),
    (POLLER, "=30;300", "=30,300", 1, "device.upTime"),
    (POLLER, "=30;300", "=-30;300", 1, "device.upTime"),
    (POLLER, "=30;300", "=;300", 1, "device.upTime"),
    (POLLER, "=30;300", "=", 1, "device.upTime"),
    (POLLER, "sensor-*", "*sensor-*", 2, "device.clock;*sensor-*"),
    (POLLER, "device.clock;", "device.clock ;", 2, "device.clock"),
    (POLLER, "device.clock;sensor-*", "device.upTime;", 2, "device.upTime;"),
    (CONNECTION, "port=9955", "portt=9955", 2, "portt"),
    (COLLECTOR, "device.upTime=", "=", 1, ""),
    (COLLECTOR, "60;300", "60s;300s", 1, "device.upTime"),
    # plugins
    (PLUGINS, "plugins=first", "plugins=frist", 2, "first.colour"),
    (PLUGINS, "plugins=first", "plugins=first,,second", 1, "plugins"),
    (PLUGINS, "plugins=first\n", "", 1, "first.colour"),
    # the text itself
    (CONNECTION, "localhost", "local\\u00", 1, "host"),
    (CONNECTION, "localhost\n", "localhost\\\n", 1, "host"),
    (CONNECTION, "9955", "99\x0055", 2, "port"),
    (POLLER, "30;300\n", "30;300\\\n", 1, "device.upTime"),
    (STATE, "4000", "4000\ufffd", 2, "maxData"),
    (STATE, "4000", "\u0664\u0660\u0660\u0660", 2, "maxData"),
    (DEVICE, "dev-1", "dev\\ud83d", 1, "deviceId"),
    (DEVICE, "dev-1", "dev\\u200b", 1, "deviceId"),
]


@pytest.mark.parametrize(("component", "old", "new", "line", "key"), MUTATIONS)
def test_every_invalid_mutation_is_rejected_in_its_place(
    tmp_path: Path, component: str, old: str, new: str, line: int, key: str
) -> None:
    """One of the faults names the file, the line and the key that were damaged, and all of them
    have a text."""
    assert old in GOOD[component]
    files = {**GOOD, component: GOOD[component].replace(old, new, 1)}
    faults = faults_of(tmp_path, files)
    assert (name_of(component), line, key) in {fault[:3] for fault in faults}
    assert {fault.file for fault in faults} == {name_of(component)}
    assert all(len(fault.problem) > 10 for fault in faults)
    assert all("canary-key" not in str(fault) for fault in faults)


def test_there_are_enough_mutations_and_the_original_is_good(tmp_path: Path) -> None:
    """At least 60, each of a directory that loads."""
    assert len(MUTATIONS) >= 60
    load(write(tmp_path, GOOD), {})


DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 150), st.just(b"")),
    st.tuples(st.just("flip"), st.integers(0, 150), st.binary(min_size=1, max_size=1)),
    st.tuples(st.just("insert"), st.integers(0, 150), st.binary(min_size=1, max_size=8)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.lists(DAMAGE, min_size=1, max_size=3))
def test_random_damage_never_crashes(
    tmp_path: Path, component: str, damages: list[tuple[str, int, bytes]]
) -> None:
    """Cut, flipped, inserted bytes: settings or faults in that file with a line of that file."""
    data = GOOD[component].encode()
    for kind, position, piece in damages:
        rest = {"cut": b"", "flip": data[position + 1 :], "insert": data[position:]}[kind]
        data = data[:position] + piece + rest
    write(tmp_path, {**GOOD, component: data})
    lines = data.count(b"\n") + data.count(b"\r") + 1
    try:
        load(tmp_path, {})
    except ConfigurationError as error:
        for fault in error.faults:
            assert Path(fault.file).name == name_of(component)
            assert 0 <= fault.line <= lines
            assert fault.problem
