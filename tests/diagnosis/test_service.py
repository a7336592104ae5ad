"""Which user runs the agent, from units and from who owns its files."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from oda.diagnosis.service import find_service

UNIT = """
[Unit]
Description=User=nobody runs it
[Service]
User={user}
# User=games
WorkingDirectory=/var/lib/oda
ExecStart=/opt/oda/bin/twistd --nodaemon --pidfile= \\
    oda-websocket {conf}
[Install]
WantedBy=multi-user.target
"""


def put_unit(place: Path, name: str, user: str, conf: str) -> Path:
    """A unit that runs an agent."""
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(UNIT.format(user=user, conf=conf))
    return place / name


@pytest.mark.parametrize("form", ["--conf {}", "--conf={}", "-c {}"])
def test_the_unit_with_this_configuration_decides(tmp_path: Path, form: str) -> None:
    """Of several agents on one machine the one counts that reads this directory."""
    units, conf = tmp_path / "units", tmp_path / "conf"
    conf.mkdir()
    put_unit(units, "first.service", "games", "--conf /elsewhere")
    unit = put_unit(units, "second.service", "daemon", form.format(conf))
    (units / "other.service").write_text("[Service]\nUser=mail\nExecStart=/bin/true\n")
    service = find_service(conf, (), (units,))
    assert service is not None
    assert (service.user, service.source) == ("daemon", str(unit))
    assert service.working_directory == Path("/var/lib/oda")


def test_a_link_to_the_directory_is_the_directory(tmp_path: Path) -> None:
    """A unit may name the configuration by another path."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "link").symlink_to("conf")
    put_unit(tmp_path / "units", "oda.service", "daemon", f"--conf {tmp_path / 'link'}")
    assert find_service(tmp_path / "conf", (), (tmp_path / "units",)) is not None


def test_drop_ins_and_precedence(tmp_path: Path) -> None:
    """As systemd has it: an earlier place hides a unit of the same name, and drop-ins of all places
    are added, in the order of their names."""
    conf, etc, lib = tmp_path / "conf", tmp_path / "etc", tmp_path / "lib"
    conf.mkdir()
    put_unit(lib, "oda.service", "games", f"--conf {conf}")
    put_unit(etc, "oda.service", "daemon", f"--conf {conf}")
    for place, name, user in ((lib, "20.conf", "mail"), (etc, "10.conf", "news")):
        (place / "oda.service.d").mkdir()
        (place / "oda.service.d" / name).write_text(f"[Service]\nUser={user}\n")
    service = find_service(conf, (), (etc, lib))
    assert service is not None
    assert service.user == "mail"


def test_a_unit_without_user_is_roots(tmp_path: Path) -> None:
    """systemd runs a service as root where no user is named."""
    (tmp_path / "conf").mkdir()
    put_unit(tmp_path / "units", "oda.service", "", f"--conf {tmp_path / 'conf'}")
    service = find_service(tmp_path / "conf", (), (tmp_path / "units",))
    assert service is not None
    assert service.user == "root"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_without_a_unit_the_owner_counts(tmp_path: Path) -> None:
    """An agent under another supervisor: whoever owns its files, unless that is root."""
    conf, outbox = tmp_path / "conf", tmp_path / "outbox.sqlite"
    conf.mkdir()
    assert find_service(conf, (conf, outbox), ()) is None
    outbox.touch()
    os.chown(outbox, pwd.getpwnam("daemon").pw_uid, -1)
    service = find_service(conf, (conf, outbox), ())
    assert service is not None
    assert service.user == "daemon"
    assert str(outbox) in service.source


def test_what_is_no_unit_does_no_harm(tmp_path: Path) -> None:
    """Units of others may be large, binary, unreadable or broken."""
    (tmp_path / "a.service").write_bytes(b"\xff\xfe oda-websocket [Service\n==\n" * 50_000)
    (tmp_path / "b.service").write_text("[Service]\nExecStart=oda-websocket 'unclosed\n")
    (tmp_path / "c.service").symlink_to("nowhere")
    (tmp_path / "d.service").mkdir()
    assert find_service(tmp_path, (), (tmp_path, tmp_path / "missing")) is None
