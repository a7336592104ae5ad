"""The files that a platform serves to devices."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from oda.platform.service import Platform

from .conftest import call

DATA = bytes(range(256)) * 1000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A file, and what is not served beside it."""
    served = tmp_path / "served"
    (served / "sub").mkdir(parents=True)
    (served / "a b.bin").write_bytes(DATA)
    (served / ".hidden").write_bytes(b"x")
    (tmp_path / "outside").write_bytes(b"x")
    (served / "link").symlink_to(tmp_path / "outside")
    return served


def ask(url: str, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


async def get(platform: Platform, name: str, **headers: str) -> tuple[int, Any, bytes]:
    return await deferToThread(ask, f"{platform.http_url}/files/{name}", **headers)


@pytest_twisted.ensureDeferred
async def test_the_list(start: Any, directory: Path) -> None:
    """Each file with what an UPDATE says of it; nothing hidden, no link, no directory."""
    platform = start(files=directory)
    status, found = await call(platform, "GET", "/files")
    assert status == 200
    assert found == [
        {
            "name": "a b.bin",
            "size": len(DATA),
            "sha256": hashlib.sha256(DATA).hexdigest(),
            "url": f"{platform.http_url}/files/a%20b.bin",
        }
    ]
    assert await call(start(), "GET", "/files") == (200, [])


@pytest_twisted.ensureDeferred
async def test_a_file_and_a_part_of_it(start: Any, directory: Path) -> None:
    """A range is served as long as the file is the one that was asked for."""
    platform = start(files=directory)
    status, headers, body = await get(platform, "a%20b.bin")
    assert (status, body) == (200, DATA)
    tag = headers["ETag"]
    ranged = {"Range": "bytes=1000-", "If-Range": tag}
    status, headers, body = await get(platform, "a%20b.bin", **ranged)
    assert (status, body) == (206, DATA[1000:])
    assert headers["Content-Range"] == f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
    status, _, body = await get(platform, "a%20b.bin", Range="bytes=5-9")
    assert (status, body) == (206, DATA[5:10])
    status, _, body = await get(platform, "a%20b.bin", **{**ranged, "If-Range": '"other"'})
    assert (status, body) == (200, DATA)
    status, _, _ = await get(platform, "a%20b.bin", Range="bytes=9999999-")
    assert status == 416


@pytest.mark.parametrize(
    "name", ["none", ".hidden", "link", "sub", "..%2Foutside", "%2e%2e", "a%00"]
)
@pytest_twisted.ensureDeferred
async def test_nothing_else_is_served(start: Any, directory: Path, name: str) -> None:
    """No name leads out of the directory."""
    status, _, body = await get(start(files=directory), name)
    assert status == 404
    assert body != b"x"
