"""A device that is updated: its directories, and one process after the other that uses them.

Everything runs at once and in the test's own thread; time is a ``Clock``. A process is killed by
letting every change of the file system fail from the n-th on: what was done before stays.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from oda.config.loader import load
from oda.errors import OperationFailed, OutboxError
from oda.interfaces import IProgress
from oda.model import OperationRequest, OperationResult, Step
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    Secret,
    UpdateSettings,
)
from oda.update.configuration import LiveConfiguration
from oda.update.operation import Update
from oda.update.recovery import recover_files

PREFIX = "es.amplia.oda."
POLLER = PREFIX + "subsystem.poller.cfg"
UPDATE_FILE = PREFIX + "operation.update.cfg"
NOW_MS = 1_700_000_000_000


class Killed(BaseException):
    """The process is gone."""


class _Fuse:
    """Counts the changes of the file system; from ``left`` 0 on every further one fails."""

    left: int | None = None
    count = 0
    _EVENTS = frozenset(
        {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.chmod", "open"}
    )

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left is None or event not in self._EVENTS:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            return
        self.count += 1
        if self.count > self.left:
            raise Killed(event)


_fuse = _Fuse()
sys.addaudithook(_fuse)


@contextmanager
def killed_after(changes: int) -> Iterator[_Fuse]:
    """Let the file system change so often and no more; ``count`` says how often it wanted to."""
    _fuse.left, _fuse.count = changes, 0
    try:
        yield _fuse
    finally:
        _fuse.left = None


@implementer(IProgress)
class Progress:
    """Remembers what an operation tells and saves."""

    def __init__(self, is_durable: bool = True) -> None:
        self.told: list[Sequence[Step]] = []
        self.saved: Any = None
        self._is_durable = is_durable

    def __call__(self, steps: Sequence[Step]) -> None:
        self.told.append(tuple(steps))

    def save(self, state: Any) -> Deferred[None]:
        if not self._is_durable:
            return fail(OutboxError("outbox=memory keeps nothing"))
        self.saved = state
        return succeed(None)


class Downloads:
    """Stands for ``Downloader``: gives what is in ``files``, by URL. Those of ``held`` come when
    the test lets them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.held: dict[str, Deferred[None]] = {}
        self.fetched: list[str] = []

    async def fetch(self, target: Any) -> int:
        self.fetched.append(target.url)
        if target.url in self.held:
            await self.held[target.url]
        if target.url not in self.files:
            raise OperationFailed("the server answered 404")
        data = self.files[target.url]
        if target.size is not None and target.size != len(data):
            raise OperationFailed(f"it has {len(data)} bytes; size says {target.size}")
        if len(data) > target.max_bytes:
            raise OperationFailed("it is too large")
        target.file.parent.mkdir(exist_ok=True)
        target.file.write_bytes(data)
        return len(data)


@cache
def usual_settings() -> AgentSettings:
    """Settings of a device that has its configuration from a program."""
    return AgentSettings(
        connector=ConnectorSettings(host="localhost"),
        device_info=DeviceInfoSettings(api_key=Secret("k")),
    )


class World:
    """A device below ``directory``. Not ``configured``, no file of the configuration is read: that
    takes most of the time."""

    def __init__(self, directory: Path, update: str = "", configured: bool = True) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.conf = directory / "conf"
        self.record = directory / "update"
        for place in (self.root, self.conf):
            place.mkdir()
        self.write_configuration("connector.websocket", "host=localhost\npath=/p\n")
        self.write_configuration("datastreams.deviceinfo", "deviceId=dev-1\napiKey=k\n")
        self.write_configuration("subsystem.poller", "a=60\n")
        self.write_configuration(
            "operation.update",
            f"updateRoots={self.root}\nupdateConfiguration=*\nupdateDirectory={self.record}\n"
            + update,
        )
        self.clock = Clock()
        self.downloads = Downloads()
        self.is_connected = True
        self._configured = configured
        self.in_force: AgentSettings = msgspec.structs.replace(
            usual_settings(), update=UpdateSettings(roots=(self.root,), directory=self.record)
        )
        self.reloads = 0
        self.follows = True
        self.installers: list[Any] = []

    def write_configuration(self, name: str, text: str) -> None:
        (self.conf / f"{PREFIX}{name}.cfg").write_text(text)

    def boot(self) -> Update:
        """A new process, as far as ``agent.startService``."""
        continuing = recover_files(self.conf)
        if self._configured:
            self.in_force = load(self.conf, {}).settings
        update = Update(
            self.clock,
            lambda: self.in_force,
            lambda: "k",
            dict,
            lambda: NOW_MS,
            maybeDeferred,
            lambda: lambda: self.is_connected,
            lambda count: os.urandom(count),
            lambda: self.downloads,
        )
        for installer in self.installers:
            update.installers.add(installer)
        live = LiveConfiguration(self.conf, {}, self.reload, lambda: self.in_force)
        update.use_configuration(live if self._configured else None, continuing)
        update.start()
        return update

    @staticmethod
    def kill(update: Update) -> None:
        """The process is gone, and with it what the kernel kept for it."""
        if update._directory is not None:
            update._directory.release()

    def reload(self) -> Deferred[None]:
        self.reloads += 1
        if self.follows:
            self.in_force = load(self.conf, {}).settings
        return succeed(None)

    def offer(self, name: str, data: bytes) -> str:
        """Have a file that can be downloaded; where."""
        url = f"http://localhost/{name}"
        self.downloads.files[url] = data
        return url

    def element(self, path: str, data: bytes | None, **more: Any) -> dict[str, Any]:
        """An element that installs ``data`` at ``path``; None removes what is there."""
        element: dict[str, Any] = {
            "name": more.get("name") or path.strip("/").replace("/", "-") or "package",
            "version": "2",
            "type": "SOFTWARE",
            "path": path,
            "operation": "UNINSTALL" if data is None else "INSTALL",
        }
        if data is not None:
            element["downloadUrl"] = self.offer(element["name"], data)
        return {**element, **more}

    def tree(self) -> dict[str, bytes | None]:
        """Every file of the root and of the configuration, with its content; None: a directory."""
        found: dict[str, bytes | None] = {}
        for top in (self.root, self.conf):
            for path in sorted(top.rglob("*")):
                name = str(path.relative_to(self.directory))
                found[name] = None if path.is_dir() else path.read_bytes()
        return found


def request(*elements: dict[str, Any], name: str = "UPDATE", **more: Any) -> OperationRequest:
    """A request with these elements."""
    parameters = {"bundleName": "b", "bundleVersion": "1", "deploymentElements": list(elements)}
    return OperationRequest(id="op-1", name=name, parameters={**parameters, **more})


def begin(update: Update, asked: OperationRequest, progress: Progress) -> Deferred[OperationResult]:
    """Execute it as the dispatcher does."""
    return Deferred.fromCoroutine(update.execute(asked, progress))


def resume(update: Update, asked: OperationRequest, progress: Progress) -> Deferred[Any]:
    """Resume it as the dispatcher does."""
    return Deferred.fromCoroutine(update.resume(asked, progress.saved, progress))


def outcome(deferred: Deferred[Any]) -> Any:
    """What it has fired with; raises what it failed with. It must have fired."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "nothing has come yet"
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]


def archive(
    files: dict[str, bytes],
    mode: str = "w:gz",
    change: Callable[[tarfile.TarInfo], tarfile.TarInfo] = lambda member: member,
) -> bytes:
    """A tar archive of these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o755
            tar.addfile(change(member), io.BytesIO(data))
    return stream.getvalue()
