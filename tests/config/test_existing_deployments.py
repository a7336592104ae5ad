"""Directories as Java ODA deployments have them load unchanged; the values are made up."""

from __future__ import annotations

from pathlib import Path

from oda.config.loader import load
from oda.model import ContentType
from oda.settings import Schedule, ValueType
from tests.config.directories import load_files, name_of, write

SCRIPTED = """\
# Directory to get the scripts
source=deploy
path=scripts

deviceId=<device_id>
apiKey=<api-key>

device.clock=scripts/obtainClock.sh
device.upTime=scripts/obtainUptime.sh;LONG
device.cpu.total=scripts/obtainCpuTotal.sh;INTEGER
device.cpu.status=scripts/obtainCpuStatus.sh;
device.temperature.value=scripts/obtainTemperatureValue.sh;INTEGER
"""


def test_a_deployment_with_other_components(tmp_path: Path) -> None:
    """Files of connectors and components we don't have are listed once and otherwise ignored,
    whatever they contain; other files are not even listed."""
    write(
        tmp_path,
        {
            "connector.websocket": "host=example.org\ngeneralPath=south/v80/sessions\n",
            "datastreams.deviceinfo": SCRIPTED,
            "connector.mqtt": "brokerUrl=tcp://localhost:1883\n\\uXYZ",
            "datastreams.mqtt": "server.uri=x",
            "ruleengine.nashorn": b"\xff\xfe\x00path=rules/",
            "statemanager.realtime": "",
            "hardware.snmp": "a=b\na=b",
        },
    )
    (tmp_path / "es.amplia.oda.subsystem.counters.cfg").mkdir()
    (tmp_path / "config.properties").write_text("felix.cache=x")
    (tmp_path / "logback.xml").write_text("<a/>")
    (tmp_path / ".es.amplia.oda.subsystem.poller.cfg.swp").write_bytes(b"\0")
    (tmp_path / ".#es.amplia.oda.subsystem.poller.cfg").write_bytes(b"\0")
    loaded = load(tmp_path, {})
    assert loaded.ignored == tuple(
        name_of(component)
        for component in (
            "connector.mqtt",
            "datastreams.mqtt",
            "hardware.snmp",
            "ruleengine.nashorn",
            "statemanager.realtime",
            "subsystem.counters",
        )
    )
    assert loaded.read == (name_of("connector.websocket"), name_of("datastreams.deviceinfo"))
    assert loaded.warnings == ()
    assert loaded.settings.connector.path == "south/v80/sessions"
    assert loaded.settings.state_manager is None


def test_script_lines_with_and_without_types(tmp_path: Path) -> None:
    """No type, an empty type and a named type, as the shipped files of ODA have them."""
    info = load_files(tmp_path, {"datastreams.deviceinfo": SCRIPTED}).settings.device_info
    assert info.device_id == "<device_id>"
    assert (info.source, info.path) == (Path("deploy"), Path("scripts"))
    assert [(script.datastream_id, script.value_type) for script in info.scripts] == [
        ("device.clock", ValueType.STRING),
        ("device.upTime", ValueType.LONG),
        ("device.cpu.total", ValueType.INTEGER),
        ("device.cpu.status", ValueType.STRING),
        ("device.temperature.value", ValueType.INTEGER),
    ]
    assert info.scripts[3].command == "scripts/obtainCpuStatus.sh"


def test_an_old_device_info_file(tmp_path: Path) -> None:
    """``apikey`` in lower case and ``serialNumberCommand``, which is read as a script."""
    text = "deviceId=d\napikey=k\nserialNumberCommand=cut -c 1-8 /etc/machine-id\npath=scripts\n"
    loaded = load_files(tmp_path, {"datastreams.deviceinfo": text})
    (script,) = loaded.settings.device_info.scripts
    assert loaded.settings.device_info.api_key.reveal() == "k"
    assert script.datastream_id == "device.serialNumber"
    assert script.command == "cut -c 1-8 /etc/machine-id"
    (note,) = loaded.notes
    assert ":3: serialNumberCommand" in note


def test_keys_without_a_meaning_here_are_noted(tmp_path: Path) -> None:
    """The in-memory state manager's threads and queue: accepted, ignored, said."""
    text = (
        "databasePath=statemanager.bd\nmaxData=4000\n# old values\nforgetTime=6000000\n"
        "forgetPeriod=60\nnumProcessingThreads=1\ntasksQueueSize=40\n"
    )
    loaded = load_files(tmp_path, {"statemanager.inmemory": text})
    assert loaded.settings.state_manager is not None
    assert loaded.settings.state_manager.forget_time_s == 6_000_000
    assert ["numProcessingThreads" in loaded.notes[0], "tasksQueueSize" in loaded.notes[1]] == [
        True,
        True,
    ]


def test_comments_behind_values_as_the_documentation_of_oda_shows_them(tmp_path: Path) -> None:
    """They are no part of the syntax, but they are in use: cut off, with a warning each."""
    text = (
        "reduceBandwidthMode=true            # Reduced\n"
        "eventContentType=messagePack   # Format\n"
        "device.software=30;0        # Once\n"
        "current;sectionalizer123=30;300     # Every 5 minutes.\n"
    )
    loaded = load_files(tmp_path, {"dispatcher.opengate": text})
    dispatcher = loaded.settings.dispatcher
    assert dispatcher.reduced_output is True
    assert dispatcher.event_content_type is ContentType.MESSAGE_PACK
    assert dispatcher.schedules == (
        Schedule(datastream_id="device.software", first_s=30, period_s=0),
        Schedule(
            datastream_id="current", device_pattern="sectionalizer123", first_s=30, period_s=300
        ),
    )
    assert len(loaded.warnings) == 4


def test_a_file_whose_name_is_misspelt_is_warned_of(tmp_path: Path) -> None:
    """It would silently have no effect."""
    loaded = load_files(tmp_path, {"subsystem.poler": "a=1"})
    (warning,) = loaded.warnings
    assert name_of("subsystem.poler") in warning
    assert name_of("subsystem.poller") in warning
