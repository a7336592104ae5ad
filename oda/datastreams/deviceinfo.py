"""Who this device is (DeviceInfoProvider).

The device id is the configured one, else the serial number. The serial number comes from the script
configured for it, else from ``obtainSerialNumber.sh`` in the directory of scripts, which the
reference agent runs even if no line names it. If there is such a script, it is the only source: a
fallback after its failure could change the device's identity from one start to the next. The same
holds while the directory of scripts does not exist, for example because it is not mounted. Without
a script, the machine's own number is used (``oda.datastreams.identity``).

The host name is no identity unless ``deviceId=@hostname`` asks for it: the name is a setting that
anybody may change, and two machines may have the same.
"""

from __future__ import annotations

import os.path
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.datastreams.identity import HOST_NAME, find_hidden, find_serial, is_usable
from oda.datastreams.scripts import ScriptGetter
from oda.datastreams.software import installed_software
from oda.errors import ReadingFailed
from oda.interfaces import IDeviceInfoProvider
from oda.log import Logger
from oda.model import HOST, Reading
from oda.settings import HOST_NAME_AS_ID, DeviceInfoSettings

SERIAL_NUMBER = "device.serialNumber"
#: The datastreams whose script gives the serial number; older deployments use the second name.
SERIAL_NUMBER_SCRIPTS = (SERIAL_NUMBER, "serialNumber")

#: The script that gives the number if no line names one.
USUAL_SCRIPT = "obtainSerialNumber.sh"

#: Sources whose number another machine may share, and why.
DOUBTFUL = {"/etc/machine-id": "machines that were cloned from one image may have the same"}

log = Logger()


def is_there(file: Path) -> bool:
    """Whether a directory has an entry of that name. An entry that can't be read now (a link to a
    disk that is not yet mounted, a directory without permission) counts: without it, the device
    would have another identity until the next start."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


@implementer(IDeviceInfoProvider)
class DeviceInfo:
    """Answers from the settings, the scripts and the files under ``root``."""

    def __init__(
        self,
        settings: DeviceInfoSettings,
        root: Path = Path("/"),
        hostname: Callable[[], str] = socket.gethostname,
    ) -> None:
        self._settings = settings
        self._scripts: dict[str, ScriptGetter] = {}
        self._usual_file: Path | None = None
        self._usual_script: ScriptGetter | None = None
        self._root = root
        self._hostname = hostname
        self._software: list[dict[str, str]] | None = None
        self._announced = ""
        #: Where the last serial number or device id was found; "" before the first.
        self.source = ""
        self._doubted: set[str] = set()

    def configure(
        self,
        settings: DeviceInfoSettings,
        scripts: dict[str, ScriptGetter],
        usual_file: Path | None = None,
        usual_script: ScriptGetter | None = None,
    ) -> None:
        """Use other settings, and the scripts by datastream. ``usual_script`` counts if none of
        these gives the serial number and ``usual_file`` exists."""
        self._settings = settings
        self._scripts = scripts
        self._usual_file = usual_file
        self._usual_script = usual_script

    def device_id(self) -> Any:
        """See ``IDeviceInfoProvider.device_id``."""
        if self._settings.device_id == HOST_NAME_AS_ID:
            return self._host_name()
        if self._settings.device_id:
            self.source = "deviceId"
            return self._settings.device_id
        return self._serial_number(is_identity=True)

    def _host_name(self) -> str:
        name = self._hostname().strip()
        if not is_usable(name):
            raise ReadingFailed(
                f"deviceId={HOST_NAME_AS_ID}: the host name {name!r} tells no machine from others;"
                " change the host name, or set another deviceId"
            )
        self._announce(name, HOST_NAME)
        return name

    def api_key(self) -> str:
        """See ``IDeviceInfoProvider.api_key``."""
        return self._settings.api_key.reveal()

    def serial_number(self) -> Any:
        """See ``IDeviceInfoProvider.serial_number``. Logs the source of the number once."""
        return self._serial_number()

    def _serial_number(self, is_identity: bool = False) -> Any:
        for datastream_id in SERIAL_NUMBER_SCRIPTS:
            script = self._scripts.get(datastream_id)
            if script is not None:
                reading: Deferred[Any] = script.get(HOST)
                return self._from_script(reading, f"the script of {datastream_id}")
        usual_file = self._usual_file
        if self._usual_script is not None and usual_file is not None and is_there(usual_file):
            reading = self._usual_script.get(HOST)
            return self._from_script(reading, str(usual_file))
        if is_identity and usual_file is not None and not os.path.isdir(usual_file.parent):
            raise ReadingFailed(
                f"'path' names {usual_file.parent}, which is not a readable directory: its"
                f" {USUAL_SCRIPT} may tell the device's id. Put the scripts there, or set deviceId"
            )
        found = find_serial(self._root, self._hostname)
        if found is None:
            raise ReadingFailed(
                "this machine has no serial number; set deviceId, or a script for "
                f"{SERIAL_NUMBER}, in the device info configuration"
            )
        if is_identity and found.place == HOST_NAME:
            raise ReadingFailed(
                f"this machine has no number of its own, and its host name ({found.number}) is no"
                " identity: it may change, and other machines may have the same. Set deviceId, or a"
                f" script for {SERIAL_NUMBER}, in the device info configuration;"
                f" deviceId={HOST_NAME_AS_ID} uses the host name nevertheless"
            )
        self._announce(*found)
        if is_identity and found.place in DOUBTFUL and found.place not in self._doubted:
            self._doubted.add(found.place)
            log.warn(
                "this device uses the id {serial}, from {place}: {doubt}. Set deviceId in the"
                " device info configuration",
                serial=found.number,
                place=found.place,
                doubt=DOUBTFUL[found.place],
            )
        return found.number

    def software(self) -> list[dict[str, str]]:
        """See ``IDeviceInfoProvider.software``. Read once: an update restarts the agent."""
        if self._software is None:
            self._software = installed_software(self._root)
        return self._software

    def _from_script(self, reading: Deferred[Any], place: str) -> Deferred[str]:
        def take(read: Reading) -> str:
            serial = "" if read.value is None else str(read.value).strip()
            if not is_usable(serial):
                raise ReadingFailed(f"{place} gave no serial number: {serial!r}")
            self._announce(serial, place)
            return serial

        def explain(failure: Failure) -> str:
            failure.trap(ReadingFailed)
            raise ReadingFailed(f"{place} gave no serial number: {failure.getErrorMessage()}")

        return reading.addCallbacks(take, explain)

    def _announce(self, serial: str, place: str) -> None:
        self.source = place
        if place == self._announced:
            return
        self._announced = place
        log.info("serial number {serial} from {place}", serial=serial, place=place)
        if place.startswith("/etc/"):
            for hidden in find_hidden(self._root):
                log.info(
                    "{hidden} does not count as a serial number: not every user can read it"
                    " (docs/identity.md)",
                    hidden=hidden,
                )
