"""``oda check --migrate`` and ``oda init --from``: a Java ODA's installation, read and told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oda.cli import main
from oda.commands.migration import Migration
from oda.config.components import COMPONENTS
from oda.config.loader import load
from oda.diagnosis.differences import DIFFERENCES, UNSAID
from oda.diagnosis.findings import Findings
from oda.diagnosis.installation import find_installation, why_ignored
from oda.errors import ConfigurationError
from tests.config.deployments import DEPLOYMENTS, WEBSOCKET
from tests.config.directories import name_of

CANARY = "canary-key-0123456789"
CONNECTOR = name_of("connector.websocket")
DEVICE = name_of("datastreams.deviceinfo")


@pytest.fixture(autouse=True)
def _private_files() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def installation(root: Path, device_info: str = "", **files: str) -> Path:
    """A whole installation; ``files`` are by their path."""
    contents: Mapping[str, str] = {
        f"configuration/{CONNECTOR}": WEBSOCKET,
        f"configuration/{DEVICE}": f"apiKey={CANARY}\n{device_info}",
        **files,
    }
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        if name.endswith(".sh"):
            path.chmod(0o700)
    return root


def told(directory: Path) -> list[tuple[str, str, str, str]]:
    """Every finding: step, result, text and advice, with the directory's own name left out."""
    findings = Findings()
    Migration(directory, findings, {"PATH": "/usr/bin:/bin"}).run()
    return [
        (
            one.step,
            one.result.value,
            one.text.replace(f"{directory}/", ""),
            one.advice.replace(f"{directory}/", ""),
        )
        for one in findings.all
    ]


def of_step(directory: Path, step: str) -> list[tuple[str, str, str]]:
    return [one[1:] for one in told(directory) if one[0] == step]


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Everything beneath a directory: mode and content."""
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode,
            b"" if path.is_dir() else path.read_bytes(),
        )
        for path in directory.rglob("*")
    }


@contextmanager
def as_nobody(directory: Path) -> Iterator[None]:
    """Root may read everything. ``directory`` and those around it let everybody through."""
    if os.geteuid() != 0:
        yield
        return
    modes = {one: one.stat().st_mode & 0o7777 for one in directory.parents}
    modes = {one: mode for one, mode in modes.items() if mode & 0o011 != 0o011}
    for one, mode in modes.items():
        one.chmod(mode | 0o011)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for one, mode in modes.items():
            one.chmod(mode)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"ODA_API_KEY": "", "ODA_HOST": ""})


# -- where ------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["", "configuration"])
def test_the_root_and_its_configuration_directory_are_the_same_installation(
    tmp_path: Path, named: str
) -> None:
    """Relative paths start at the root, ODA's working directory, whichever of the two is named."""
    installation(tmp_path)
    found = find_installation(tmp_path / named)
    assert found == (tmp_path, tmp_path / "configuration", True)


def test_a_directory_of_files_alone(tmp_path: Path) -> None:
    """It is its own root, and what lies around it belongs to nobody."""
    DEPLOYMENTS["simulator"].write(tmp_path / "files")
    assert find_installation(tmp_path / "files") == (tmp_path / "files", tmp_path / "files", False)


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_directory_without_files_of_oda_is_a_fault(tmp_path: Path, name: str) -> None:
    """It says what was looked for and where."""
    with pytest.raises(ConfigurationError, match=r"es\.amplia\.oda\.\*\.cfg here nor in conf"):
        find_installation(tmp_path / name)


