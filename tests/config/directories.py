"""Configuration directories for the tests: written from a mapping of short names to texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from oda.config.loader import LoadedConfiguration, load
from oda.errors import ConfigurationError, Fault

PREFIX = "es.amplia.oda."

GOOD = {
    "connector.websocket": "host=localhost\nport=9955\npath=/south/v80/sessions\n"
    "connectionTimeout=30\nkeepAliveInterval=180\n",
    "datastreams.deviceinfo": "deviceId=dev-1\napiKey=canary-key-0123456789\nsource=deploy\n"
    "path=scripts\ndevice.upTime=scripts/obtainUptime.sh;LONG\n",
    "dispatcher.opengate": "reducedOutput=false\neventContentType=JSON\n"
    "device.temperature.value=60\n",
    "subsystem.poller": "device.upTime=30;300\ndevice.clock;sensor-*=60\n",
    "subsystem.collector": "device.upTime=60;300\n",
    "statemanager.inmemory": "databasePath=statemanager.bd\nmaxData=4000\nforgetTime=172800\n"
    "forgetPeriod=60\n",
    "plugins": "plugins=first\nfirst.colour=green\n",
}
MINIMAL = {
    "connector.websocket": "host=h\npath=p\n",
    "datastreams.deviceinfo": "apiKey=k\n",
}


def name_of(component: str) -> str:
    return f"{PREFIX}{component}.cfg"


def write(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    for component, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (directory / name_of(component)).write_bytes(data)
    return directory


def load_files(
    directory: Path,
    files: Mapping[str, str | bytes],
    environ: Mapping[str, str] | None = None,
) -> LoadedConfiguration:
    return load(write(directory, {**MINIMAL, **files}), environ or {})


def faults_of(
    directory: Path,
    files: Mapping[str, str | bytes],
    environ: Mapping[str, str] | None = None,
) -> tuple[Fault, ...]:
    """The faults, with their files cut to the name."""
    with pytest.raises(ConfigurationError) as caught:
        load_files(directory, files, environ)
    return tuple(fault._replace(file=Path(fault.file).name) for fault in caught.value.faults)
