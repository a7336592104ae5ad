"""A process that is killed at any change of the file system leaves, after the next start, all files
old or all files new, and the platform hears which.

The changes are counted in one run that is not killed; then there is one run for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from oda.errors import OperationFailed
from oda.model import OperationRequest, OperationResult, ResultCode
from oda.update.operation import Update
from tests.update.world import (
    POLLER,
    Killed,
    Progress,
    World,
    archive,
    begin,
    killed_after,
    outcome,
    request,
    resume,
)

#: A file system in memory: hundreds of processes wait for thousands of writes to the disk.
MEMORY = Path("/dev/shm")

Made = tuple[World, OperationRequest]


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """Where the devices are."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else tmp_path) as name:
        yield Path(name)


def with_files(directory: Path) -> Made:
    """A device with something of each kind, and a request that changes all of it."""
    directory.mkdir()
    world = World(directory, configured=False)
    (world.root / "changed").write_bytes(b"old")
    (world.root / "removed").write_bytes(b"old")
    for name in ("app", "gone"):
        (world.root / name).mkdir()
        (world.root / name / "file").write_bytes(b"old")
    return world, request(
        world.element("changed", b"new"),
        world.element("removed", None),
        world.element("new/er/file", b"new"),
        world.element("app/", archive({"file": b"new", "more": b"new"})),
        world.element("gone/", None),
    )


def with_configuration(directory: Path) -> Made:
    """A device whose configuration is replaced: one file changed, one removed."""
    directory.mkdir()
    world = World(directory)
    world.write_configuration("operation.setclock", "clockDatastream=c\n")
    return world, request(
        world.element(POLLER, b"b=30\n", type="CONFIGURATION"),
        world.element("operation.setclock", None, type="CONFIGURATION"),
    )


def run_until(world: World, asked: OperationRequest, progress: Progress, changes: int) -> int:
    """A process that is killed after so many changes; how many it wanted to make."""
    update = world.boot()
    with killed_after(changes) as fuse:
        begin(update, asked, progress).addBoth(lambda _: None)
        world.clock.pump([1.0] * 3)
    world.kill(update)
    return fuse.count


def finish(world: World, asked: OperationRequest, progress: Progress) -> OperationResult | None:
    """The next process: its answer, None where nothing had begun."""
    update = world.boot()
    if progress.saved is None:
        return None
    answer = resume(update, asked, progress)
    answer.addErrback(lambda failure: failure.trap(OperationFailed) and None)
    result = outcome(answer)
    assert result is None or isinstance(result, OperationResult)
    return result


def contents(world: World) -> dict[str, bytes | None]:
    """The tree, without what names its own place."""
    own = str(world.directory).encode()
    return {name: data and data.replace(own, b"") for name, data in world.tree().items()}


@pytest.mark.parametrize("make", [with_files, with_configuration])
def test_all_old_or_all_new_whenever_the_process_is_killed(
    top: Path, make: Callable[[Path], Made]
) -> None:
    """The answer of the next process says what is on the disk."""
    world, asked = make(top / "whole")
    before = contents(world)
    count = run_until(world, asked, Progress(), changes=100_000)
    after = contents(world)
    assert count > 30
    assert before != after
    outcomes = []
    for changes in range(count + 1):
        world, asked = make(top / f"{changes}")
        progress = Progress()
        run_until(world, asked, progress, changes)
        result = finish(world, asked, progress)
        is_new = result is not None and result.result_code is ResultCode.SUCCESSFUL
        assert contents(world) == (after if is_new else before), (changes, result)
        outcomes.append(is_new)
        if world.record.exists():
            assert list((world.record / "downloads").rglob("*")) == []
    assert outcomes == sorted(outcomes), "once it is new it stays new"
    assert outcomes[-1]


@pytest.mark.parametrize("first", [60, 80, 95])
def test_a_rollback_that_is_killed_is_finished(top: Path, first: int) -> None:
    """Taking back can be interrupted as often as it likes."""
    world, asked = with_files(top / "old")
    before = contents(world)
    for second in range(60):
        world, asked = with_files(top / f"{second}")
        progress = Progress()
        run_until(world, asked, progress, first)
        assert contents(world) != before
        dying: Update | None = None
        with killed_after(second) as fuse, suppress(Killed):
            dying = world.boot()
        if dying is not None:
            world.kill(dying)
        result = finish(world, asked, progress)
        assert result is not None
        assert result.result_code is ResultCode.ERROR_PROCESSING
        assert contents(world) == before, (first, second)
        if fuse.count < second:
            return
    pytest.fail("a rollback has fewer changes than this")
