"""``device.cfg``: what is a device's own beside the files of a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from oda.config.loader import LoadedConfiguration
from oda.errors import ConfigurationError
from oda.settings import Secret
from tests.config.directories import load_files

CONNECTION, DEVICE = "connector.websocket", "datastreams.deviceinfo"


def test_the_device_file_overrides_the_common_files(tmp_path: Path) -> None:
    """One directory for a whole fleet, and ``device.cfg`` for what is a device's own: its values
    count instead of the files', of whatever component, and variables count instead of both."""
    loaded = load_directory_with_device(
        tmp_path,
        "deviceId=pump-42\napiKeyFile=key\nhost=site.example.org\nport=1\n",
        {"ODA_PORT": "2"},
    )
    assert loaded.settings.device_info.device_id == "pump-42"
    assert loaded.settings.device_info.api_key == Secret("of-the-device")
    assert (loaded.settings.connector.host, loaded.settings.connector.port) == (
        "site.example.org",
        2,
    )
    assert "device.cfg" in loaded.read
    assert loaded.of_device == {"deviceId", "apiKeyFile", "host", "port"}


@pytest.mark.parametrize(
    ("line", "help_"),
    [
        ("port=0", r"device.cfg:1: port: .*from 1 to 65535"),
        ("deviecId=x", r"device.cfg:1: deviecId: unknown key, did you mean deviceId?"),
        ("maxData=1", r"device.cfg:1: maxData: can't be a device's own; it belongs in .*inmemory"),
        (
            "room.temperature=x.sh",
            r"device.cfg:1: room.temperature: unknown key; allowed: .*variable",
        ),
        ("apiKey=a\napiKeyFile=key", r"device.cfg:2: apiKeyFile: is set together with apiKey"),
        ("apiKey=a\napikey=b", r"device.cfg:2: apikey: says the same as apiKey in line 1"),
        ("port=1\nport=2", r"device.cfg:1: port: is here twice, again in line 2"),
    ],
)
def test_a_wrong_line_of_the_device_file_is_a_fault_there(
    tmp_path: Path, line: str, help_: str
) -> None:
    """What is wrong in ``device.cfg`` is told with that file and line, whatever the component."""
    with pytest.raises(ConfigurationError, match=help_):
        load_directory_with_device(tmp_path, line)


def load_directory_with_device(
    directory: Path, text: str, environ: Mapping[str, str] | None = None
) -> LoadedConfiguration:
    """Load a fleet's common files with ``text`` as the device's own."""
    (directory / "key").write_text("of-the-device\n")
    (directory / "device.cfg").write_text(text)
    return load_files(
        directory,
        {CONNECTION: "host=h\npath=p\n", DEVICE: "deviceId=common\napiKey=common\n"},
        environ or {},
    )
