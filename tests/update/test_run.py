"""One update: the steps it tells, the answer it gives, and what is on the disk in the end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.errors import InvalidParameter, OperationFailed, OperationNotSupported
from oda.interfaces import IInstaller, IOperation, IProgress, IResumableOperation
from oda.model import DeploymentElement, OperationResult, ResultCode, StepResult
from oda.update import trees
from oda.update.files import FileInstaller
from oda.update.record import Record, UpdateDirectory
from oda.update.recovery import recover_files
from tests.update.world import (
    POLLER,
    UPDATE_FILE,
    Progress,
    World,
    archive,
    begin,
    outcome,
    request,
    resume,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run(world: World, *elements: dict[str, Any], **more: Any) -> OperationResult:
    """Have the elements installed by a connected device."""
    update = world.boot()
    try:
        result = outcome(begin(update, request(*elements, **more), Progress()))
    finally:
        update.stop()
    assert isinstance(result, OperationResult)
    return result


def names(result: OperationResult) -> list[str]:
    return [step.name for step in result.steps or ()]


def test_it_is_what_the_dispatcher_expects(world: World) -> None:
    """The operation keeps the contracts of ``IOperation`` and ``IResumableOperation``."""
    update = world.boot()
    assert verifyObject(IOperation, update)
    assert verifyObject(IResumableOperation, update)
    assert not update.reads_only


def test_every_step_is_told_while_it_runs(world: World) -> None:
    """Each partial answer has the steps so far; the final one has all of them."""
    progress = Progress()
    element = world.element("a", b"new")
    result = outcome(begin(world.boot(), request(element), progress))
    expected = ["BEGINUPDATE", "DOWNLOADFILE", "BEGININSTALL", "ENDINSTALL", "ENDUPDATE"]
    assert names(result) == expected
    assert result.result_code is ResultCode.SUCCESSFUL
    told = [[step.name for step in steps] for steps in progress.told]
    for count in range(1, 6):
        assert expected[:count] in told
    assert all(step.timestamp_ms for step in result.steps)
    assert (world.root / "a").read_bytes() == b"new"


def test_files_are_replaced_with_their_mode_and_nothing_is_left(world: World) -> None:
    """A file keeps its mode; no backup, download or temporary file stays behind."""
    (world.root / "a").write_bytes(b"old")
    (world.root / "a").chmod(0o750)
    (world.root / "gone").write_bytes(b"old")
    result = run(
        world,
        world.element("a", b"new"),
        world.element("deep/er/b", b"b"),
        world.element("gone", None),
    )
    assert result.result_code is ResultCode.SUCCESSFUL
    assert (world.root / "a").stat().st_mode & 0o777 == 0o750
    assert {name for name in world.tree() if name.startswith("root")} == {
        "root/a",
        "root/deep",
        "root/deep/er",
        "root/deep/er/b",
    }
    assert list((world.record / "downloads").iterdir()) == []


def test_a_directory_is_replaced_as_a_whole(world: World) -> None:
    """What the archive does not hold is gone, and programs stay executable."""
    (world.root / "app").mkdir()
    (world.root / "app" / "stale").write_bytes(b"x")
    result = run(world, world.element("app/", archive({"bin/run": b"#!", "./data": b"d"})))
    assert result.result_code is ResultCode.SUCCESSFUL, result
    assert {name for name in world.tree() if name.startswith("root")} == {
        "root/app",
        "root/app/bin",
        "root/app/bin/run",
        "root/app/data",
    }
    assert (world.root / "app/bin/run").stat().st_mode & 0o111


def test_elements_are_installed_by_their_order(world: World) -> None:
    """``order`` decides, not the place in the list."""
    result = run(
        world,
        world.element("last", b"1", order=9),
        world.element("first", b"2", order=1),
    )
    begun = [step.description for step in result.steps or () if step.name == "BEGININSTALL"]
    assert begun == ["first 2: install", "last 2: install"]


def test_a_failure_takes_back_what_was_installed(world: World) -> None:
    """Nothing of an update stays when its last element can't be installed."""
    (world.root / "a").write_bytes(b"old")
    before = world.tree()
    result = run(
        world,
        world.element("a", b"new"),
        world.element("new/b", b"b"),
        world.element("c/", b"no archive"),
    )
    assert result.result_code is ResultCode.ERROR_PROCESSING
    assert "c 2: it is no tar archive" in (result.description or "")
    assert names(result)[-2:] == ["ENDINSTALL", "ENDUPDATE"]
    assert [step.result for step in (result.steps or ())[-2:]] == [StepResult.ERROR] * 2
    assert "rolled back" in str((result.steps or ())[-1].description)
    assert world.tree() == before


