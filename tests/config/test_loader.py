"""From a directory to settings, and from mistakes to faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from oda.config.components import COMPONENTS
from oda.config.connection import CONNECTOR
from oda.config.keys import Component
from oda.config.loader import find_directory, load
from oda.errors import ConfigurationError
from oda.model import ContentType
from oda.settings import (
    Auth,
    FrameType,
    PluginSettings,
    Schedule,
    ScriptSettings,
    Secret,
    ValueType,
)
from tests.config.directories import GOOD, faults_of, load_files, name_of, write

CONNECTION = "connector.websocket"
DEVICE = "datastreams.deviceinfo"
DISPATCHER = "dispatcher.opengate"
POLLER = "subsystem.poller"
STATE = "statemanager.inmemory"
PLUGINS = "plugins"
BASE = "host=h\npath=p\n"


def test_a_good_directory_becomes_settings(tmp_path: Path) -> None:
    """Every file fills its settings; what isn't there has the documented default."""
    loaded = load_files(tmp_path, GOOD)
    settings = loaded.settings
    connector = settings.connector
    assert (connector.host, connector.port, connector.path) == (
        "localhost",
        9955,
        "/south/v80/sessions",
    )
    assert connector.connection_timeout_s == 30
    assert connector.keep_alive_interval_s == 180
    assert connector.auth is Auth.HEADER
    assert connector.frame_type is FrameType.BINARY
    assert settings.device_info.device_id == "dev-1"
    assert settings.device_info.api_key.reveal() == "canary-key-0123456789"
    assert settings.device_info.path == Path("scripts")
    assert settings.device_info.scripts == (
        ScriptSettings(
            datastream_id="device.upTime",
            command="scripts/obtainUptime.sh",
            value_type=ValueType.LONG,
        ),
    )
    assert settings.dispatcher.event_content_type is ContentType.JSON
    assert settings.dispatcher.schedules == (
        Schedule(datastream_id="device.temperature.value", first_s=60, period_s=60),
    )
    assert settings.poller.schedules == (
        Schedule(datastream_id="device.upTime", first_s=30, period_s=300),
        Schedule(datastream_id="device.clock", device_pattern="sensor-*", first_s=60, period_s=60),
    )
    assert settings.collector.schedules == (
        Schedule(datastream_id="device.upTime", first_s=60, period_s=300),
    )
    assert settings.state_manager is not None
    assert settings.state_manager.database_path == Path("statemanager.bd")
    assert settings.state_manager.forget_time_s == 172800
    assert settings.plugins == (PluginSettings(name="first", options={"colour": "green"}),)
    assert set(loaded.read) == {name_of(component) for component in GOOD}
    assert (loaded.ignored, loaded.notes, loaded.warnings) == ((), (), ())


def test_the_shipped_directory_loads(tmp_path: Path) -> None:
    """conf/ works as it stands, without remarks (once its files are private), with the realtime
    state manager."""
    for path in (Path(__file__).parents[2] / "conf").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    loaded = load(tmp_path, {})
    assert loaded.settings.connector.host == "localhost"
    assert loaded.settings.connector.port == 9955
    assert loaded.settings.connector.path == "/south/v80/sessions"
    assert loaded.settings.device_info.api_key.reveal() == "demo-key"
    assert loaded.settings.device_info.device_id is None
    assert loaded.settings.state_manager is None
    assert any(0 < line.period_s <= 10 for line in loaded.settings.poller.schedules)
    assert (loaded.ignored, loaded.notes, loaded.warnings) == ((), (), ())


def test_every_commented_line_of_the_shipped_directory_is_right(tmp_path: Path) -> None:
    """A user who removes a ``#`` in conf/ gets a working line: all of them are tried."""
    shipped = Path(__file__).parents[2] / "conf"
    for path in shipped.iterdir():
        lines = []
        for line in path.read_text().splitlines():
            bare = line.removeprefix("#")
            lines.append(
                bare if bare != line and not bare.startswith(" ") and "=" in bare else line
            )
        text = "\n".join(lines).replace("secure=false", "secure=true")
        (tmp_path / path.name.removesuffix(".example")).write_text(text + "\n")
    for name in ("ca.pem", "device.pem", "device.key", "device.passphrase", "proxy.password"):
        (tmp_path / name).write_text("x")
    loaded = load(tmp_path, {})
    assert loaded.settings.device_info.device_id == "my-device"
    assert loaded.settings.state_manager is not None
    assert loaded.warnings == ()


