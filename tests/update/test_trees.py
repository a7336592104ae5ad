"""Archives: what becomes a directory, and what is refused."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from oda.errors import OperationFailed
from oda.update import trees
from oda.update.trees import extract
from tests.update.world import archive


def unpack(directory: Path, data: bytes, max_bytes: int = 100_000) -> Path:
    """The directory that becomes of an archive."""
    file = directory / "archive"
    file.write_bytes(data)
    (directory / "tree").mkdir()
    extract(file, directory / "tree", max_bytes)
    return directory / "tree"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_each_compression(tmp_path: Path, mode: str) -> None:
    """Recognised by what the file begins with."""
    tree = unpack(tmp_path, archive({"a": b"1", "d/e/f": b"2"}, mode))
    assert (tree / "a").read_bytes() == b"1"
    assert (tree / "d/e/f").read_bytes() == b"2"


def kind(letter: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo("evil")
    member.type, member.linkname = letter, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        kind(tarfile.SYMTYPE, "/etc"),
        kind(tarfile.LNKTYPE, "a"),
        kind(tarfile.CHRTYPE),
        kind(tarfile.FIFOTYPE),
    ],
    ids=["symlink", "hard link", "device", "pipe"],
)
def test_nothing_but_files_and_directories(tmp_path: Path, member: tarfile.TarInfo) -> None:
    """A link would lead out of the directory, a device into the kernel."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(member)
    with pytest.raises(OperationFailed, match="'evil' is"):
        unpack(tmp_path, stream.getvalue())
    assert list((tmp_path / "tree").iterdir()) == []


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    """Whatever ``..`` or a leading slash would reach."""
    with pytest.raises(OperationFailed, match="leads out"):
        unpack(tmp_path, archive({name: b"x"}))
    assert not (tmp_path / "x").exists()


def test_no_rights_beyond_the_usual(tmp_path: Path) -> None:
    """Setuid and the right of others to write are not taken over."""

    def generous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mode = 0o6777
        return member

    tree = unpack(tmp_path, archive({"a": b"x"}, change=generous))
    assert (tree / "a").stat().st_mode & 0o7777 == 0o755


def test_a_negative_size_does_not_make_more_room(tmp_path: Path) -> None:
    """A header can say anything: what one member seems to give back, another one doesn't get."""
    header = bytearray(tarfile.TarInfo("less").tobuf())
    header[124:136] = b"\xff" * 2 + (-100_000).to_bytes(10, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    with pytest.raises(OperationFailed):
        unpack(tmp_path, bytes(header) + archive({"a": b"x" * 150_000}, "w"))


def test_it_holds_no_more_than_allowed(tmp_path: Path) -> None:
    """A few bytes of an archive can hold any number of zeros."""
    with pytest.raises(OperationFailed, match="more than updateMaxBytes"):
        unpack(tmp_path, archive({"a": bytes(200_000)}))


def test_a_long_header_is_not_read_into_memory(tmp_path: Path) -> None:
    """Names and attributes of a member are bounded."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"comment": "x" * 200_000}
        tar.addfile(member)
    with pytest.raises(OperationFailed, match="header that is too long"):
        unpack(tmp_path, gzip.compress(stream.getvalue()))


def test_the_number_of_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files cost room, too."""
    monkeypatch.setattr(trees, "MAX_MEMBERS", 3)
    with pytest.raises(OperationFailed, match="more than 3 members"):
        unpack(tmp_path, archive({str(number): b"" for number in range(4)}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        b"\x1f\x8bbroken",
        b"BZhbroken",
        b"\xfd7zXZbroken",
        archive({"a": b"x"})[:-20],
    ],
    ids=["empty", "text", "gzip", "bzip2", "xz", "cut"],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    """Every way of being none has a reason, and no traceback."""
    with pytest.raises(OperationFailed, match="archive that can be read"):
        unpack(tmp_path, data)
