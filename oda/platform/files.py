"""A small file server: what devices download in an UPDATE.

The files of one directory are served under ``/files/<name>``, with ranges and an ETag, so that a
download that breaks off can go on. There are no subdirectories, and a link is not followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import FileSender

from oda.platform.web import Call, HttpError, Reply, Route

#: As many files are listed.
MAX_FILES = 1000
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_CHUNK_BYTES = 1024 * 1024


class FileServer:
    """Serves the files of ``directory``, None: there are none. ``base()`` is the URL of the HTTP
    server."""

    def __init__(self, directory: Path | None, base: Callable[[], str | None]) -> None:
        self._directory = directory
        self._base = base

    def routes(self) -> list[Route]:
        """The paths, to be served beside those of the API."""
        return [
            Route("GET", "/files", self.list, "The files that devices can download"),
            Route("GET", "/files/{file}", self.file, "One of them; ranges are possible"),
        ]

    def list(self, call: Call) -> Any:
        return deferToThread(self._list)

    def _list(self) -> Reply:
        if self._directory is None:
            return Reply([])
        found = []
        for name in sorted(os.listdir(self._directory))[:MAX_FILES]:
            try:
                with self._open(name) as stream:
                    digest, size = hashlib.sha256(), 0
                    while chunk := stream.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        size += len(chunk)
            except HttpError:
                continue
            url = f"{self._base() or ''}/files/{quote(name, safe='')}"
            found.append({"name": name, "size": size, "sha256": digest.hexdigest(), "url": url})
        return Reply(found)

    def file(self, call: Call) -> Deferred[None]:
        """Answers the request itself, piece by piece."""
        stream = self._open(call.path["file"])
        request = call.request
        found = os.fstat(stream.fileno())
        tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        first, last = 0, found.st_size - 1
        asked = _RANGE.fullmatch(call.header("range") or "")
        if asked is not None and call.header("if-range") in (None, tag):
            first = int(asked[1])
            last = min(last, int(asked[2])) if asked[2] else last
            if first > last:
                stream.close()
                raise HttpError(416, f"the file has {found.st_size} bytes", "Range")
            request.setResponseCode(206)
            request.setHeader("Content-Range", f"bytes {first}-{last}/{found.st_size}")
        request.setHeader("Content-Type", "application/octet-stream")
        request.setHeader("Content-Length", str(last - first + 1))
        request.setHeader("Accept-Ranges", "bytes")
        request.setHeader("ETag", tag)
        request.setHeader("X-Content-Type-Options", "nosniff")
        if request.method == b"HEAD":
            stream.close()
            request.finish()
            return _done()
        stream.seek(first)
        part: Any = _Part(stream, last - first + 1)
        sending: Deferred[Any] = FileSender().beginFileTransfer(part, request)

        def over(outcome: Any) -> None:
            stream.close()
            if not request._disconnected:
                request.unregisterProducer()
                request.finish()

        # Whoever has gone needs no answer.
        return sending.addBoth(over)

    def _open(self, name: str) -> BinaryIO:
        if self._directory is None or not name or "/" in name or "\0" in name or name[0] == ".":
            raise HttpError(404, "no such file")
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            stream = os.fdopen(os.open(self._directory / name, flags), "rb")
        except OSError:
            raise HttpError(404, "no such file") from None
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            stream.close()
            raise HttpError(404, "no such file")
        return stream


class _Part:
    """Reads so many bytes of a stream and no more."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def _done() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done
