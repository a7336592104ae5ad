"""``oda check --user`` and ``oda init --user``: what the user who runs the agent may do.

The commands run from the source, on a machine where every user can read source and Python.
"""

from __future__ import annotations

import json
import stat
import subprocess
from typing import Any

import pytest

from tests.install.machine import Machine

USER = "daemon"
CONF = "/srv/conf"


def oda(machine: Machine, arguments: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    """``oda`` in /srv."""
    return machine.run(f"oda {arguments}", user=user, cwd="/srv", check=False)


def check(machine: Machine, options: str = "") -> tuple[int, list[dict[str, Any]]]:
    """``oda check --offline --json``: its status and what it found."""
    done = oda(machine, f"check --conf conf --offline --json {options}")
    return done.returncode, json.loads(done.stdout)["checks"]


def init(machine: Machine, options: str = "") -> subprocess.CompletedProcess[str]:
    """``oda init`` with a key file that root alone can read."""
    machine.run("umask 077; echo canary-key > key.txt", cwd="/srv")
    arguments = "init conf --host 127.0.0.1 --device-id d --api-key-file key.txt"
    return oda(machine, f"{arguments} {options}")


def test_init_writes_files_that_the_user_can_read_and_others_cannot(with_source: Machine) -> None:
    """Root owns the files, the user's group reads them, nobody else; the key is copied to where the
    user can read it. The check as that user finds nothing wrong with them."""
    done = init(with_source, f"--user {USER}")
    assert done.returncode == 0, done.stderr
    assert f"oda check --user {USER}" in done.stdout
    conf = with_source.root / CONF[1:]
    assert (conf / "apikey").read_text() == "canary-key\n"
    group = int(with_source.run(f"id -g {USER}").stdout)
    for file in (conf, *conf.iterdir()):
        found = file.stat()
        assert (found.st_uid, found.st_gid) == (0, group)
        assert stat.S_IMODE(found.st_mode) == (0o750 if file.is_dir() else 0o640)
    _, found_by_user = check(with_source, f"--user {USER}")
    result = next(one for one in found_by_user if one["check"] == "configuration")["result"]
    assert result == "ok"


def test_a_key_that_the_user_cannot_read_fails_the_users_check(with_source: Machine) -> None:
    """As root the same configuration is good, so root's check alone would not tell."""
    assert init(with_source).returncode == 0
    assert check(with_source)[0] == 0
    status, found = check(with_source, f"--user {USER}")
    assert status == 1
    (fault,) = (one for one in found if one["result"] == "failed")
    assert "Permission denied" in fault["text"]
    assert fault["key"] == "apiKeyFile"


def test_root_is_warned_for_the_owner_of_the_configuration(with_source: Machine) -> None:
    """Without ``--user`` root's check looks at everything as the service's user, too."""
    init(with_source)
    with_source.run(f"chown {USER} {CONF}")
    status, found = check(with_source)
    warned = [one for one in found if one["check"] == "user"]
    assert status == 0
    assert {one["result"] for one in warned} == {"warning"}
    assert any(f"as the user {USER}" in one["text"] and "key.txt" in one["text"] for one in warned)


def test_places_are_tried_as_the_user(with_source: Machine) -> None:
    """Where the user may not write the outbox, the check as root alone would find nothing."""
    with_source.run("install -d -m 0755 /srv/state")
    init(with_source, f"--user {USER} --set outboxPath=/srv/state/outbox.sqlite")
    results = [
        next(one["result"] for one in check(with_source, options)[1] if one["check"] == "outbox")
        for options in ("", f"--user {USER}")
    ]
    assert results == ["ok", "warning"]


@pytest.mark.parametrize("command", ["check", "init conf --host h"])
def test_a_user_that_does_not_exist(with_source: Machine, command: str) -> None:
    """One line says so, and nothing is written."""
    done = oda(with_source, f"{command} --user no-such-user")
    assert done.returncode == 1
    assert "there is no user no-such-user" in done.stderr
    assert not (with_source.root / CONF[1:]).exists()


def test_only_root_can_be_another_user(with_source: Machine) -> None:
    """Anybody else is told so."""
    done = oda(with_source, "check --user games", user=USER)
    assert done.returncode == 1
    assert "only root can" in done.stderr


def test_root_is_warned_for_the_user_for_whom_it_wrote_the_configuration(
    with_source: Machine,
) -> None:
    """An agent under another supervisor than systemd: nothing but the group tells its user. No
    place is complained of that this user would not use: relative paths start elsewhere."""
    assert init(with_source, f"--user {USER}").returncode == 0
    status, found = check(with_source)
    assert (status, [one for one in found if one["result"] != "ok"]) == (0, [])
    assert f"the user {USER} (of the group of {CONF})" in found[-2]["text"] + found[-1]["text"]
    with_source.run("echo deviceId=x > conf/device.cfg; chmod 600 conf/device.cfg", cwd="/srv")
    status, found = check(with_source)
    (warning,) = (one for one in found if one["result"] != "ok")
    assert status == 0
    assert "device.cfg: can't be read: Permission denied" in warning["text"]
