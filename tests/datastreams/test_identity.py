"""The serial number of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from oda.datastreams.deviceinfo import DeviceInfo
from oda.datastreams.identity import Serial, find_serial, is_usable
from oda.errors import ReadingFailed
from oda.settings import DeviceInfoSettings, Secret


def put(root: Path, place: str, content: bytes) -> None:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(0o444)


def name() -> str:
    return "pump-7"


def test_the_most_specific_place_wins(tmp_path: Path) -> None:
    """Board number, then device tree, then the installation's id, then the host's name."""
    assert find_serial(tmp_path, name) == Serial("pump-7", "the host's name")
    put(tmp_path, "etc/machine-id", b"3d1219c7\n")
    assert find_serial(tmp_path, name) == Serial("3d1219c7", "/etc/machine-id")
    put(tmp_path, "proc/device-tree/serial-number", b"10000000abcdef\0")
    assert find_serial(tmp_path, name) == Serial(
        "10000000abcdef", "/proc/device-tree/serial-number"
    )
    put(tmp_path, "sys/class/dmi/id/product_serial", b"VMware-42 1\n")
    assert find_serial(tmp_path, name) == Serial("VMware-42 1", "/sys/class/dmi/id/product_serial")


@pytest.mark.parametrize(
    "placeholder",
    [b"None\n", b"To be filled by O.E.M.\n", b"0\n", b"00000000\n", b"", b" \n", b"\0", b"Unknown"],
)
def test_placeholders_are_passed_over(tmp_path: Path, placeholder: bytes) -> None:
    """What many machines have in common identifies none of them."""
    put(tmp_path, "sys/class/dmi/id/product_serial", placeholder)
    put(tmp_path, "etc/machine-id", b"3d1219c7\n")
    assert find_serial(tmp_path, name) == Serial("3d1219c7", "/etc/machine-id")


def test_nothing_usable(tmp_path: Path) -> None:
    """A machine without any number whose name is the default has no serial number."""
    assert find_serial(tmp_path, lambda: "localhost") is None


@pytest.mark.parametrize("serial", ["A0", "7", "ec2a-00", "0000-0001"])
def test_usable_serials(serial: str) -> None:
    """Real numbers may be short and have many zeros."""
    assert is_usable(serial)


def test_root_finds_what_every_user_finds(tmp_path: Path) -> None:
    """A number that some users can't read does not count, for root neither: the agent's user would
    find another one, and the device would have two ids. The log names the place."""
    put(tmp_path, "etc/machine-id", b"3d1219c7\n")
    put(tmp_path, "sys/class/dmi/id/product_serial", b"VMware-42 1\n")
    (tmp_path / "sys/class/dmi/id/product_serial").chmod(0o400)
    info = DeviceInfo(DeviceInfoSettings(api_key=Secret("k")), tmp_path, name)
    with capturedLogs() as events:
        assert info.device_id() == "3d1219c7"
    assert any("product_serial does not count" in formatEvent(event) for event in events)
    (tmp_path / "sys/class/dmi/id/product_serial").chmod(0o444)
    assert info.device_id() == "VMware-42 1"


def test_the_host_name_is_no_identity(tmp_path: Path) -> None:
    """A host name may change, and two machines may have the same: the agent refuses it as device
    id, and the error says what to set. ``deviceId=@hostname`` asks for the name."""
    info = DeviceInfo(DeviceInfoSettings(api_key=Secret("k")), tmp_path, name)
    with pytest.raises(ReadingFailed, match=r"pump-7.*deviceId=@hostname"):
        info.device_id()
    asked = DeviceInfoSettings(api_key=Secret("k"), device_id="@hostname")
    assert DeviceInfo(asked, tmp_path, name).device_id() == "pump-7"
    with pytest.raises(ReadingFailed, match="'localhost' tells no machine from others"):
        DeviceInfo(asked, tmp_path, lambda: "localhost").device_id()


def test_an_identity_that_others_may_have_is_warned_of(tmp_path: Path) -> None:
    """The id of a machine that may be cloned is a device id only with a warning that says what to
    do; as a reading it needs none."""
    put(tmp_path, "etc/machine-id", b"0123456789abcdef")
    for settings, expected in (
        (DeviceInfoSettings(api_key=Secret("k")), 1),
        (DeviceInfoSettings(api_key=Secret("k"), device_id="dev-1"), 0),
    ):
        info = DeviceInfo(settings, tmp_path, lambda: "3f2a9c81d0e7")
        with capturedLogs() as events:
            info.serial_number()
            for _ in range(2):
                info.device_id()
        warned = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
        assert len(warned) == expected
        assert all("Set deviceId" in line for line in warned)
