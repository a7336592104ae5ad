"""Directories as Java ODA deployments have them load unchanged; the values are made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oda.config.loader import load
from oda.errors import ConfigurationError
from oda.model import ContentType
from oda.settings import Schedule, ValueType
from tests.config.deployments import DEPLOYMENTS
from tests.config.directories import MINIMAL, faults_of, load_files, name_of, write

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


def test_the_clock_operations_have_files_of_their_own(tmp_path: Path) -> None:
    """Each names its own clock; without them, that of the dispatcher's file counts."""
    loaded = load_files(
        tmp_path,
        {
            "dispatcher.opengate": "clockDatastream=usual\n",
            "operation.setclock": "clockDatastream=set\n",
            "operation.synchronizeclock": "clockDatastream=synchronised\n",
        },
    )
    assert loaded.ignored == ()
    assert loaded.settings.set_clock.clock_datastream == "set"
    assert loaded.settings.synchronize_clock.clock_datastream == "synchronised"
    assert loaded.settings.dispatcher.clock_datastream == "usual"


@pytest.mark.parametrize("board", ["fx30", "owa450"])
def test_the_identity_in_the_file_of_a_board(tmp_path: Path, board: str) -> None:
    """``deviceinfofx30`` and ``deviceinfoowa450`` hold the same keys as ``deviceinfo``."""
    directory = write(
        tmp_path,
        {
            "connector.websocket": MINIMAL["connector.websocket"],
            f"datastreams.deviceinfo{board}": "deviceId=dev-7\napiKey=k\na.b=c.sh\n",
        },
    )
    loaded = load(directory, {})
    assert loaded.settings.device_info.device_id == "dev-7"
    assert [script.command for script in loaded.settings.device_info.scripts] == ["c.sh"]
    assert name_of(f"datastreams.deviceinfo{board}") in loaded.read
    assert (loaded.ignored, loaded.warnings) == ((), ())


def test_a_fault_in_the_file_of_a_board_names_that_file(tmp_path: Path) -> None:
    """The name that the operator knows, and the line."""
    directory = write(
        tmp_path,
        {
            "connector.websocket": MINIMAL["connector.websocket"],
            "datastreams.deviceinfofx30": "apiKey=k\nscriptTimeout=soon\n",
        },
    )
    with pytest.raises(ConfigurationError) as caught:
        load(directory, {})
    (fault,) = caught.value.faults
    assert fault.file == str(directory / name_of("datastreams.deviceinfofx30"))
    assert (fault.line, fault.key) == (2, "scriptTimeout")


def test_two_files_of_the_identity_are_a_fault_that_names_both(tmp_path: Path) -> None:
    """Which of them counts would depend on chance."""
    (fault,) = faults_of(tmp_path, {"datastreams.deviceinfoowa450": "deviceId=b\napiKey=k\n"})
    assert fault.file == name_of("datastreams.deviceinfoowa450")
    assert name_of("datastreams.deviceinfo") in fault.problem


def test_empty_values_that_existing_files_have(tmp_path: Path) -> None:
    """``deviceId=`` and ``path=`` count as absent: the serial number, and the root."""
    loaded = load_files(
        tmp_path,
        {
            "connector.websocket": "host=h\npath=\n",
            "datastreams.deviceinfo": "apiKey=k\ndeviceId=\n",
        },
    )
    assert loaded.settings.device_info.device_id is None
    assert loaded.settings.connector.path == ""
    assert len(loaded.notes) == 2


def test_zero_seconds_are_a_warning(tmp_path: Path) -> None:
    """ODA reads 0 as off. The longest time that is allowed comes near to that, and the operator is
    told of it by file, line and key."""
    loaded = load_files(
        tmp_path,
        {"connector.websocket": "host=h\npath=p\nkeepAliveInterval=0\nconnectionTimeout=0\n"},
    )
    connector = loaded.settings.connector
    assert (connector.keep_alive_interval_s, connector.connection_timeout_s) == (86400, 86400)
    places = [warning.split(": ")[:2] for warning in loaded.warnings]
    file = str(tmp_path / name_of("connector.websocket"))
    assert places == [[f"{file}:3", "keepAliveInterval"], [f"{file}:4", "connectionTimeout"]]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_loads_unchanged(tmp_path: Path, name: str) -> None:
    """Nothing in it is a fault; what deserves a look is warned of, key by key, and nothing else
    is; no value shows that may be a key."""
    deployment = DEPLOYMENTS[name]
    loaded = load(deployment.write(tmp_path / "configuration"), {})
    assert loaded.ignored == tuple(name_of(component) for component in deployment.ignored)
    warned = [re.sub(r"^\S+:\d+: (\S+): .*", r"\1", warning) for warning in loaded.warnings]
    assert sorted(warned) == sorted(deployment.warnings)
    assert "-key" not in " ".join((*loaded.warnings, *loaded.notes))