def test_without_a_confirmation_everything_is_rolled_back(world: World) -> None:
    """An agent that is not connected and acknowledged within ``updateConfirm`` has the old files
    again, and says why."""
    (world.root / "a").write_bytes(b"old")
    world.is_connected = False
    answer = begin(world.boot(), request(world.element("a", b"new")), Progress())
    world.clock.pump([1.0] * 299)
    assert (world.root / "a").read_bytes() == b"new"
    assert not answer.called
    world.clock.pump([1.0] * 2)
    result = outcome(answer)
    assert result.result_code is ResultCode.ERROR_PROCESSING
    assert "updateConfirm (300 s)" in result.description
    assert (world.root / "a").read_bytes() == b"old"
    assert world.clock.getDelayedCalls() == []


def test_a_late_confirmation_counts(world: World) -> None:
    """The agent may take some time to be connected again."""
    world.is_connected = False
    answer = begin(world.boot(), request(world.element("a", b"new")), Progress())
    world.clock.pump([1.0] * 200)
    world.is_connected = True
    world.clock.advance(1.0)
    assert outcome(answer).result_code is ResultCode.SUCCESSFUL


def test_the_time_limit_rolls_back(world: World) -> None:
    """Whoever stops to wait for the answer does not keep the update."""
    (world.root / "a").write_bytes(b"old")
    world.is_connected = False
    answer = begin(world.boot(), request(world.element("a", b"new")), Progress())
    answer.addErrback(lambda _: None)
    answer.cancel()
    assert (world.root / "a").read_bytes() == b"old"
    assert world.clock.getDelayedCalls() == []


def test_one_at_a_time(world: World) -> None:
    """A second UPDATE is refused while one runs; afterwards it is not."""
    update = world.boot()
    element = world.element("a", b"new")
    held = world.downloads.held[element["downloadUrl"]] = Deferred()
    first = begin(update, request(element), Progress())
    with pytest.raises(OperationFailed, match="another UPDATE is running"):
        outcome(begin(update, request(world.element("b", b"b")), Progress()))
    held.callback(None)
    assert outcome(first).result_code is ResultCode.SUCCESSFUL
    second = begin(update, request(world.element("b", b"b")), Progress())
    assert outcome(second).result_code is ResultCode.SUCCESSFUL


def test_without_a_record_nothing_is_begun(world: World) -> None:
    """With ``outbox=memory`` a restart would lose the answer: the update is refused."""
    update, asked = world.boot(), request(world.element("a", b"n"))
    with pytest.raises(OperationFailed, match="can't be recorded"):
        outcome(begin(update, asked, Progress(is_durable=False)))
    assert not (world.root / "a").exists()
    assert outcome(begin(update, asked, Progress())).result_code is ResultCode.SUCCESSFUL


# -- refusals --------------------------------------------------------------------------------------


def test_it_is_off_without_the_keys(tmp_path: Path) -> None:
    """NOT_SUPPORTED names the keys that would allow it."""
    world = World(tmp_path)
    (world.conf / UPDATE_FILE).write_text("")
    with pytest.raises(OperationNotSupported, match="updateRoots, updateConfiguration or pack"):
        outcome(begin(world.boot(), request(world.element("a", b"new")), Progress()))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"path": "/etc/passwd"}, "updateRoots"),
        ({"path": ""}, "packageInstall"),
        ({"downloadUrl": "http://elsewhere.example/x"}, "updateHosts"),
        ({"type": "RULE", "path": ""}, "needs a path"),
        ({"type": "CONFIGURATION", "path": UPDATE_FILE}, "never replaces"),
    ],
)
def test_a_refusal_names_the_key(world: World, change: dict[str, Any], key: str) -> None:
    """What the configuration does not allow is NOT_SUPPORTED, before anything is downloaded."""
    before = world.tree()
    with pytest.raises(OperationNotSupported, match=key):
        run(world, {**world.element("a", b"new"), **change})
    assert world.downloads.fetched == []
    assert world.tree() == before