def test_both_names_of_the_path_are_understood(tmp_path: Path) -> None:
    """The minimal example of the ODA documentation writes generalPath."""
    loaded = load_files(tmp_path, {CONNECTION: "host=localhost\ngeneralPath=common\n"})
    assert loaded.settings.connector.path == "common"
    (fault,) = faults_of(tmp_path, {CONNECTION: BASE + "generalPath=q\n"})
    assert (fault.line, fault.key) == (3, "generalPath")
    assert "line 2" in fault.problem


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("port=65535", "port", 65535),
        ("connectionTimeout=0.5", "connection_timeout_s", 0.5),
        ("secure=TRUE", "secure", True),
        ("auth=Query", "auth", Auth.QUERY),
        ("contentType=msgPack", "content_type", ContentType.MESSAGE_PACK),
        ("contentType=messagePack", "content_type", ContentType.MESSAGE_PACK),
        ("contentType=MESSAGE_PACK", "content_type", ContentType.MESSAGE_PACK),
        ("contentType=cbor", "content_type", ContentType.CBOR),
        ("frameType=TEXT", "frame_type", FrameType.TEXT),
        ("proxyHost=[::1]", "proxy_host", "::1"),
        ("proxyHost=proxy_1.example.org.", "proxy_host", "proxy_1.example.org."),
        ("proxyHost=10.0.0.1", "proxy_host", "10.0.0.1"),
        ("origin=https://example.org:8443", "origin", "https://example.org:8443"),
        ("origin=null", "origin", "null"),
    ],
)
def test_values_are_typed(tmp_path: Path, text: str, field: str, value: object) -> None:
    """Every kind of value has its type; choices and booleans may be in any case."""
    loaded = load_files(tmp_path, {CONNECTION: BASE + text})
    assert getattr(loaded.settings.connector, field) == value


def test_an_id_that_begins_with_at_names_a_place(tmp_path: Path) -> None:
    """``@hostname`` is the only place that ``deviceId`` may name; another name is a fault, as what
    was meant would not happen."""
    loaded = load_files(tmp_path, {CONNECTION: BASE, DEVICE: "deviceId=@hostname\napiKey=k"})
    assert loaded.settings.device_info.device_id == "@hostname"
    with pytest.raises(ConfigurationError, match=r"deviceId: '@hostnaem' .*@hostname"):
        load_files(tmp_path, {CONNECTION: BASE, DEVICE: "deviceId=@hostnaem\napiKey=k"})


