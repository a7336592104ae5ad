"""``es.amplia.oda.operation.update.cfg``: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.config.loader import load, read_update_settings
from oda.diagnosis.effective import render_settings
from oda.errors import ConfigurationError
from oda.settings import UpdateSettings
from tests.config.directories import MINIMAL, write

KEY = "RWQxMjM0NTY3ODAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAx"
PACKAGES = (
    "packageInstall=/i {file}\npackageRemove=/r {name}\npackageVersion=/v {name}\n"
    "packageRestore=/b {name}={oldVersion}\n"
)


def settings(directory: Path, text: str) -> UpdateSettings:
    write(directory, {**MINIMAL, "operation.update": text})
    return load(directory, {}).settings.update


def test_everything(tmp_path: Path) -> None:
    """Each key fills its field, and is shown as it stands in the file."""
    text = (
        "updateRoots=/srv/a, /srv/b\nupdateConfiguration=subsystem.poller,*\n"
        + PACKAGES
        + f"updateHosts=Files.example:8443,[::1]:80,x\nupdateKeyHosts=x\nupdateKey={KEY}\n"
        "updateMaxBytes=2048\nupdateTimeout=10\nupdateConfirm=20\nupdateDirectory=/var/u\n"
    )
    found = settings(tmp_path, text)
    assert found.roots == (Path("/srv/a"), Path("/srv/b"))
    assert found.configuration == ("es.amplia.oda.subsystem.poller.cfg", "*")
    assert found.hosts == ("files.example:8443", "[::1]:80", "x")
    assert found.key is not None
    assert str(found.key) == KEY
    assert read_update_settings(tmp_path) == found
    shown = render_settings(load(tmp_path, {}).settings)
    assert f"updateKey={KEY}" in shown
    assert "updateRoots=/srv/a,/srv/b" in shown


def test_a_file_of_the_reference_agent(tmp_path: Path) -> None:
    """Its keys allow nothing here."""
    text = "rulesPath=rules/\nbackupPath=b\ndeployPath=d\ndownloadsPath=x\nconfigurationPath=c\n"
    assert settings(tmp_path, text) == UpdateSettings()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("updateRoots=relative\n", "updateRoots"),
        ("updateRoots=/\n", "updateRoots"),
        ("updateRoots=/srv/../etc\n", "updateRoots"),
        ("updateConfiguration=operation.update\n", "never replaces the file that limits it"),
        ("updateConfiguration=../x\n", "updateConfiguration"),
        ("packageInstall=/i {file}\n", "needs packageRemove beside it"),
        (PACKAGES.replace("/i", "dpkg"), "an absolute program"),
        (PACKAGES.replace("{file}", "{url}"), "{url} is not known"),
        ("updateHosts=http://x\n", "updateHosts"),
        ("updateRoots=/srv/a\nupdateKey=AAAA\n", "not an Ed25519 key"),
        (f"updateKey={KEY}\n", "needs updateRoots"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    """A limit that is misspelt must not be no limit."""
    with pytest.raises(ConfigurationError) as refused:
        settings(tmp_path, text)
    assert fault in str(refused.value)


def test_roots_never_hold_what_limits_them(tmp_path: Path) -> None:
    """Below a root, an update could replace the configuration, or its own record."""
    conf = tmp_path / "etc" / "oda"
    conf.mkdir(parents=True)
    for text in (
        f"updateRoots={tmp_path / 'etc'}\n",
        f"updateRoots={conf}\n",
        "updateRoots=/srv/a\nupdateDirectory=/srv/a/updates\n",
    ):
        with pytest.raises(ConfigurationError, match="where the agent keeps its"):
            settings(conf, text)
    outbox = MINIMAL["connector.websocket"] + "outboxPath=/srv/b/outbox.sqlite\n"
    write(conf, {"operation.update": "updateRoots=/srv/b\n", "connector.websocket": outbox})
    with pytest.raises(ConfigurationError, match="keeps its outbox"):
        load(conf, {})