def test_a_device_behind_the_agent_is_not_updated(world: World) -> None:
    """The files of this machine are none of another device's."""
    asked = request(world.element("a", b"n"))
    other = type(asked)(id="1", name="UPDATE", device_id="child", parameters=asked.parameters)
    with pytest.raises(OperationNotSupported, match="this device only"):
        outcome(begin(world.boot(), other, Progress()))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a//b", "./a", ".oda-old-a", "a\nb"])
def test_paths_that_lead_anywhere_are_refused(world: World, path: str) -> None:
    """No path leaves a root, and none takes a name of the agent's own."""
    with pytest.raises(InvalidParameter, match="path"):
        run(world, world.element(path, b"new", name="n"))


@pytest.mark.parametrize("link", ["a", "dir"])
def test_links_are_not_followed(world: World, tmp_path: Path, link: str) -> None:
    """A link in a root leads nowhere, whether it is the place or on the way."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").write_bytes(b"precious")
    (world.root / "a").symlink_to(outside / "b")
    (world.root / "dir").symlink_to(outside)
    path = "a" if link == "a" else "dir/b"
    with pytest.raises(OperationFailed):
        run(world, world.element(path, b"new"))
    assert (outside / "b").read_bytes() == b"precious"


def test_elements_within_each_other_are_refused(world: World) -> None:
    """The backup of one would hold the other."""
    result = run(
        world, world.element("app/", archive({"a": b"a"})), world.element("app/a", b"b", name="n")
    )
    assert "one within the other" in (result.description or "")


def test_removing_what_is_not_there_fails(world: World) -> None:
    """The platform's idea of the device is wrong: it has to hear of that."""
    with pytest.raises(OperationFailed, match="does not exist"):
        run(world, world.element("a", None))


# -- what was downloaded ---------------------------------------------------------------------------


def test_a_wrong_digest_installs_nothing(world: World) -> None:
    """Every validator has to hold."""
    right = {"type": "SHA-256", "value": hashlib.sha256(b"new").hexdigest()}
    wrong = {"type": "md5", "value": "0" * 32}
    assert run(world, world.element("a", b"new", validators=[right])).result_code is (
        ResultCode.SUCCESSFUL
    )
    result = run(world, world.element("a", b"new", validators=[right, wrong], version="3"))
    assert result.description == "a 3: the file's MD5 is not that of the request"
    assert names(result) == ["BEGINUPDATE", "DOWNLOADFILE", "ENDUPDATE"]


def test_a_failed_download_is_told(world: World) -> None:
    """The step says which element, and why."""
    element = {**world.element("a", b"new"), "downloadUrl": "http://localhost/none"}
    result = run(world, element)
    assert result.description == "a 2: the server answered 404"
    assert world.tree().keys() & {"root/a"} == set()


def test_size_is_exact(world: World) -> None:
    """A file of another length is another file."""
    result = run(world, world.element("a", b"new", size=4))
    assert "size says 4" in (result.description or "")


def test_an_update_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """``updateMaxBytes`` is for all files of an update together."""
    world = World(tmp_path, "updateMaxBytes=1024\n")
    result = run(world, world.element("a", b"x" * 600), world.element("b", b"x" * 600))
    assert "too large" in (result.description or "")
    assert not (world.root / "a").exists()


# -- configuration ---------------------------------------------------------------------------------


def config(world: World, text: str | None, name: str = POLLER) -> dict[str, Any]:
    data = None if text is None else text.encode()
    return world.element(name, data, type="CONFIGURATION")


