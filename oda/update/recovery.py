"""Before an agent reads its configuration and loads its plugins: takes back the files of an update
that an earlier process did not finish.

Otherwise a configuration that is half old and half new, or a plugin that can't be loaded, could
keep the agent from starting, and so from ever taking the update back. Packages, and what installers
of plugins have done, follow when the agent runs (``oda.update.operation``).
"""

from __future__ import annotations

from pathlib import Path

from oda.boundary import reason_of
from oda.config.loader import read_update_settings
from oda.errors import OdaError
from oda.log import Logger
from oda.update import files
from oda.update.configuration import ConfigurationInstaller, place_of
from oda.update.places import find_place
from oda.update.record import INTERRUPTED, Item, Phase, UpdateDirectory

log = Logger()


def recover_files(directory: Path) -> str | None:
    """Take files, directories and .cfg files back where that has to be.

    Gives the token of an update that may go on waiting for its confirmation in this process,
    because the one before was stopped in good order; None: there is none. Whatever goes wrong is in
    the log: the agent may be able to start all the same.
    """
    try:
        place = UpdateDirectory(read_update_settings(directory).directory)
        if not place.exists():
            return None
        place.acquire()
        try:
            return _recover(directory, place)
        finally:
            place.release()
    except (OdaError, OSError) as error:
        log.error("can't inspect an update that was interrupted: {reason}", reason=reason_of(error))
        return None


def _recover(directory: Path, place: UpdateDirectory) -> str | None:
    record = place.read()
    if record is None or record.phase.is_over or not record.has_changed:
        return None
    if record.phase is Phase.RESTARTED:
        # If this process ends before the update is confirmed, that was its last chance.
        record.phase = Phase.CONFIRMING
        place.write(record)
        return record.token
    if record.phase is not Phase.BROKEN:
        record.reason = record.reason or INTERRUPTED
        record.phase = Phase.ROLLING_BACK
        place.write(record)
    for item in reversed(record.items):
        if item.is_restored:
            continue
        try:
            _restore(directory, item)
        except (OdaError, OSError) as error:
            # The agent tries again, and names it in the answer.
            log.error(
                "{element} can't be restored: {reason}",
                element=item.element.label,
                reason=reason_of(error),
            )
    return None


def _restore(directory: Path, item: Item) -> None:
    if item.installer == ConfigurationInstaller.name:
        files.restore(place_of(directory, item.element), item.note)
    elif item.installer == files.FileInstaller.name:
        files.restore(find_place((Path(item.note["root"]),), item.element.path), item.note)
    else:
        return
    log.warn("restored {element}: its update was not finished", element=item.element.label)
