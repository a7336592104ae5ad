"""A reading in Python: the size of a file in bytes, on the host and on other devices.

Options: ``datastream`` is the datastream's id, ``host`` the host's file, and any other option a
device's id with that device's file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface import implementer

from oda.errors import ReadingFailed
from oda.interfaces import IDatastreamGetter, IPlugin
from oda.model import HOST, Reading


@implementer(IDatastreamGetter)
class FileSize:
    """Reads the size of one file for each device."""

    def __init__(self, datastream_id: str, files: Mapping[str, Path]) -> None:
        self.datastream_id = datastream_id
        self._files = files

    def devices(self) -> Iterable[str]:
        return self._files

    def get(self, device_id: str) -> Reading:
        file = self._files[device_id]
        try:
            return Reading(file.stat().st_size)
        except OSError as error:
            raise ReadingFailed(f"{file}: {error.strerror}") from error


@implementer(ITwistedPlugin, IPlugin)
class FileSizePlugin:
    """Found by ``twisted.plugin``, because this module is in a directory ``oda/plugins``."""

    name = "file-size"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        files = {
            HOST if option == "host" else option: Path(text)
            for option, text in options.items()
            if option != "datastream"
        }
        return [FileSize(options["datastream"], files)]


file_size = FileSizePlugin()