def test_a_configuration_is_in_force(world: World) -> None:
    """The agent has read the new file when the answer is given."""
    assert run(world, config(world, "b=30\n")).result_code is ResultCode.SUCCESSFUL
    assert world.in_force.poller.schedules[0].datastream_id == "b"


def test_a_new_configuration_file_is_private(world: World) -> None:
    """It may hold a secret."""
    run(world, config(world, "maxData=1\n", "statemanager.inmemory"))
    new = world.conf / "es.amplia.oda.statemanager.inmemory.cfg"
    assert new.stat().st_mode & 0o777 == 0o600


def test_a_faulty_configuration_is_never_in_its_place(world: World) -> None:
    """All files are judged together before one of them is touched."""
    before = world.tree()
    result = run(world, config(world, "b=30\n"), config(world, "kind=x\n", "statemanager.inmemory"))
    assert result.result_code is ResultCode.SUCCESSFUL  # a key of another version is a warning
    (world.conf / POLLER).write_text("a=60\n")
    (world.conf / "es.amplia.oda.statemanager.inmemory.cfg").unlink()
    result = run(
        world, config(world, "b=30\n"), config(world, "maxData=-1\n", "statemanager.inmemory")
    )
    assert "the configuration would have faults" in (result.description or "")
    assert "maxData" in (result.description or "")
    assert world.tree() == before


def test_a_configuration_that_the_agent_cannot_follow_is_taken_back(world: World) -> None:
    """What loads need not be usable: the plugin may be missing."""
    update = world.boot()
    before = world.in_force
    world.follows = False
    result = outcome(begin(update, request(config(world, "b=30\n")), Progress()))
    assert "can't apply the new configuration" in result.description
    assert (world.conf / POLLER).read_text() == "a=60\n"
    assert world.in_force == before


def test_only_named_files_are_replaced(tmp_path: Path) -> None:
    """``updateConfiguration`` is a list of what the platform may configure."""
    world = World(tmp_path)
    (world.conf / UPDATE_FILE).write_text(
        f"updateConfiguration=subsystem.poller\nupdateDirectory={world.record}\n"
    )
    assert run(world, config(world, "b=30\n")).result_code is ResultCode.SUCCESSFUL
    with pytest.raises(OperationNotSupported, match="updateConfiguration does not name"):
        run(world, config(world, "deviceId=evil\napiKey=k\n", "datastreams.deviceinfo"))


# -- restarts --------------------------------------------------------------------------------------


def test_a_stop_in_good_order_goes_on_waiting(world: World) -> None:
    """A restart while the confirmation is waited for is none of a crash: the next process waits."""
    world.is_connected = False
    asked, progress = request(world.element("a", b"new")), Progress()
    update = world.boot()
    first = begin(update, asked, progress)
    first.addErrback(lambda _: None)
    update.stop()
    first.cancel()
    update = world.boot()
    again = resume(update, asked, progress)
    world.clock.pump([1.0] * 5)
    assert not again.called
    world.is_connected = True
    world.clock.advance(1.0)
    result = outcome(again)
    assert result.result_code is ResultCode.SUCCESSFUL
    assert names(result).count("ENDUPDATE") == 1
    assert (world.root / "a").read_bytes() == b"new"


def test_a_crash_after_such_a_stop_rolls_back(world: World) -> None:
    """The process that goes on waiting is not given another chance."""
    world.is_connected = False
    (world.root / "a").write_bytes(b"old")
    asked, progress = request(world.element("a", b"new")), Progress()
    update = world.boot()
    begin(update, asked, progress).addErrback(lambda _: None)
    update.stop()
    crashed = world.boot()
    world.kill(crashed)
    result = outcome(resume(world.boot(), asked, progress))
    assert result.result_code is ResultCode.ERROR_PROCESSING
    assert (world.root / "a").read_bytes() == b"old"