# -- what is told -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_deployment_can_be_moved(tmp_path: Path, name: str) -> None:
    """Nothing fails; each file is named as used or left alone; nothing is written; no key shows."""
    deployment = DEPLOYMENTS[name]
    deployment.write(tmp_path / "configuration")
    before = snapshot(tmp_path)
    done = run("check", "--migrate", str(tmp_path))
    assert done.exit_code == 0, done.output
    for component in deployment.files:
        fate = "is left alone" if component in deployment.ignored else "is used"
        assert f"{name_of(component)}: {fate}" in done.output
    assert snapshot(tmp_path) == before
    assert CANARY not in done.output
    assert "-key" not in done.output


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_deployment_passes_the_check_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In ODA's working directory, with ODA's own files: nothing fails there either."""
    DEPLOYMENTS[name].write(tmp_path / "configuration")
    monkeypatch.chdir(tmp_path)
    done = run("check", "--conf", "configuration", "--offline")
    assert done.exit_code == 0, done.output


def test_every_fault_is_told(tmp_path: Path) -> None:
    """As the start would tell it, with file, line and key; the status is 1."""
    installation(tmp_path, "scriptTimeout=soon\n")
    done = run("check", "--migrate", str(tmp_path), "--json")
    assert done.exit_code == 1
    report = json.loads(done.output)
    assert report["ok"] is False
    (fault,) = [one for one in report["checks"] if one["result"] == "failed"]
    assert (Path(fault["file"]).name, fault["line"], fault["key"]) == (DEVICE, 2, "scriptTimeout")


def test_an_installation_that_came_over_another_connector(tmp_path: Path) -> None:
    """The one file that is missing is named with the command that makes it, and everything else
    is looked at nevertheless."""
    installation(tmp_path, "deviceId=d\n")
    (tmp_path / "configuration" / CONNECTOR).rename(
        tmp_path / "configuration" / name_of("connector.mqtt")
    )
    files = of_step(tmp_path, "files")
    assert [one for one in files if one[0] == "failed"] == [
        (
            "failed",
            f"{CONNECTOR} is missing: this agent needs it for the platform's address",
            "oda init NEW_DIRECTORY --from DIRECTORY --host HOST writes it",
        )
    ]
    assert of_step(tmp_path, "identity") == [("ok", "the device's id is deviceId", "")]


def test_keys_that_mean_something_else_are_told_with_their_line(tmp_path: Path) -> None:
    """And what differs though no line says so; the others are counted."""
    installation(tmp_path)
    (tmp_path / "configuration" / CONNECTOR).write_text(WEBSOCKET + "keepAliveInterval=60\n")
    texts = [text for _, text, _ in of_step(tmp_path, "keys")]
    assert any(f"{CONNECTOR}:4: keepAliveInterval: a pong has pongTimeout" in t for t in texts)
    assert any(t.startswith(f"{CONNECTOR}: no line auth: ") for t in texts)
    assert "read unchanged: 4 other lines" in texts


def test_a_placeholder_is_told(tmp_path: Path) -> None:
    """The framework of ODA replaces it, this agent does not; the value does not show."""
    installation(tmp_path, "deviceId=${device.serial}\n")
    (warning,) = [one for one in of_step(tmp_path, "keys") if one[0] == "warning"][-1:]
    assert f"{DEVICE}:2: deviceId: ${{...}} is read literally" in warning[1]
    assert "device.serial" not in warning[1]


def test_what_a_line_says_is_not_told_as_unsaid(tmp_path: Path) -> None:
    """``auth=query`` is written: nothing about the header."""
    installation(tmp_path)
    (tmp_path / "configuration" / CONNECTOR).write_text(WEBSOCKET + "auth=query\n")
    assert not any("auth" in text for _, text, _ in of_step(tmp_path, "keys"))


def test_who_may_read_the_key(tmp_path: Path) -> None:
    """A file that a group can read is told with its mode and the command; a private one is not."""
    installation(tmp_path)
    file = tmp_path / "configuration" / DEVICE
    assert [one[0] for one in of_step(tmp_path, "api key")] == ["ok"]
    file.chmod(0o640)
    (_, warning) = of_step(tmp_path, "api key")
    assert warning[0] == "warning"
    assert "0640" in warning[1]
    assert warning[2].startswith("chmod 600 ")


@pytest.mark.parametrize(
    ("device_info", "result", "text"),
    [
        ("deviceId=d\n", "ok", "is deviceId"),
        ("device.serialNumber=cut.sh\npath=scripts\n", "ok", "the script of device.serialNumber"),
        ("path=scripts\ndeviceId=\n", "ok", "scripts/obtainSerialNumber.sh writes, as in ODA"),
        ("path=gone\n", "warning", "gone is not a directory: the agent connects once it is"),
        ("", "warning", "this machine's own serial number"),
        ("deviceId=a/b\n", "warning", "percent-encoded"),
    ],
)
def test_where_the_identity_comes_from(
    tmp_path: Path, device_info: str, result: str, text: str
) -> None:
    """As the agent finds it, in its order."""
    usual = {"scripts/obtainSerialNumber.sh": "#!/bin/sh\necho 1\n"}
    installation(tmp_path, device_info, **usual)
    first = of_step(tmp_path, "identity")[0]
    assert first[0] == result
    assert text in first[1]


def test_scripts_are_found_or_the_reason_is_told(tmp_path: Path) -> None:
    """Missing, with the line ends of Windows, not executable, only in ``source``, named by no
    line: each is told, and none of the commands' arguments shows."""
    lines = "".join(f"{name}.x=scripts/{name}.sh -p {CANARY}\n" for name in ("a", "b", "c", "d"))
    installation(
        tmp_path,
        f"path=scripts\nsource=deploy\ndeviceId=d\n{lines}e.x=gone.sh\n",
        **{
            "scripts/a.sh": "#!/bin/sh\necho 1\n",
            "scripts/b.sh": "#!/bin/sh\r\necho 1\r\n",
            "scripts/c.sh": "#!/bin/sh\necho 1\n",
            "deploy/d.sh": "#!/bin/sh\necho 1\n",
            "scripts/unused.sh": "#!/bin/sh\n",
        },
    )
    (tmp_path / "scripts/c.sh").chmod(0o600)
    found = of_step(tmp_path, "scripts")
    assert [one[0] for one in found] == ["ok", "warning", "ok", "warning", "warning", "skipped"]
    assert "CRLF" in found[1][1]
    assert "c.sh is not executable (chmod +x); the agent runs it" in found[2][1]
    assert found[3][2] == "'source' has it: cp deploy/d.sh scripts/"
    assert "'gone.sh' was not found" in found[4][1]
    assert found[5][1] == "scripts/unused.sh: no line names it, is left alone"
    assert CANARY not in str(found)


