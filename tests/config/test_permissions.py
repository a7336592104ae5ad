"""Secrets that every user of the machine can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.config.loader import load
from oda.errors import ConfigurationError
from tests.config.directories import MINIMAL, name_of, write

CONNECTION, DEVICE = "connector.websocket", "datastreams.deviceinfo"
KEY = "canary-key-0123456789"
STRICT = "strictPermissions=true\n"
SECRETS = [
    pytest.param({DEVICE: f"apiKey={KEY}\n"}, name_of(DEVICE), (DEVICE, "apiKey"), id="apiKey"),
    pytest.param({DEVICE: "apiKeyFile=key\n"}, "key", (DEVICE, "apiKeyFile"), id="apiKeyFile"),
    pytest.param(
        {
            CONNECTION: "host=h\npath=p\nsecure=true\ncertFile=cert\nkeyFile=private\n",
            DEVICE: "apiKeyFile=key\n",
        },
        "private",
        (CONNECTION, "keyFile"),
        id="keyFile",
    ),
    pytest.param(
        {
            CONNECTION: "host=h\npath=p\nsecure=true\ncertFile=cert\nkeyFile=private\n"
            "keyPassphraseFile=passphrase\n",
            DEVICE: "apiKeyFile=key\n",
        },
        "passphrase",
        (CONNECTION, "keyPassphraseFile"),
        id="keyPassphraseFile",
    ),
    pytest.param(
        {
            CONNECTION: "host=h\npath=p\nproxyHost=q\nproxyUser=u\nproxyPasswordFile=password\n",
            DEVICE: "apiKeyFile=key\n",
        },
        "password",
        (CONNECTION, "proxyPasswordFile"),
        id="proxyPasswordFile",
    ),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("key", "cert", "private", "passphrase", "password"):
        (tmp_path / name).write_text(KEY)
    return tmp_path


@pytest.mark.parametrize(("files", "public", "place"), SECRETS)
def test_a_public_secret_is_warned_of(
    directory: Path, files: dict[str, str], public: str, place: tuple[str, str]
) -> None:
    """The warning names the line, the key and the file to protect, and not the secret."""
    write(directory, {**MINIMAL, **files})
    assert load(directory, {}).warnings == ()
    (directory / public).chmod(0o604)
    (warning,) = load(directory, {}).warnings
    assert name_of(place[0]) in warning
    assert f": {place[1]}: " in warning
    assert str(directory / public) in warning
    assert "chmod" in warning
    assert KEY not in warning


@pytest.mark.parametrize(("files", "public", "place"), SECRETS)
def test_strict_permissions_refuse_a_public_secret(
    directory: Path, files: dict[str, str], public: str, place: tuple[str, str]
) -> None:
    """The same is a fault, at the same place, with ``strictPermissions=true``."""
    strict = {**MINIMAL, **files}
    write(directory, {**strict, DEVICE: strict[DEVICE] + STRICT})
    assert load(directory, {}).settings.device_info.strict_permissions
    (directory / public).chmod(0o644)
    with pytest.raises(ConfigurationError) as caught:
        load(directory, {})
    (fault,) = caught.value.faults
    assert (Path(fault.file).name, fault.key) == (name_of(place[0]), place[1])
    assert fault.line > 0
    assert KEY not in str(fault)


def test_the_group_may_read(directory: Path) -> None:
    """Root owns the file and the agent's group reads it: a proper way to install."""
    write(directory, {**MINIMAL, DEVICE: f"apiKey={KEY}\n{STRICT}"})
    (directory / name_of(DEVICE)).chmod(0o640)
    assert load(directory, {}).warnings == ()


def test_files_without_secrets_may_be_public(directory: Path) -> None:
    """The other components' files, and a device file whose key is in the environment."""
    write(directory, {**MINIMAL, DEVICE: f"deviceId=d\n{STRICT}"})
    for name in (CONNECTION, DEVICE):
        (directory / name_of(name)).chmod(0o644)
    assert load(directory, {"ODA_API_KEY": KEY}).warnings == ()