def test_what_could_not_be_taken_back_is_tried_again(world: World) -> None:
    """A rollback that fails says so, keeps its backups, and is repeated by the next process."""
    (world.root / "a").write_bytes(b"old")
    (world.root / "d").mkdir()
    world.is_connected = False
    update = world.boot()
    asked = request(world.element("a", b"new"), world.element("d/b", b"b"))
    answer = begin(update, asked, Progress())
    (world.root / "d").rename(world.root / "hidden")
    (world.root / "d").symlink_to("/nowhere")
    world.clock.pump([1.0] * 301)
    result = outcome(answer)
    assert "could not be rolled back: d-b 2" in result.description
    assert (world.root / "a").read_bytes() == b"old"
    (world.root / "d").unlink()
    (world.root / "hidden").rename(world.root / "d")
    world.kill(update)
    world.boot()
    assert sorted(path.name for path in world.root.rglob("*")) == ["a", "d"]


def test_files_are_back_before_the_agent_loads_anything(world: World) -> None:
    """What an unfinished update has installed may be what keeps the agent from starting."""
    (world.root / "plugin.py").write_bytes(b"old")
    world.is_connected = False
    update = world.boot()
    asked = request(world.element("plugin.py", b"new"), world.element("app/", archive({"a": b"a"})))
    begin(update, asked, Progress()).addErrback(lambda _: None)
    assert (world.root / "plugin.py").read_bytes() == b"new"
    world.kill(update)
    assert recover_files(world.conf) is None
    assert (world.root / "plugin.py").read_bytes() == b"old"
    assert not (world.root / "app").exists()


