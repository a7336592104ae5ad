"""The temperature sensor."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.datastreams.temperature import CHOOSE_AGAIN_S, LOOK_AGAIN_S, TemperatureSensor
from oda.errors import ReadingFailed


def zone(root: Path, number: int, kind: str, temperature: str) -> Path:
    directory = root / f"sys/class/thermal/thermal_zone{number}"
    directory.mkdir(parents=True)
    (directory / "type").write_text(f"{kind}\n")
    (directory / "temp").write_text(temperature)
    return directory / "temp"


def monitor(root: Path, number: int, name: str, temperature: str) -> Path:
    directory = root / f"sys/class/hwmon/hwmon{number}"
    directory.mkdir(parents=True)
    (directory / "name").write_text(f"{name}\n")
    (directory / "temp1_input").write_text(temperature)
    return directory / "temp1_input"


def test_no_sensor(tmp_path: Path) -> None:
    """A machine without sensor says so."""
    sensor = TemperatureSensor(tmp_path)
    assert sensor.path is None
    with pytest.raises(ReadingFailed, match=r"^no temperature sensor$"):
        sensor.celsius()


def test_the_sensor_at_the_processor_wins(tmp_path: Path) -> None:
    """Among several, the one nearest to the processor is read, wherever the kernel lists it."""
    zone(tmp_path, 0, "acpitz", "27800\n")
    zone(tmp_path, 1, "cpu-thermal", "48312\n")
    assert TemperatureSensor(tmp_path).celsius() == 48.3
    monitor(tmp_path, 0, "nvme", "33000\n")
    monitor(tmp_path, 1, "coretemp", "-5500\n")
    assert TemperatureSensor(tmp_path).celsius() == -5.5


def test_a_sensor_without_value_is_passed_over(tmp_path: Path) -> None:
    """A sensor that gives nothing at the start is no sensor."""
    zone(tmp_path, 0, "x86_pkg_temp", "")
    zone(tmp_path, 1, "acpitz", "20000")
    assert TemperatureSensor(tmp_path).celsius() == 20.0


def test_a_sensor_is_known_by_its_name(tmp_path: Path) -> None:
    """After the kernel numbered its sensors anew the value is still the processor's."""
    cpu, battery = monitor(tmp_path, 0, "coretemp", "48000"), monitor(tmp_path, 1, "bq27", "21000")
    sensor = TemperatureSensor(tmp_path)
    assert sensor.celsius() == 48.0
    (cpu.parent / "name").write_text("bq27")
    (battery.parent / "name").write_text("coretemp")
    cpu.write_text("21000")
    battery.write_text("48000")
    assert sensor.celsius() == 48.0


def test_a_better_sensor_is_found_later(tmp_path: Path) -> None:
    """A sensor that appears is seen: soon where there was none, now and then where there was."""
    now = [0.0]
    sensor = TemperatureSensor(tmp_path, lambda: now[0])
    assert not sensor.is_there()
    zone(tmp_path, 0, "acpitz", "20000")
    now[0] += LOOK_AGAIN_S
    assert sensor.is_there()
    assert sensor.celsius() == 20.0
    monitor(tmp_path, 0, "k10temp", "55000")
    assert sensor.celsius() == 20.0
    now[0] += CHOOSE_AGAIN_S
    assert sensor.celsius() == 55.0


@pytest.mark.parametrize("impossible", ["-263200", "3892314000", "nonsense", ""])
def test_an_impossible_value_is_no_temperature(tmp_path: Path, impossible: str) -> None:
    """The next sensor is read; without one the reading fails."""
    cpu = monitor(tmp_path, 0, "coretemp", "48000")
    sensor = TemperatureSensor(tmp_path)
    cpu.write_text(impossible)
    with pytest.raises(ReadingFailed):
        sensor.celsius()
    zone(tmp_path, 0, "acpitz", "20000")
    assert sensor.celsius() == 20.0


def test_a_sensor_that_says_it_is_at_fault(tmp_path: Path) -> None:
    """Its value is not read, whatever it is; a battery is no sensor of the machine."""
    cpu = monitor(tmp_path, 0, "coretemp", "48000")
    monitor(tmp_path, 1, "battery", "21000")
    (cpu.parent / "temp1_fault").write_text("1\n")
    assert TemperatureSensor(tmp_path).path is None
    (cpu.parent / "temp1_fault").write_text("0\n")
    assert TemperatureSensor(tmp_path).celsius() == 48.0


def test_a_sensor_that_disappears(tmp_path: Path) -> None:
    """A reading that fails later has its reason."""
    sensor = TemperatureSensor(tmp_path) if zone(tmp_path, 0, "soc", "1000") else None
    assert sensor is not None
    assert sensor.path is not None
    sensor.path.unlink()
    with pytest.raises(ReadingFailed, match="gave no value"):
        sensor.celsius()


def test_the_first_sensor_of_a_processor_is_that_of_the_whole(tmp_path: Path) -> None:
    """A processor of many cores has more than nine sensors: the tenth is not read for the first."""
    first = monitor(tmp_path, 0, "coretemp", "61000")
    (first.parent / "temp10_input").write_text("48000")
    assert TemperatureSensor(tmp_path).celsius() == 61.0