def test_what_can_not_be_looked_at_costs_only_its_part_of_the_report(tmp_path: Path) -> None:
    """A path that no file system has: told as such, and everything behind it is told as well."""
    state = {f"configuration/{name_of('statemanager.inmemory')}": "databasePath=kept\n"}
    installation(tmp_path, f"path={'a' * 300}\na.b=c.sh\n", **state)
    for step in ("identity", "scripts"):
        ((result, text, _),) = of_step(tmp_path, step)
        assert result == "warning"
        assert "File name too long" in text
    assert [one[0] for one in of_step(tmp_path, "state")] == ["ok"]


def test_a_directory_that_this_user_may_not_read_is_named(tmp_path: Path) -> None:
    """It is not said to be empty; what is left alone is told with the reason."""
    installation(tmp_path, "deviceId=d\n", **{"old/service.properties": "", "z": ""})
    for path in (tmp_path, tmp_path / "configuration", *(tmp_path / "configuration").iterdir()):
        path.chmod(0o755)
    (tmp_path / "old").chmod(0)
    with as_nobody(tmp_path):
        assert [text for _, text, _ in of_step(tmp_path, "left alone")] == [
            "old/: can't be examined: Permission denied",
            "z: not used",
        ]
    (tmp_path / "configuration").chmod(0)
    with as_nobody(tmp_path), pytest.raises(ConfigurationError, match="Permission denied") as e:
        find_installation(tmp_path)
    assert e.value.faults[0].file == str(tmp_path / "configuration")
    (tmp_path / "configuration").chmod(0o700)