def test_a_directory_that_is_swapped_leads_nowhere(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write into a root can't have an archive unpacked somewhere else, whatever he puts
    there while the agent unpacks."""
    outside = tmp_path / "outside"
    outside.mkdir()
    extract_members = trees._extract_members

    def swapped(*arguments: Any) -> None:
        (world.root / ".oda-new-app").rename(world.root / "away")
        (world.root / ".oda-new-app").symlink_to(outside)
        extract_members(*arguments)

    monkeypatch.setattr(trees, "_extract_members", swapped)
    run(world, world.element("app/", archive({"a": b"1", "d/b": b"2"})))
    assert list(outside.iterdir()) == []


def test_a_rollback_without_its_backup_says_so(world: World) -> None:
    """What is not there, and has no backup any more, is not as before."""
    (world.root / "a").write_bytes(b"old")
    world.is_connected = False
    answer = begin(world.boot(), request(world.element("a", None)), Progress())
    (world.root / ".oda-old-a").unlink()
    world.clock.pump([1.0] * 301)
    assert "could not be rolled back: a 2" in outcome(answer).description


def test_a_rollback_without_its_root_is_tried_again(world: World) -> None:
    """After a power failure a root may be a file system that is not there yet: the new file on it
    is removed once it is."""
    world.is_connected = False
    asked, progress = request(world.element("a", b"new")), Progress()
    update = world.boot()
    begin(update, asked, progress).addErrback(lambda _: None)
    world.kill(update)
    world.root.rename(world.directory / "unplugged")
    update = world.boot()
    assert "could not be rolled back" in outcome(resume(update, asked, progress)).description
    world.kill(update)
    (world.directory / "unplugged").rename(world.root)
    world.boot()
    assert list(world.root.iterdir()) == []


def test_what_was_restored_is_not_touched_again(world: World) -> None:
    """An element that is as before is no part of what later processes try again."""
    (world.root / "a").write_bytes(b"old")
    (world.root / "d").mkdir()
    world.is_connected = False
    update = world.boot()
    asked = request(
        world.element("a", b"new"), world.element("n", b"new"), world.element("d/b", b"b")
    )
    begin(update, asked, Progress())
    (world.root / "d").rename(world.root / "hidden")
    (world.root / "d").symlink_to("/nowhere")
    world.clock.pump([1.0] * 301)
    (world.root / "a").unlink()
    (world.root / "n").write_bytes(b"mine")
    (world.root / "d").unlink()
    (world.root / "hidden").rename(world.root / "d")
    world.kill(update)
    world.boot()
    assert sorted(path.name for path in world.root.rglob("*")) == ["d", "n"]
    assert not list((world.record / "downloads").iterdir())


def test_an_update_that_nobody_knows_is_not_told_as_unchanged(world: World) -> None:
    """Where the record can't be read at the start, files may be changed: the answer says why it is
    not known."""
    world.is_connected = False
    asked, progress = request(world.element("a", b"new")), Progress()
    update = world.boot()
    begin(update, asked, progress).addErrback(lambda _: None)
    world.kill(update)
    (world.record / "update.json").write_bytes(b"{")
    with pytest.raises(OperationFailed, match="nobody knows how far the update is: the record"):
        outcome(resume(world.boot(), asked, progress))


def test_no_half_of_a_configuration_is_read(world: World) -> None:
    """Between two files of the configuration the agent follows no change of its directory; after
    the last one it reads all of them."""
    seen: list[tuple[bool, str]] = []

    @implementer(IInstaller)
    class Looking(FileInstaller):
        name = "looking"

        def claims(self, element: DeploymentElement) -> bool:
            return element.name == "look"

        def install(self, *arguments: Any) -> Any:
            seen.append((update.is_changing_configuration, (world.conf / POLLER).read_text()))
            return super().install(*arguments)

    world.installers.append(Looking(lambda: (world.root,), lambda: 100, maybeDeferred))
    update = world.boot()
    asked = request(
        config(world, "b=30\n"),
        world.element("x", b"x", name="look"),
        config(world, "maxData=7\n", "statemanager.inmemory"),
    )
    result = outcome(begin(update, asked, Progress()))
    assert result.result_code is ResultCode.SUCCESSFUL, result
    assert seen == [(True, "b=30\n")]
    assert not update.is_changing_configuration


def test_two_writers_of_a_record(tmp_path: Path) -> None:
    """The end of the agent writes while a thread may write: none of the two fails."""
    directory = UpdateDirectory(tmp_path)
    record = Record("token", [])
    faults: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(100):
                directory.write(record)
        except OSError as error:
            faults.append(error)

    threads = [Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert directory.read() == record


def test_a_note_that_can_not_be_written_is_a_failure_as_any_other(world: World) -> None:
    """What a plugin notes for its rollback has to be plain data; otherwise nothing is changed, and
    the answer is complete."""

    @implementer(IInstaller)
    class Noting(FileInstaller):
        name = "noting"

        def claims(self, element: DeploymentElement) -> bool:
            return element.name == "note"

        def backup(self, element: DeploymentElement) -> Any:
            return super().backup(element).addCallback(lambda note: {**note, "more": object()})

    world.installers.append(Noting(lambda: (world.root,), lambda: 100, maybeDeferred))
    (world.root / "a").write_bytes(b"old")
    result = run(world, world.element("a", b"new", name="note"))
    assert result.result_code is ResultCode.ERROR_PROCESSING
    assert names(result)[-1] == "ENDUPDATE"
    assert (world.root / "a").read_bytes() == b"old"
    assert run(world, world.element("b", b"new")).result_code is ResultCode.SUCCESSFUL


def test_steps_that_can_not_be_sent_do_not_end_the_waiting(world: World) -> None:
    """After a restart, too, the update does not depend on who hears of its steps: there are more of
    them than maxMessageSize allows, and the final answer still tells the truth."""
    world.is_connected = False
    asked, progress = request(world.element("a", b"new")), Progress()
    update = world.boot()
    begin(update, asked, progress).addErrback(lambda _: None)
    update.stop()

    @implementer(IProgress)
    class Full(Progress):
        def __call__(self, steps: Any) -> None:
            raise OperationFailed("the steps have 5000 bytes; maxMessageSize is 4096")

    full = Full()
    full.saved = progress.saved
    answer = resume(world.boot(), asked, full)
    world.is_connected = True
    world.clock.pump([1.0] * 3)
    assert outcome(answer).result_code is ResultCode.SUCCESSFUL


def test_one_file_of_the_configuration_is_one_element(world: World) -> None:
    """It may be named in two ways: by its file, and by what is special in that."""
    whole = world.element(POLLER, b"b=30\n", type="CONFIGURATION")
    short = world.element("subsystem.poller", b"c=30\n", type="CONFIGURATION")
    assert "two elements are one file" in (run(world, whole, short).description or "")
    assert (world.conf / POLLER).read_text() == "a=60\n"