@pytest.mark.parametrize(
    ("text", "help_"),
    [
        ("port=0", "from 1 to 65535"),
        ("port=65536", "from 1 to 65535"),
        ("port=8o", "whole number"),
        ("port=1_000", "whole number"),
        ("port=٣", "whole number"),
        ("port=" + "9" * 5000, "whole number"),
        ("port=80.0", "whole number"),
        ("port=", "empty"),
        ("pongTimeout=0", "seconds from 0.1"),
        ("connectionTimeout=0.0", "seconds from 0.1"),
        ("connectionTimeout=-1", "seconds from 0.1"),
        ("connectionTimeout=inf", "seconds from 0.1"),
        ("connectionTimeout=nan", "seconds from 0.1"),
        ("connectionTimeout=1e3", "seconds from 0.1"),
        ("connectionTimeout=30s", "seconds from 0.1"),
        ("secure=yes", "true or false"),
        ("auth=basic", "header, query"),
        ("contentType=XML", "JSON, MESSAGE_PACK, CBOR"),
        ("frameType=", "binary, text"),
        ("proxyHost=http://proxy", "without scheme"),
        ("origin=example.org", "scheme://host"),
        ("origin=https://example.org/path", "without a path"),
        ("proxyHost=proxy:8080", "without scheme, port"),
        ("proxyHost=a b", "a host name"),
        ("proxyHost=a..b", "a host name"),
        ("proxyHost=300.1.1.1", "a host name"),
        ("maxMessageSize=1", "from 1024"),
        ("hots=x", "did you mean host?"),
        ("Port=1", "did you mean port?"),
        ("keepaliveinterval=1", "did you mean keepAliveInterval?"),
        ("deviceId=x", "belongs in es.amplia.oda.datastreams.deviceinfo.cfg"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_allowed(tmp_path: Path, text: str, help_: str) -> None:
    """File, line, key, and a text that helps."""
    (fault,) = faults_of(tmp_path, {CONNECTION: BASE + "#\n" + text})
    assert (fault.file, fault.line) == (name_of(CONNECTION), 4)
    assert fault.key == text.partition("=")[0]
    assert help_ in fault.problem
    assert len(fault.problem) < 500


@pytest.mark.parametrize(
    ("text", "key", "help_"),
    [
        ("certFile=a.pem\nsecure=true", "certFile", "keyFile"),
        ("keyFile=a.pem\nsecure=true", "keyFile", "certFile"),
        ("caFile=a.pem", "caFile", "secure=true"),
        ("skipVerify=true", "skipVerify", "secure=true"),
        ("proxyPort=1", "proxyPort", "proxyHost"),
        ("proxyHost=h\nproxyUser=u", "proxyUser", "proxyPasswordFile"),
        ("proxyHost=h\nproxyPasswordFile=a.pem", "proxyPasswordFile", "proxyUser"),
        ("secure=true\nkeyPassphraseFile=a.pem", "keyPassphraseFile", "keyFile"),
        ("secure=true\ncaFile=missing.pem", "caFile", "does not exist"),
        ("secure=true\ncaFile=folder", "caFile", "is a directory"),
    ],
)
def test_keys_that_contradict_each_other(tmp_path: Path, text: str, key: str, help_: str) -> None:
    """What only makes sense together has to stand together, and files have to be there."""
    (tmp_path / "a.pem").write_text("x")
    (tmp_path / "folder").mkdir()
    (fault,) = faults_of(tmp_path, {CONNECTION: BASE + text})
    assert fault.key == key
    assert fault.line > 2
    assert help_ in fault.problem


def test_relative_files_start_at_the_configuration_directory(tmp_path: Path) -> None:
    """Keys and certificates are found beside the configuration; ODA's own paths stay as written."""
    (tmp_path / "ca.pem").write_text("x")
    loaded = load_files(
        tmp_path,
        {CONNECTION: BASE + "secure=true\ncaFile=ca.pem\n", STATE: "databasePath=state.bd"},
    )
    assert loaded.settings.connector.ca_file == tmp_path / "ca.pem"
    assert loaded.settings.state_manager is not None
    assert loaded.settings.state_manager.database_path == Path("state.bd")


def test_files_that_keys_name_have_digests(tmp_path: Path) -> None:
    """A renewed certificate shows, though the settings are the same."""
    (tmp_path / "ca.pem").write_text("x")
    (tmp_path / "key").write_text("k")
    files = {CONNECTION: BASE + "secure=true\ncaFile=ca.pem\n", DEVICE: "apiKeyFile=key"}
    before = load_files(tmp_path, files)
    (tmp_path / "ca.pem").write_text("y")
    after = load_files(tmp_path, files)
    assert set(before.digests) == {tmp_path / "ca.pem", tmp_path / "key"}
    assert before.settings == after.settings
    assert before.digests[tmp_path / "key"] == after.digests[tmp_path / "key"]
    assert before.digests[tmp_path / "ca.pem"] != after.digests[tmp_path / "ca.pem"]


def test_skipping_verification_warns(tmp_path: Path) -> None:
    """It is allowed, and loud."""
    loaded = load_files(tmp_path, {CONNECTION: BASE + "secure=true\nskipVerify=true"})
    (warning,) = loaded.warnings
    assert "NOT verified" in warning


def test_all_faults_of_all_files_come_at_once_in_order(tmp_path: Path) -> None:
    """One run shows everything that has to be repaired, by file and line."""
    faults = faults_of(
        tmp_path,
        {
            CONNECTION: "port=x\nhost=a b\n",
            DEVICE: "scriptTimeout=0\n",
            POLLER: "b=x\na;*x*=1\n",
            PLUGINS: "plugin=a\n",
        },
        {"ODA_PORT": "x"},
    )
    assert [(fault.file, fault.line, fault.key) for fault in faults] == [
        ("environment", 0, "ODA_PORT"),
        (name_of(CONNECTION), 1, "port"),
        (name_of(CONNECTION), 2, "host"),
        (name_of(DEVICE), 0, "apiKey"),
        (name_of(DEVICE), 1, "scriptTimeout"),
        (name_of(PLUGINS), 1, "plugin"),
        (name_of(POLLER), 1, "b"),
        (name_of(POLLER), 2, "a;*x*"),
    ]


def test_required_keys_are_asked_for_with_every_way_to_give_them(tmp_path: Path) -> None:
    """A missing file is told by its keys, and by the file that is perhaps meant."""
    (tmp_path / name_of("datastreams.deviceinfofx31")).write_text("apiKey=x")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, {})
    host, key = caught.value.faults
    assert (host.key, key.key) == ("host", "apiKey")
    for word in ("apiKeyFile", "ODA_API_KEY", "does not exist", "deviceinfofx31.cfg"):
        assert word in key.problem


def test_variables_override_files(tmp_path: Path) -> None:
    """Every key of connector and device info has its variable; an empty one doesn't count."""
    loaded = load_files(
        tmp_path,
        {CONNECTION: BASE + "port=1"},
        {
            "ODA_HOST": "example.org",
            "ODA_PORT": "443",
            "ODA_KEEP_ALIVE_INTERVAL": "20",
            "ODA_API_KEY": "from-environment",
            "ODA_DEVICE_ID": "dev-9",
            "ODA_AUTH": "",
        },
    )
    assert loaded.settings.connector.host == "example.org"
    assert loaded.settings.connector.port == 443
    assert loaded.settings.connector.keep_alive_interval_s == 20
    assert loaded.settings.device_info.api_key == Secret("from-environment")
    assert loaded.settings.device_info.device_id == "dev-9"


def test_an_agent_can_be_configured_without_files(tmp_path: Path) -> None:
    """Host, path and key from the environment are enough."""
    environ = {"ODA_HOST": "h", "ODA_PATH": "p", "ODA_API_KEY": "k"}
    assert load(tmp_path, environ).settings.connector.path == "p"


def test_a_misspelt_variable_is_warned_of(tmp_path: Path) -> None:
    """A variable that is nearly one of ours has no effect, and that is said."""
    loaded = load_files(tmp_path, {}, {"ODA_APIKEY": "x", "ODA_HOME": "/opt/oda"})
    (warning,) = loaded.warnings
    assert "ODA_APIKEY" in warning
    assert "ODA_API_KEY" in warning


def test_the_key_comes_from_a_file(tmp_path: Path) -> None:
    """apiKeyFile is read and stripped; where it was is kept, to be watched."""
    (tmp_path / "key").write_text("  secret-key\n")
    loaded = load_files(tmp_path, {DEVICE: "apiKeyFile=key"})
    assert loaded.settings.device_info.api_key == Secret("secret-key")
    assert loaded.settings.device_info.api_key_file == tmp_path / "key"


@pytest.mark.parametrize(
    ("content", "help_"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"a\nb", "one line"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_key_file_without_a_key_is_a_fault(tmp_path: Path, content: bytes, help_: str) -> None:
    """Empty, several lines, no text: named, without showing what is in it."""
    (tmp_path / "key").write_bytes(content)
    (fault,) = faults_of(tmp_path, {DEVICE: "\napiKeyFile=key"})
    assert (fault.line, fault.key) == (2, "apiKeyFile")
    assert help_ in fault.problem


def test_a_missing_key_file_is_a_fault(tmp_path: Path) -> None:
    """The path it was looked for is in the text."""
    (fault,) = faults_of(tmp_path, {DEVICE: "apiKeyFile=nowhere"})
    assert str(tmp_path / "nowhere") in fault.problem


TLS = "secure=true\ncertFile=c\nkeyFile=k\n"
PROXY = "proxyHost=h\nproxyUser=u\n"


def test_a_proxy_user_with_a_colon_is_a_fault(tmp_path: Path) -> None:
    """The scheme Basic parts user and password at the first colon (RFC 7617, section 2)."""
    (tmp_path / "f").write_text("x")
    text = "proxyHost=h\nproxyUser=a:b\nproxyPasswordFile=f\n"
    (fault,) = faults_of(tmp_path, {CONNECTION: BASE + text})
    assert fault.key == "proxyUser"
    assert "without ':'" in fault.problem


SECRET_FILES = pytest.mark.parametrize(
    ("lines", "key", "field"),
    [
        (TLS, "keyPassphraseFile", "key_passphrase"),
        (PROXY, "proxyPasswordFile", "proxy_password"),
    ],
    ids=["keyPassphraseFile", "proxyPasswordFile"],
)


@SECRET_FILES
def test_a_secret_comes_from_a_file(tmp_path: Path, lines: str, key: str, field: str) -> None:
    """The content is the secret, with its blanks and without the end of its line; the file is
    watched, and the secret doesn't show."""
    for name in ("c", "k"):
        (tmp_path / name).write_text("x")
    (tmp_path / "secret").write_text(" my canary \r\n")
    loaded = load_files(tmp_path, {CONNECTION: BASE + f"{lines}{key}=secret\n"})
    connector = loaded.settings.connector
    assert getattr(connector, field) == Secret(" my canary ")
    assert getattr(connector, f"{field}_file") == tmp_path / "secret"
    assert tmp_path / "secret" in loaded.digests
    assert "canary" not in repr(loaded)


@SECRET_FILES
@pytest.mark.parametrize(
    ("content", "help_"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"canary\nb", "one line"),
        (b"canary\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_without_its_secret_is_a_fault(
    tmp_path: Path, lines: str, key: str, field: str, content: bytes | None, help_: str
) -> None:
    """Missing, empty, several lines, no text: named, without showing what is in it."""
    for name in ("c", "k"):
        (tmp_path / name).write_text("x")
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    (fault,) = faults_of(tmp_path, {CONNECTION: BASE + f"{lines}{key}=secret\n"})
    assert fault.key == key
    assert help_ in fault.problem
    assert "canary" not in fault.problem


def test_the_key_is_given_once(tmp_path: Path) -> None:
    """apiKey beside apiKeyFile is a contradiction; a variable decides it."""
    (tmp_path / "key").write_text("from-file")
    files = {DEVICE: "apiKey=a\napiKeyFile=key"}
    (fault,) = faults_of(tmp_path, files)
    assert (fault.line, fault.key) == (2, "apiKeyFile")
    loaded = load_files(tmp_path, files, {"ODA_API_KEY": "b"})
    assert loaded.settings.device_info.api_key == Secret("b")
    loaded = load_files(tmp_path, files, {"ODA_API_KEY_FILE": str(tmp_path / "key")})
    assert loaded.settings.device_info.api_key == Secret("from-file")


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("a=run.sh", ("a", "run.sh", ValueType.STRING)),
        ("a=run.sh;", ("a", "run.sh", ValueType.STRING)),
        ("a=run.sh;LONG;", ("a", "run.sh", ValueType.LONG)),
        ("a=run.sh 1;BOOLEAN ; ; ", ("a", "run.sh 1", ValueType.BOOLEAN)),
        ("a.b=run.sh 1 'x y' ; long ", ("a.b", "run.sh 1 'x y'", ValueType.LONG)),
        ("a=sh -c 'b; c';json", ("a", "sh -c 'b; c'", ValueType.JSON)),
        ("sources=x.sh;STRING", ("sources", "x.sh", ValueType.STRING)),
    ],
)
def test_script_lines(tmp_path: Path, line: str, script: tuple[str, str, ValueType]) -> None:
    """The type is what follows the last ``;``; without one it is STRING. A ``;`` with nothing
    behind it counts for nothing, as in the reference agent."""
    (read,) = load_files(tmp_path, {DEVICE: "apiKey=k\n" + line}).settings.device_info.scripts
    assert (read.datastream_id, read.command, read.value_type) == script


@pytest.mark.parametrize(
    ("line", "help_"),
    [
        ("a=run.sh;NUMBER", "STRING, BOOLEAN, INTEGER, LONG, FLOAT, DOUBLE, JSON"),
        ("a=;LONG", "names no script"),
        ("a='run.sh", "split"),
        ("a;b=run.sh", "host device only"),
        ("my\\:a:b=run.sh", "backslash"),
        ("deviceid=x", "did you mean deviceId?"),
        ("scripttimeout=x", "did you mean scriptTimeout?"),
    ],
)
def test_wrong_script_lines(tmp_path: Path, line: str, help_: str) -> None:
    """A faulty script line is named with what is allowed."""
    (fault,) = faults_of(tmp_path, {DEVICE: "apiKey=k\n" + line})
    assert fault.line == 2
    assert help_ in fault.problem


@pytest.mark.parametrize(
    ("line", "schedule"),
    [
        ("a=10", ("a", "", 10, 10)),
        ("a=30;300", ("a", "", 30, 300)),
        ("a=30;0", ("a", "", 30, 0)),
        ("a=0", ("a", "", 0, 0)),
        ("a=0.5", ("a", "", 0.5, 0.5)),
        ("a= 5 ; 10 ", ("a", "", 5, 10)),
        ("a=60;", ("a", "", 60, 60)),
        ("a;=60", ("a", "", 60, 60)),
        ("a;dev-1=60", ("a", "dev-1", 60, 60)),
        ("a;*=60;120", ("a", "*", 60, 120)),
        ("a;x*y=60", ("a", "x*y", 60, 60)),
        ("a\\ b;c\\:d=60", ("a b", "c:d", 60, 60)),
        ("port=60", ("port", "", 60, 60)),
    ],
)
def test_schedule_lines(tmp_path: Path, line: str, schedule: tuple[str, str, float, float]) -> None:
    """``datastreamId[;devicePattern]=[first;]period``; without first the period counts."""
    (read,) = load_files(tmp_path, {POLLER: line}).settings.poller.schedules
    assert (read.datastream_id, read.device_pattern, read.first_s, read.period_s) == schedule


@pytest.mark.parametrize(
    ("line", "help_"),
    [
        ("a=", "first;period"),
        ("a=x", "first;period"),
        ("a=-1", "first;period"),
        ("a=1;2;3", "first;period"),
        ("a=;3", "first;period"),
        ("a=nan", "first;period"),
        ("a=9999999999", "more than"),
        ("a;*b*=1", "more than one '*'"),
        ("a*=1", "can't contain '*'"),
        (";b=1", "no datastream"),
        ("a;b;c=1", "more than one ';'"),
        ("a:b=1", "backslash"),
        ("a b=1", "backslash"),
        ("a ;b=1", "backslash"),
        ("apiKey=0123456789abcdef", "belongs in"),
    ],
)
def test_wrong_schedule_lines(tmp_path: Path, line: str, help_: str) -> None:
    """Number, order, patterns and forgotten escapes: each is named."""
    (fault,) = faults_of(tmp_path, {POLLER: "#\n" + line})
    assert (fault.file, fault.line) == (name_of(POLLER), 2)
    assert help_ in fault.problem
    assert "0123456789abcdef" not in fault.problem


def test_two_lines_for_one_datastream_and_device_are_a_fault(tmp_path: Path) -> None:
    """Also when they are written differently."""
    (fault,) = faults_of(tmp_path, {POLLER: "a=1\nb=1\na;=2\na;x=3"})
    assert (fault.line, fault.key) == (3, "a;")
    assert "line 1" in fault.problem


def test_a_misspelt_key_is_no_schedule(tmp_path: Path) -> None:
    """``operationTimout=80`` would read a datastream of that name; it is nearer to the key."""
    (fault,) = faults_of(tmp_path, {DISPATCHER: "operationTimout=80"})
    assert "did you mean operationTimeout?" in fault.problem
    loaded = load_files(tmp_path, {DISPATCHER: "operationTimout;dev=80"})
    assert len(loaded.settings.dispatcher.schedules) == 1


def test_the_presence_of_its_file_chooses_the_state_manager(tmp_path: Path) -> None:
    """An empty file is enough; no file means the realtime manager."""
    assert load_files(tmp_path, {}).settings.state_manager is None
    assert load_files(tmp_path, {STATE: ""}).settings.state_manager is not None


def test_plugins_have_their_options(tmp_path: Path) -> None:
    """In the order of the list, with options by the longest name, empty ones too."""
    text = "a.b.x=1\nplugins=b, a ,a.b\na.y=\nb.z=k=v"
    plugins = load_files(tmp_path, {PLUGINS: text}).settings.plugins
    assert plugins == (
        PluginSettings(name="b", options={"z": "k=v"}),
        PluginSettings(name="a", options={"y": ""}),
        PluginSettings(name="a.b", options={"x": "1"}),
    )


@pytest.mark.parametrize(
    ("text", "key", "help_"),
    [
        ("plugins=a,,b", "plugins", "empty name"),
        ("plugins=a,a", "plugins", "twice"),
        ("plugins=a b", "plugins", "commas"),
        ("plugins=sensor\nsensro.x=1", "sensro.x", "did you mean sensor.x?"),
        ("plugin=a", "plugin", "did you mean plugins?"),
        ("zzz.x=1", "zzz.x", "belongs to no plugin"),
    ],
)
def test_wrong_plugin_lines(tmp_path: Path, text: str, key: str, help_: str) -> None:
    """Names and stray options are faults, not silence."""
    (fault,) = faults_of(tmp_path, {PLUGINS: text})
    assert fault.key == key
    assert fault.line > 0
    assert help_ in fault.problem


def test_files_that_are_no_files(tmp_path: Path) -> None:
    """A directory or a dangling link with the name of a file is one clear fault each."""
    (tmp_path / name_of(CONNECTION)).mkdir()
    (tmp_path / name_of(POLLER)).symlink_to(tmp_path / "nothing")
    write(tmp_path, {DEVICE: "apiKey=k"})
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, {})
    problems = [fault.problem for fault in caught.value.faults]
    assert problems == ["is a directory, not a file", "does not exist"]


def test_a_missing_directory_is_a_fault(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        load(tmp_path / "nowhere", {})


@pytest.mark.parametrize(
    ("explicit", "existing", "found"),
    [
        ("mine", {"mine", "conf"}, "mine"),
        (None, {"conf", "/etc/oda"}, "conf"),
        (None, {"/etc/oda"}, "/etc/oda"),
    ],
)
def test_where_the_directory_is_looked_for(
    explicit: str | None, existing: set[str], found: str
) -> None:
    """The one given, else ./conf, else /etc/oda."""
    assert find_directory(explicit, lambda path: str(path) in existing) == Path(found)


@pytest.mark.parametrize(
    ("explicit", "names"), [("mine", ["mine"]), (None, ["conf", "/etc/oda", "--conf"])]
)
def test_no_directory_names_where_it_was_looked_for(explicit: str | None, names: list[str]) -> None:
    """An explicit directory that is missing isn't replaced by a default."""
    with pytest.raises(ConfigurationError) as caught:
        find_directory(explicit, lambda path: False)
    for name in names:
        assert name in str(caught.value)


def test_an_unreachable_directory_is_a_fault() -> None:
    """No permission to look is told as that."""

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ConfigurationError, match="Permission denied"):
        find_directory("x", refuse)


def test_the_key_shows_in_no_fault(tmp_path: Path) -> None:
    """Wrong, misplaced or misspelt: a text never contains the key's value."""
    canary = "canary-4f9a2b77-0c1d"
    variants: list[Mapping[str, str]] = [
        {DEVICE: f"apiKey={canary}\\u12"},
        {DEVICE: f"apiKey={canary}\\u0007"},
        {DEVICE: f"apiKye={canary}"},
        {DEVICE: f"api Key={canary}"},
        {DEVICE: f"key=x;{canary}\napiKey=1"},
        {CONNECTION: f"host=h\npath=p?X-ApiKey={canary}"},
        {CONNECTION: f"host=ws://u:{canary}@h\npath=p"},
        {CONNECTION: BASE + f"apiKey={canary}"},
        {POLLER: f"apiKey={canary}"},
        {POLLER: f"key={canary}"},
        {STATE: f"apiKey={canary}"},
        {PLUGINS: f"apiKey={canary}"},
    ]
    for files in variants:
        faults = faults_of(tmp_path, files)
        assert faults
        assert all(canary not in str(fault) for fault in faults), faults
        for component in files:
            (tmp_path / name_of(component)).unlink()


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.file)
def test_the_tables_fit_the_settings(component: Component) -> None:
    """Every field of a settings class is filled by exactly one key (or by the lines), names and
    no name or alias means two keys."""
    for section in component.sections:
        fields = [key.field for key in section.keys]
        fields += [key.content for key in section.keys if key.content]
        lines = component.lines
        if lines is not None and lines.field in section.settings.__struct_fields__:
            fields.append(lines.field)
        assert sorted(fields) == sorted(section.settings.__struct_fields__)
    names = [name for key in component.all_keys() for name in (key.name, *key.aliases)]
    assert len(names) == len(set(names))


def test_variables_are_unique() -> None:
    """No variable means two keys."""
    variables = [key.variable for component in COMPONENTS for key in component.overridable()]
    assert len(variables) == len(set(variables))
    key = CONNECTOR.key("keepAliveInterval")
    assert key is not None
    assert key.variable == "ODA_KEEP_ALIVE_INTERVAL"


def test_what_a_container_platform_sets_for_a_service_called_oda_is_ignored(tmp_path: Path) -> None:
    """``ODA_PORT=tcp://...`` is no port: it is left alone, and a warning explains it."""
    environ = {
        "ODA_PORT": "tcp://10.0.0.7:8080",
        "ODA_PORT_8080_TCP": "tcp://10.0.0.7:8080",
        "ODA_PORT_8080_TCP_PORT": "8080",
        "ODA_SERVICE_HOST": "10.0.0.7",
    }
    loaded = load_files(tmp_path, GOOD, environ)
    assert loaded.settings.connector.port == 9955
    (warning,) = [line for line in loaded.warnings if "ODA_PORT" in line]
    assert warning.startswith("environment: ODA_PORT: ignored; tcp://10.0.0.7:8080 is what a")


@pytest.mark.parametrize(
    ("outbox", "history"),
    [
        ("", "oda-outbox.sqlite"),
        ("", "./x/../oda-outbox.sqlite"),
        ("outboxPath=/data/one\n", "/data/one"),
    ],
)
def test_the_outbox_and_the_kept_values_are_two_files(
    tmp_path: Path, outbox: str, history: str
) -> None:
    """One would take the other for damaged, and set it aside. An outbox in memory has no file."""
    files = {CONNECTION: BASE + outbox, STATE: f"databasePath={history}\n"}
    (fault,) = faults_of(tmp_path, files)
    assert (fault.key, fault.line) == ("databasePath", 1)
    assert "outboxPath" in fault.problem
    files[CONNECTION] += "outbox=memory\n"
    assert load_files(tmp_path, files).settings.state_manager is not None