def test_there_are_ten_deployments() -> None:
    """As many as the demonstrations of ODA, and one of a test suite."""
    assert len(DEPLOYMENTS) >= 10


def test_of_lines_that_stand_twice_the_last_counts(tmp_path: Path) -> None:
    """As in Java: the deployment goes on as it ran."""
    settings = load(DEPLOYMENTS["grown over years"].write(tmp_path), {}).settings
    assert settings.connector.host == "new.example.org"
    assert settings.device_info.api_key.reveal() == "new-key"
    assert [script.command for script in settings.device_info.scripts] == ["two.sh"]
    assert [(one.datastream_id, one.period_s) for one in settings.poller.schedules] == [
        ("c:d", 60),
        ("a.b", 90),
    ]


def test_two_spellings_of_a_key_that_contradict_each_other(tmp_path: Path) -> None:
    """Each version of ODA knows one of them: which one ran here nobody can tell."""
    (fault,) = faults_of(tmp_path, {"connector.websocket": "host=h\npath=a\ngeneralPath=b\n"})
    assert (fault.line, fault.key) == (3, "generalPath")
    assert "path in line 2" in fault.problem


def test_a_key_of_another_version_is_read_past(tmp_path: Path) -> None:
    """As ODA does, with a warning that names what is allowed."""
    loaded = load_files(tmp_path, {"connector.websocket": "host=h\npath=p\nfrobnicate=1\n"})
    (warning,) = loaded.warnings
    assert ":3: frobnicate: unknown key, ignored; allowed: ackCommitDelay, " in warning


def test_a_script_line_without_a_script_is_no_line(tmp_path: Path) -> None:
    """The datastream is the built-in one, where there is one."""
    loaded = load_files(tmp_path, {"datastreams.deviceinfo": "apiKey=k\ndevice.clock=\n"})
    assert loaded.settings.device_info.scripts == ()
    (warning,) = loaded.warnings
    assert ":2: device.clock: " in warning


@pytest.mark.parametrize("line", ["apiKeycanary.4f9a-2b77", "apcanary-4f9a-2b77", "APIKEYcanary"])
def test_a_lost_separator_shows_no_key(tmp_path: Path, line: str) -> None:
    """The line is one without a script by then, and holds the API key in its name."""
    loaded = load_files(tmp_path, {"datastreams.deviceinfo": f"apiKey=k\n{line}\n"})
    (warning,) = loaded.warnings
    assert "canary" not in warning
    assert ":2: " in warning


def test_a_doubled_key_is_a_fault_where_no_file_is_older(tmp_path: Path) -> None:
    """Nobody relies on it, and it is probably an oversight."""
    (fault,) = faults_of(tmp_path, {"plugins": "plugins=a\nplugins=b\n"})
    assert (fault.line, fault.key) == (1, "plugins")


@pytest.mark.parametrize(
    ("component", "text", "key", "help_"),
    [
        ("dispatcher.opengate", "reducedOutput=yes\n", "reducedOutput", "true or false"),
        ("connector.websocket", "host=h\nsecur=true\n", "secur", "did you mean secure?"),
        ("connector.websocket", "host=h\napiKey=k\n", "apiKey", "belongs in "),
        ("connector.websocket", "host=h\nport=\n", "port", "is empty"),
        ("subsystem.poller", "a=1 min\n", "a", "seconds"),
        ("subsystem.poller", "a;b*c*=60\n", "a;b*c*", "more than one '*'"),
        ("datastreams.deviceinfo", "apiKey=k\na.b=c.sh;NUMBER\n", "a.b", "INTEGER"),
    ],
)
def test_what_has_no_clear_meaning_is_a_fault_that_says_what_to_change(
    tmp_path: Path, component: str, text: str, key: str, help_: str
) -> None:
    """The start would do something that the file does not say: it names the line instead."""
    (fault,) = faults_of(tmp_path, {component: text})
    assert (fault.file, fault.key) == (name_of(component), key)
    assert help_ in fault.problem


def test_the_port_is_not_another_one_with_tls(tmp_path: Path) -> None:
    """The default is that of ODA, whatever the scheme: no port is guessed."""
    loaded = load_files(tmp_path, {"connector.websocket": "host=h\nsecure=true\n"})
    assert loaded.settings.connector.port == 80


def test_paths_of_existing_files_stay_as_written(tmp_path: Path) -> None:
    """They start at the working directory, which the configuration does not know; the outbox's
    too."""
    settings = load_files(
        tmp_path,
        {
            "connector.websocket": "host=h\noutboxPath=out.sqlite\n",
            "datastreams.deviceinfo": "apiKey=k\npath=scripts\nsource=deploy\n",
            "statemanager.inmemory": "databasePath=kept\n",
        },
    ).settings
    info = settings.device_info
    assert (info.path, info.source) == (Path("scripts"), Path("deploy"))
    assert settings.outbox.path == Path("out.sqlite")
    assert settings.state_manager is not None
    assert settings.state_manager.database_path == Path("kept")
