"""One update, from BEGINUPDATE to ENDUPDATE, in whichever process it is.

Each state is on disk before what it announces is done, and each step is on disk before it is told:
see the package for the states, and for what the next process makes of each.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from oda.boundary import contained, reason_of
from oda.errors import OperationFailed
from oda.log import Logger
from oda.model import OperationResult, ResultCode, Step, StepResult
from oda.settings import UpdateSettings
from oda.update import validation
from oda.update.files import InThread
from oda.update.installers import Installers
from oda.update.record import Item, Phase, Record, UpdateDirectory
from oda.wording import counted

log = Logger()

#: How often an update looks whether it is confirmed, in seconds.
LOOK_S = 1.0
#: So much of the disk is left free by a download whose size is known.
_SPARE_BYTES = 16 * 1024 * 1024
_SIGNATURE_SUFFIX = ".minisig"
_FILE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")


class Stopped(OperationFailed):
    """The process ends: the next one goes on."""


@dataclass(frozen=True)
class Surroundings:
    """What an update works with. ``make_downloader()`` gives a ``Downloader``;
    ``watch_connection()`` gives a function that says whether the connection is open and something
    was acknowledged since."""

    clock: IReactorTime
    now_ms: Callable[[], int]
    in_thread: InThread
    installers: Installers
    settings: Callable[[], UpdateSettings]
    make_downloader: Callable[[], Any]
    watch_connection: Callable[[], Callable[[], bool]]


class UpdateRun:
    """One update. ``tell(steps)`` sends a partial answer; it may be replaced while the update
    runs."""

    def __init__(self, around: Surroundings, directory: UpdateDirectory, record: Record) -> None:
        self.record = record
        self.tell: Callable[[Sequence[Step]], None] = lambda _: None
        self._around = around
        self._directory = directory
        self._settings = around.settings()
        self._ends: Exception | None = None
        self._waits_for: Deferred[Any] | None = None

    # -- what a process does with it ---------------------------------------------------------

    async def go(self) -> None:
        """From the beginning. Raises ``Stopped`` when the process ends; whatever else fails is in
        the record in the end."""
        await self._guard(self._forward)

    async def go_on_waiting(self) -> None:
        """For the confirmation, for which an earlier process waited already."""
        await self._guard(self._confirm)

    async def take_back(self, reason: str) -> None:
        """Roll back what an earlier process began."""
        await self._roll_back(self.record.reason or reason)

    async def clean_up(self) -> None:
        """Delete backups and downloads of an update that is over."""
        for item in self.record.items:
            try:
                await self._call("release", item, item.note)
            except Exception as error:  # noqa: BLE001 - a plugin's; what is left does no harm
                log.warn(
                    "could not delete the backup of {element}: {reason}",
                    element=item.element.label,
                    reason=reason_of(error),
                )
        await self._around.in_thread(self._directory.empty_downloads)
        self.record.is_clean = True
        await self._write()

    def end(self, reason: str) -> None:
        """Let it come to an end: it is rolled back, unless it is committed by then."""
        self._interrupt(OperationFailed(reason))

    def stop(self) -> None:
        """The process ends: change nothing more. An update that waits for its confirmation goes on
        waiting in the next process."""
        self._interrupt(Stopped("the agent is stopping"))
        if self.record.phase is Phase.CONFIRMING:
            self.record.phase = Phase.RESTARTED
            self._directory.write(self.record)

    def result(self) -> OperationResult:
        """The answer that follows from the record."""
        record = self.record
        if record.phase is Phase.COMMITTED:
            return OperationResult(ResultCode.SUCCESSFUL, "No Error.", tuple(record.steps))
        return OperationResult(ResultCode.ERROR_PROCESSING, record.reason, tuple(record.steps))

    # -- forward -----------------------------------------------------------------------------

    async def _guard(self, way: Callable[[], Any]) -> None:
        try:
            await way()
        except Stopped:
            raise
        except Exception as error:
            reason = error if self._ends is None else self._ends
            if isinstance(reason, Stopped):
                raise reason from error
            await self._roll_back(reason_of(reason))

    async def _forward(self) -> None:
        self._directory.acquire()
        await self._around.in_thread(self._directory.empty_downloads)
        await self._write()
        elements = counted(len(self.record.items), "element")
        await self._step("BEGINUPDATE", StepResult.SUCCESSFUL, f"{elements} to install")
        files = await self._download()
        await self._validate(files)
        for item in self.record.items:
            self._check_end()
            item.note = await self._call("backup", item)
        self.record.phase, self.record.has_changed = Phase.CHANGING, True
        await self._write()
        for item, file in zip(self.record.items, files, strict=True):
            await self._install(item, file)
        await self._activate()
        await self._confirm()

    async def _download(self) -> list[Path | None]:
        downloader = self._around.make_downloader()
        deadline_s = self._around.clock.seconds() + self._settings.timeout_s
        left = self._settings.max_bytes
        files: list[Path | None] = []
        for index, item in enumerate(self.record.items):
            element = item.element
            try:
                file = None
                if element.download_url is not None:
                    name = _file_name(element.download_url)
                    file = self._directory.downloads / str(index) / name
                    self._check_room(element.size)
                    left -= await self._fetch(
                        downloader,
                        element.download_url,
                        file,
                        left,
                        element.size,
                        deadline_s,
                        bool(element.validators) or self._settings.key is not None,
                    )
                await self._judge(item, file, downloader, index, deadline_s)
            except Exception as error:
                if self._ends is None:
                    reason = f"{element.label}: {reason_of(error)}"
                    await self._step("DOWNLOADFILE", StepResult.ERROR, reason)
                    raise OperationFailed(reason) from error
                raise
            if file is not None:
                size = file.stat().st_size
                text = f"{element.label} downloaded ({size} bytes)"
                await self._step("DOWNLOADFILE", StepResult.SUCCESSFUL, text)
            files.append(file)
        return files

    async def _fetch(
        self,
        downloader: Any,
        url: str,
        file: Path,
        max_bytes: int,
        size: int | None,
        deadline_s: float,
        is_judged: bool = True,
    ) -> int:
        from oda.update.download import Target  # twisted.web: only where there is an update

        target = Target(url, file, max_bytes, size, deadline_s, is_judged)
        received: int = await self._interruptible(Deferred.fromCoroutine(downloader.fetch(target)))
        return received

    async def _judge(
        self, item: Item, file: Path | None, downloader: Any, index: int, deadline_s: float
    ) -> None:
        """Digests, and the signature where there has to be one."""
        element, key = item.element, self._settings.key
        if file is None and key is None:
            return
        found = await self._around.in_thread(validation.digests, file, element)
        validation.compare(element, found)
        if key is None:
            return
        text = validation.signature_in(element)
        if text is None and element.download_url is None:
            raise OperationFailed("updateKey is set: the element needs a MINISIGN validator")
        if text is None:
            parts = urlsplit(element.download_url or "")
            url = urlunsplit(parts._replace(path=parts.path + _SIGNATURE_SUFFIX))
            place = self._directory.downloads / f"{index}{_SIGNATURE_SUFFIX}" / "signature"
            try:
                await self._fetch(
                    downloader, url, place, validation.MAX_SIGNATURE_BYTES, None, deadline_s
                )
            except OperationFailed as error:
                raise OperationFailed(f"its signature: {error}") from error
            text = place.read_bytes().decode("utf-8", "replace")
        validation.verify(element, text, found, key)

    def _check_room(self, size: int | None) -> None:
        free = shutil.disk_usage(self._directory.path).free
        if size is not None and free < size + _SPARE_BYTES:
            raise OperationFailed(f"the disk has no room for it: {free} bytes are free")

    async def _validate(self, files: Sequence[Path | None]) -> None:
        by_installer: dict[str, list[int]] = {}
        for index, item in enumerate(self.record.items):
            by_installer.setdefault(item.installer, []).append(index)
        for name, indices in by_installer.items():
            self._check_end()
            await _value(
                self._around.installers.named(name).validate,
                [self.record.items[index].element for index in indices],
                [files[index] for index in indices],
            )

    async def _install(self, item: Item, file: Path | None) -> None:
        self._check_end()
        label = item.element.label
        verb = item.element.operation.text.lower()
        await self._step("BEGININSTALL", StepResult.SUCCESSFUL, f"{label}: {verb}")
        try:
            await self._call("install", item, file, item.note)
        except Exception as error:
            if self._ends is None:
                reason = f"{label}: {reason_of(error)}"
                await self._step("ENDINSTALL", StepResult.ERROR, reason)
                raise OperationFailed(reason) from error
            raise
        await self._step("ENDINSTALL", StepResult.SUCCESSFUL, f"{label}: done")

    async def _activate(self) -> None:
        for name in dict.fromkeys(item.installer for item in self.record.items):
            self._check_end()
            await _value(self._around.installers.named(name).activate)

    async def _confirm(self) -> None:
        self._check_end()
        confirm_s = self._settings.confirm_s
        is_confirmed = self._around.watch_connection()
        self.record.phase = Phase.CONFIRMING
        await self._write()
        # This is what the platform has to acknowledge.
        self.report()
        deadline_s = self._around.clock.seconds() + confirm_s
        while not is_confirmed():
            if self._around.clock.seconds() >= deadline_s:
                raise OperationFailed(
                    f"the agent was not connected and acknowledged within updateConfirm"
                    f" ({confirm_s:g} s)"
                )
            await self._interruptible(deferLater(self._around.clock, LOOK_S, lambda: None))
        self._check_end()
        self._end_step(StepResult.SUCCESSFUL, "confirmed")
        self.record.phase = Phase.COMMITTED
        await self._write()
        log.info("an update is installed and confirmed: {elements}", elements=self._elements())
        self.report()
        await self._clean_up_safely()

    # -- backward ----------------------------------------------------------------------------

    async def _roll_back(self, reason: str) -> None:
        """Never fails: what can't be restored is in the record, and in the answer."""
        record = self.record
        log.error(
            "an update is rolled back ({elements}): {reason}",
            elements=self._elements(),
            reason=reason,
        )
        record.reason = reason
        problems: list[str] = []
        if record.has_changed:
            record.phase = Phase.ROLLING_BACK
            # Where that can't be written, CHANGING or CONFIRMING is on disk, which means the same.
            await self._write_if_possible()
            problems = await self._restore()
        if problems:
            record.phase = Phase.BROKEN
            record.reason = f"{reason}; it could not be rolled back: {'; '.join(problems)}"
            log.critical("an update can't be rolled back: {reason}", reason="; ".join(problems))
            self._end_step(StepResult.ERROR, record.reason)
        else:
            record.phase = Phase.ROLLED_BACK
            self._end_step(StepResult.ERROR, f"rolled back: {reason}")
        is_written = await self._write_if_possible()
        self.report()
        if is_written and not problems:
            await self._clean_up_safely()

    async def _restore(self) -> list[str]:
        """What could not be restored."""
        problems = []
        for item in reversed(self.record.items):
            if item.is_restored:
                continue
            try:
                await self._call("restore", item, item.note)
                item.is_restored = True
            except Exception as error:  # noqa: BLE001 - the others are restored all the same
                problems.append(f"{item.element.label}: {reason_of(error)}")
        for name in dict.fromkeys(item.installer for item in self.record.items):
            try:
                await _value(self._around.installers.named(name).activate)
            except Exception as error:  # noqa: BLE001 - a plugin's
                problems.append(f"{name}: {reason_of(error)}")
        return problems

    async def _clean_up_safely(self) -> None:
        try:
            await self.clean_up()
        except OSError as error:
            log.warn("could not delete what an update has left behind: {reason}", reason=str(error))

    # -- steps -------------------------------------------------------------------------------

    async def _call(self, method: str, item: Item, *arguments: Any) -> Any:
        installer = self._around.installers.named(item.installer)
        return await _value(getattr(installer, method), item.element, *arguments)

    async def _step(self, name: str, result: StepResult, description: str) -> None:
        self.record.steps.append(Step(name, result, description, None, self._around.now_ms()))
        await self._write()
        self.report()

    def _end_step(self, result: StepResult, description: str) -> None:
        """There is one ENDUPDATE, also where an earlier process had one already."""
        kept = [step for step in self.record.steps if step.name != "ENDUPDATE"]
        step = Step("ENDUPDATE", result, description, None, self._around.now_ms())
        self.record.steps = [*kept, step]

    def report(self) -> None:
        """Send the steps so far as a partial answer. Never raises."""
        try:
            self.tell(tuple(self.record.steps))
        except Exception as error:  # noqa: BLE001 - the update does not depend on who hears of it
            log.warn("could not report a step of an update: {reason}", reason=reason_of(error))

    async def _write(self) -> None:
        await self._around.in_thread(self._directory.write, self.record)

    async def _write_if_possible(self) -> bool:
        try:
            await self._write()
        except Exception as error:  # noqa: BLE001 - a plugin's note may be what can't be written
            log.error("the record of an update can't be written: {reason}", reason=reason_of(error))
            return False
        return True

    def _elements(self) -> str:
        return ", ".join(item.element.label for item in self.record.items)

    # -- the end -----------------------------------------------------------------------------

    def _interrupt(self, error: Exception) -> None:
        self._ends = self._ends or error
        waits_for, self._waits_for = self._waits_for, None
        if waits_for is not None:
            waits_for.cancel()

    def _check_end(self) -> None:
        if self._ends is not None:
            raise self._ends

    async def _interruptible(self, waiting: Deferred[Any]) -> Any:
        self._check_end()
        self._waits_for = waiting
        try:
            return await waiting
        except CancelledError:
            self._check_end()
            raise
        finally:
            self._waits_for = None


def _value(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """What foreign code returns: a value, a Deferred or a coroutine."""

    def call() -> Any:
        outcome = function(*arguments)
        if hasattr(outcome, "send") and hasattr(outcome, "throw"):
            return Deferred.fromCoroutine(outcome)
        return outcome

    return maybeDeferred(call).addErrback(_contained)


def _contained(failure: Failure) -> None:
    """No installer ends more than itself."""
    error = failure.value
    assert error is not None
    raise contained(error) from error


def _file_name(url: str) -> str:
    """What package managers judge a file by: the last part of the address, where it is harmless."""
    name = os.path.basename(unquote(urlsplit(url).path))
    is_harmless = 0 < len(name) <= 200 and set(name) <= _FILE_CHARACTERS
    return name if is_harmless and name[0] not in ".-" else "file"
