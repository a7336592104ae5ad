"""The operation UPDATE: one update at a time, and one answer, whatever happens to the process.

The update itself (``UpdateRun``) goes on by itself: what waits for it is only the answer. So a time
limit ends the waiting, and the update is rolled back all the same.

An operation that is resumed looks for its update by the token that it has saved. By then ``start``
has begun to finish whatever an earlier process left. Without a record of that token nothing was
changed: the record comes before everything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.boundary import foreign_code, reason_of
from oda.errors import (
    InvalidParameter,
    OdaError,
    OperationFailed,
    OperationNotSupported,
    OutboxError,
)
from oda.interfaces import IOperation, IProgress, IResumableOperation
from oda.log import Logger
from oda.model import HOST, DeploymentElement, OperationRequest, OperationResult
from oda.settings import AgentSettings, UpdateSettings
from oda.update.commands import CommandRunner
from oda.update.configuration import ConfigurationInstaller, LiveConfiguration
from oda.update.elements import PARAMETER, read_elements
from oda.update.files import FileInstaller, InThread
from oda.update.installers import Installers
from oda.update.packages import PackageInstaller
from oda.update.record import Item, Phase, Record, UpdateDirectory
from oda.update.recovery import INTERRUPTED
from oda.update.run import Stopped, Surroundings, UpdateRun
from oda.update.validation import check_validators

log = Logger()

#: What an update may take besides downloads and confirmation, in seconds.
_INSTALLATION_S = 4 * 3600.0
_OFF = (
    "UPDATE is off: updateRoots, updateConfiguration or packageInstall in"
    " es.amplia.oda.operation.update.cfg would allow it"
)
_NOT_BEGUN = "the agent's process ended before the update had begun; nothing was changed"


@implementer(IOperation, IResumableOperation)
class Update:
    """Installs what the platform describes. ``settings()`` are those in force; ``api_key`` gives
    the device's key; ``environment()`` is that of a command which begins now. ``watch_connection``
    is as in ``Surroundings``; ``random_bytes(n)`` gives n random bytes. ``make_downloader`` stands
    for one that gives a ``Downloader``."""

    name = "UPDATE"
    reads_only = False

    def __init__(
        self,
        reactor: Any,
        settings: Callable[[], AgentSettings],
        api_key: Callable[[], str],
        environment: Callable[[], Mapping[str, str]],
        now_ms: Callable[[], int],
        in_thread: InThread,
        watch_connection: Callable[[], Callable[[], bool]],
        random_bytes: Callable[[int], bytes] = os.urandom,
        make_downloader: Callable[[], Any] | None = None,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._api_key = api_key
        self._environment = environment
        self._now_ms = now_ms
        self._in_thread = in_thread
        self._watch_connection = watch_connection
        self._random_bytes = random_bytes
        self._downloader = make_downloader or self._make_downloader
        self._live: LiveConfiguration | None = None
        self._continuing: str | None = None
        self._is_busy = self._is_stopping = False
        self._unknown = ""
        self._run: UpdateRun | None = None
        self._directory: UpdateDirectory | None = None
        self._finished: list[Deferred[None]] = []

    # Most agents never update: what only an update needs is made when it is first used.

    @cached_property
    def _configuration(self) -> ConfigurationInstaller:
        return ConfigurationInstaller(
            lambda: self._update.configuration, lambda: self._live, self._in_thread
        )

    @cached_property
    def installers(self) -> Installers:
        """Those of the agent, and those that plugins add."""
        return Installers(
            (
                self._configuration,
                FileInstaller(
                    lambda: self._update.roots, lambda: self._update.max_bytes, self._in_thread
                ),
                PackageInstaller(
                    lambda: self._update, CommandRunner(self._reactor, self._environment)
                ),
            )
        )

    @cached_property
    def _around(self) -> Surroundings:
        return Surroundings(
            clock=self._reactor,
            now_ms=self._now_ms,
            in_thread=self._in_thread,
            installers=self.installers,
            settings=lambda: self._update,
            make_downloader=self._downloader,
            watch_connection=self._watch_connection,
        )

    @property
    def _update(self) -> UpdateSettings:
        return self._settings().update

    @property
    def time_limit_s(self) -> float:
        """See ``IResumableOperation``: each part of an update has a limit of its own."""
        return self._update.timeout_s + self._update.confirm_s + _INSTALLATION_S

    @property
    def is_allowed(self) -> bool:
        """Whether the configuration allows anything to be installed."""
        update = self._update
        return bool(
            update.roots
            or update.configuration
            or update.package_install
            or self.installers.has_added
        )

    @property
    def is_changing_configuration(self) -> bool:
        """Whether the agent's files are half old and half new: it reads them at the end."""
        return self._configuration.is_changing

    def use_configuration(self, live: LiveConfiguration | None, continuing: str | None) -> None:
        """The agent has its settings from a directory. ``continuing`` is the token of an update
        that goes on waiting for its confirmation. Called before ``start``."""
        self._live, self._continuing = live, continuing

    # -- the process -------------------------------------------------------------------------

    def start(self) -> None:
        """Finish what an earlier process left."""
        self._is_stopping, self._unknown = False, ""
        directory = UpdateDirectory(self._update.directory)
        try:
            if not directory.exists():
                return
            directory.acquire()
            record = directory.read()
        except OdaError as error:
            log.error("{reason}", reason=str(error))
            self._unknown = f"nobody knows how far the update is: {error}"
            directory.release()
            return
        self._directory = directory
        if record is not None:
            self._finish(UpdateRun(self._around, directory, record))

    def stop(self) -> None:
        """The process ends."""
        self._is_stopping = True
        if self._run is not None and self._is_busy:
            try:
                self._run.stop()
            except OSError as error:
                log.error("the record of an update can't be written: {reason}", reason=str(error))
        if self._directory is not None:
            self._directory.release()

    def _finish(self, run: UpdateRun) -> None:
        record = run.record
        self._run = run
        if record.phase.is_over and record.is_clean:
            return
        if record.phase.is_over:
            way: Any = run.clean_up()
        elif record.phase is Phase.RESTARTED or (
            record.phase is Phase.CONFIRMING and record.token == self._continuing
        ):
            log.info("an update waits for its confirmation after a restart")
            way = run.go_on_waiting()
        else:
            way = run.take_back(INTERRUPTED)
        self._begin(way)

    # -- IOperation --------------------------------------------------------------------------

    async def execute(self, request: OperationRequest, progress: IProgress) -> OperationResult:
        """Raises ``OperationError`` for what can't even begin; later failures are in the result,
        with the steps that were done."""
        if request.device_id != HOST:
            raise OperationNotSupported("an update installs on this device only")
        if not self.is_allowed:
            raise OperationNotSupported(_OFF)
        elements = read_elements(request.parameters)
        if self._is_busy:
            raise OperationFailed("another UPDATE is running: one at a time")
        self._is_busy = True
        try:
            items = await self._plan(elements)
            directory = await self._prepare()
            record = Record(self._random_bytes(16).hex(), items)
            await self._save(record, progress)
        except BaseException:
            self._is_busy = False
            raise
        run = self._run = UpdateRun(self._around, directory, record)
        run.tell = progress
        self._begin(run.go())
        await self._end_of(run)
        return run.result()

    async def resume(
        self, request: OperationRequest, state: Any, progress: IProgress
    ) -> OperationResult:
        """See ``IResumableOperation``."""
        token = state.get("token") if isinstance(state, dict) else None
        run = self._run
        if run is None or run.record.token != token:
            raise OperationFailed(self._unknown or _NOT_BEGUN)
        run.tell = progress
        if self._is_busy:
            run.report()
        await self._end_of(run)
        return run.result()

    async def _plan(self, elements: list[DeploymentElement]) -> list[Item]:
        """Everything that can be judged before anything is downloaded."""
        from oda.update.download import check_host  # twisted.web: only where there is an update

        items = []
        settings = self._settings()
        for element in elements:
            if settings.update.key is not None and (element.old_path or element.old_name):
                raise InvalidParameter(
                    f"{PARAMETER}({element.name})",
                    "updateKey is set: what is replaced under another name or path needs an"
                    " UNINSTALL of its own",
                )
        for element in elements:
            where = f"{PARAMETER}({element.name})"
            check_validators(element, where, settings.update.key is not None)
            if element.download_url is not None:
                check_host(element.download_url, settings.update, settings.connector)
            installer = self.installers.for_element(element)
            try:
                with foreign_code:
                    checked = installer.check(element)
                    if hasattr(checked, "send"):
                        checked = Deferred.fromCoroutine(checked)
                await checked if isinstance(checked, Deferred) else None
            except InvalidParameter as error:
                raise InvalidParameter(f"{where}.{error.parameter}", error.problem) from error
            items.append(Item(element, installer.name))
        return items

    async def _prepare(self) -> UpdateDirectory:
        """The directory, when an earlier update is over. Raises ``OperationFailed``."""
        path = self._update.directory
        if self._directory is None or self._directory.path != path:
            if self._directory is not None:
                self._directory.release()
                self._directory = None
            directory = UpdateDirectory(path)
            directory.acquire()
            self._directory = directory
        directory = self._directory
        record = directory.read()
        if record is None or (record.phase.is_over and record.is_clean):
            return directory
        run = UpdateRun(self._around, directory, record)
        if record.phase.is_over:
            await run.clean_up()
        else:
            await run.take_back(INTERRUPTED)
        if not record.phase.is_over:
            raise OperationFailed(f"the update before: {record.reason}")
        return directory

    @staticmethod
    async def _save(record: Record, progress: IProgress) -> None:
        """From here on the operation is resumed after a restart."""
        try:
            await progress.save({"token": record.token})
        except OutboxError as error:
            # With outbox=memory always: the platform would not learn the end after a restart.
            raise OperationFailed(f"the update can't be recorded: {reason_of(error)}") from error

    # -- the run -----------------------------------------------------------------------------

    def _begin(self, way: Any) -> None:
        self._is_busy = True
        Deferred.fromCoroutine(way).addBoth(self._ended)

    def _ended(self, outcome: Any) -> None:
        self._is_busy = False
        if isinstance(outcome, Failure) and not outcome.check(Stopped):
            log.failure("a defect in an update", outcome)
        if isinstance(outcome, Failure) and outcome.check(Stopped):
            return  # whoever waits is answered by the next process
        finished, self._finished = self._finished, []
        for waiting in finished:
            waiting.callback(None)

    def _end_of(self, run: UpdateRun) -> Deferred[None]:
        """Fires when the run has ended. Cancelling it ends the run, unless the process ends."""
        if not self._is_busy:
            return succeed(None)

        def cancelled(waiting: Deferred[None]) -> None:
            if waiting in self._finished:
                self._finished.remove(waiting)
            if not self._is_stopping:
                run.end("the time limit was exceeded")

        waiting: Deferred[None] = Deferred(cancelled)
        self._finished.append(waiting)
        return waiting

    def _make_downloader(self) -> Any:
        from oda.update.download import Downloader

        settings = self._settings()
        return Downloader(self._reactor, settings.connector, settings.update, self._api_key)