def test_a_command_for_a_shell_is_told(tmp_path: Path) -> None:
    """It would run, and mean something else: the sign is named, the rest does not show."""
    installation(tmp_path, f"deviceId=d\na.b=cat /proc/uptime | grep {CANARY}\nc.d=cat 'a|b'\n")
    (_, warning, quoted) = of_step(tmp_path, "scripts")
    assert warning[0] == "warning"
    assert warning[1].startswith("a.b: no shell reads the command: '|'")
    assert CANARY not in str(warning)
    assert quoted[0] == "ok"


@pytest.mark.parametrize(
    ("files", "result", "text"),
    [
        ({}, "ok", "values are kept in "),
        ({"kept/service.properties": ""}, "warning", "kept/oda-history.sqlite"),
        ({"kept/anything": ""}, "warning", "kept/oda-history.sqlite"),
    ],
)
def test_the_database_of_kept_values(
    tmp_path: Path, files: Mapping[str, str], result: str, text: str
) -> None:
    """What ``databasePath`` names is told as what it is."""
    state = {f"configuration/{name_of('statemanager.inmemory')}": "databasePath=kept\n"}
    installation(tmp_path, **state, **files)
    ((found, shown, _),) = of_step(tmp_path, "state")
    assert found == result
    assert text in shown


def test_what_is_left_alone_has_a_reason(tmp_path: Path) -> None:
    """Bundles, the framework's files, rules, logs: each once, by its name."""
    installation(
        tmp_path,
        "path=scripts\n",
        **{
            "bundle/one.jar": "",
            "bin/felix.jar": "",
            "felix-cache/x": "",
            "rules/a.js": "",
            "old/service.properties": "",
            f"conf/{CONNECTOR}": WEBSOCKET,
            "configuration/logback.xml": "",
            "configuration/config.properties": "",
            "scripts/a.sh": "",
            "README": "",
        },
    )
    assert [text for _, text, _ in of_step(tmp_path, "left alone")] == [
        "README: not used",
        "bin/: 1 Java bundle",
        "bundle/: 1 Java bundle",
        "conf/: also has files of ODA's components; name it if ODA reads this one",
        "felix-cache/: the Java framework's own directory",
        "old/: a Derby database, in which ODA keeps its values",
        "rules/: rules: a plugin replaces them (docs/extending.md)",
        "configuration/config.properties: part of the Java framework",
        "configuration/logback.xml: the log is configured in es.amplia.oda.monitor.cfg",
    ]


def test_every_component_has_a_reason() -> None:
    """Also one that nobody here has heard of."""
    for name in ("connector.mqtt", "ruleengine.nashorn", "datastreams.gpio", "subsystem.sshserver"):
        assert len(why_ignored(name_of(name))) > 20
    assert "no component of ODA" in why_ignored("other.cfg")


def test_the_keys_of_the_differences_exist() -> None:
    """Every key named there is one that the agent reads from that file."""
    for table in (DIFFERENCES, UNSAID):
        for file, keys in table.items():
            (component,) = [one for one in COMPONENTS if one.file == file]
            assert keys.keys() <= {key.name for key in component.all_keys()}


def test_migrate_looks_at_files_only(tmp_path: Path) -> None:
    """Together with what opens a connection it is an error of usage."""
    installation(tmp_path)
    assert run("check", "--migrate", str(tmp_path), "--connect").exit_code == 2


# -- oda init --from --------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_files_of_each_deployment_are_copied_as_they_stand(tmp_path: Path, name: str) -> None:
    """Byte for byte, for this user only; what has no counterpart is not copied; the source stays
    as it was; the copy loads with the same settings."""
    deployment = DEPLOYMENTS[name]
    deployment.write(tmp_path / "java/configuration")
    before = snapshot(tmp_path / "java")
    done = run("init", str(tmp_path / "new"), "--from", str(tmp_path / "java"))
    assert done.exit_code == 0, done.output
    used = {name_of(one) for one in deployment.files if one not in deployment.ignored}
    copied = {path.name: path for path in (tmp_path / "new").iterdir()}
    assert copied.keys() == used
    for file, path in copied.items():
        assert path.read_bytes() == (tmp_path / "java/configuration" / file).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
    assert snapshot(tmp_path / "java") == before
    theirs = load(tmp_path / "java/configuration", {})
    assert load(tmp_path / "new", {}).settings == theirs.settings
    assert "-key" not in done.output


def test_the_connectors_file_is_made_where_it_is_missing(tmp_path: Path) -> None:
    """From the options of ``oda init``, as for a new agent."""
    installation(tmp_path / "java")
    (tmp_path / "java/configuration" / CONNECTOR).unlink()
    new = str(tmp_path / "new")
    options = ("--host", "h.example.org", "--secure", "--port", "443", "--set", "auth=query")
    done = run("init", new, "--from", str(tmp_path / "java"), *options)
    assert done.exit_code == 0, done.output
    connector = load(tmp_path / "new", {}).settings.connector
    assert (connector.host, connector.port, connector.secure) == ("h.example.org", 443, True)
    assert connector.auth.value == "query"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--host", "h"), "is taken over: leave out host"),
        (("--device-id", "d"), "leave out their options"),
        (("--api-key-file", "f"), "leave out their options"),
        (("--set", "reducedOutput=true"), "is taken over"),
    ],
)
def test_what_is_taken_over_is_not_changed(
    tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    """An option that says otherwise is refused, and nothing is written."""
    installation(tmp_path / "java")
    done = run("init", str(tmp_path / "new"), "--from", str(tmp_path / "java"), *options)
    assert done.exit_code == 2
    assert reason in done.output
    assert not (tmp_path / "new").exists()


def test_a_faulty_installation_is_not_copied(tmp_path: Path) -> None:
    """The faults are told; nothing is written."""
    installation(tmp_path / "java", "scriptTimeout=soon\n")
    done = run("init", str(tmp_path / "new"), "--from", str(tmp_path / "java"))
    assert done.exit_code == 1
    assert "scriptTimeout" in done.output
    assert not (tmp_path / "new").exists()


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    """As without ``--from``: not even the installation itself."""
    installation(tmp_path)
    before = snapshot(tmp_path)
    done = run("init", str(tmp_path / "configuration"), "--from", str(tmp_path))
    assert done.exit_code == 1
    assert "exists; nothing was written" in done.output
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("place", [".", "configuration/..", "link"])
def test_an_installation_gets_no_files(tmp_path: Path, place: str) -> None:
    """The installation itself is no place for the copy: its root would look like a directory of
    files from then on."""
    installation(tmp_path / "java")
    (tmp_path / "java/configuration" / CONNECTOR).unlink()
    (tmp_path / "java/link").symlink_to(tmp_path / "java")
    before = snapshot(tmp_path / "java")
    new = f"{tmp_path}/java/{place}"
    done = run("init", new, "--from", str(tmp_path / "java"), "--host", "h.example.org")
    assert done.exit_code == 1
    assert "is the installation itself, and stays as it is; name a new directory" in done.output
    assert snapshot(tmp_path / "java") == before


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_key_is_shown_from_no_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Not from a command, an id or a name that holds it by mistake."""
    lines = f"x.y=scripts/{CANARY} -k;LONG\n{CANARY}=z\n"
    root = installation(tmp_path, "deviceId=d\n" + lines)
    (root / CANARY).write_text("")
    done = run("check", "--migrate", str(tmp_path), *options)
    assert "***" in done.output
    assert CANARY not in done.output
