"""A running agent follows its configuration directory, touching only what changed."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent, globalLogPublisher

from oda.agent import Agent
from oda.assembly import build_parts
from oda.config.loader import load
from oda.interfaces import ICounters, IWallClock
from oda.model import Event, LinkState, OperationResult
from oda.outbox.outbox import Outbox, make_outbox
from oda.outbox.worker import InlineWorker
from oda.reload import ReloadService, files_of
from oda.settings import AgentSettings, PluginSettings
from tests.datastreams.fakes import FakeGetter
from tests.operations.fakes import FakeOperation
from tests.wire.certificates import Authority

#: The long form (10,000 reloads, about two minutes) is asked for by this variable.
RELOADS = int(os.environ.get("ODA_TEST_RELOADS", "100"))


@contextmanager
def _errors() -> Iterator[list[str]]:
    """The error lines of the log meanwhile."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_level") is LogLevel.error:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)


def _make_outbox(
    settings: AgentSettings, reactor: Any, wall_clock: IWallClock, counters: ICounters
) -> Outbox:
    return make_outbox(settings.outbox, reactor, wall_clock, counters, InlineWorker())


CONNECTOR = "outbox=memory\nhost=127.0.0.1\nport={port}\npath=p\nkeepAliveInterval={keep}\n"


class ThreadsafeClock(MemoryReactorClock):
    """A memory reactor that takes calls from other threads (and signal handlers)."""

    def callFromThread(self, call: Callable[..., object], *arguments: Any) -> None:
        self.callLater(0, call, *arguments)


class Directory:
    """A configuration directory and an agent that runs with it, on a clock."""

    def __init__(self, path: Path, connector: str = CONNECTOR) -> None:
        self.path = path
        self.write("connector.websocket", connector.format(port=9000, keep=180))
        self.write("datastreams.deviceinfo", "deviceId=dev-1\napiKey=k\n")
        self.write("subsystem.poller", "device.upTime=5\ndevice.cpu.total=0;0\n")
        self.reactor = ThreadsafeClock()
        self.agent = Agent(
            load(path, {}).settings,
            reactor=self.reactor,
            environ={},
            assemble=partial(build_parts, make_outbox=_make_outbox),
        )
        self.signals: list[Any] = []
        self.reload = ReloadService(
            self.agent,
            path,
            {},
            self.reactor,
            install_signal=lambda number, handler: self.signals.append(handler),
        )
        self.reload.setServiceParent(self.agent)
        self.agent.startService()
        self.reactor.advance(0)

    def write(self, component: str, text: str) -> None:
        (self.path / f"es.amplia.oda.{component}.cfg").write_text(text)

    def attempts(self) -> int:
        """How many TCP connections were begun."""
        return len(self.reactor.tcpClients)

    def stop(self) -> None:
        stopped: list[Any] = []
        self.agent.stopService().addBoth(stopped.append)
        for _ in range(3):
            self.reactor.advance(0)
        assert stopped == [None]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_an_update_that_replaces_the_configuration_is_not_disturbed(directory: Directory) -> None:
    """Neither the watcher nor SIGHUP reads files that are half old and half new; the update has
    them read."""
    installer = directory.agent.update.installers.named("configuration")
    installer.is_changing = True
    before = directory.agent.settings
    directory.write("subsystem.poller", "device.upTime=7\n")
    directory.signals[0]()
    directory.reactor.pump([2.0] * 4)
    assert directory.agent.settings is before
    directory.reload.reload()
    assert directory.agent.settings.poller != before.poller
    directory.stop()


def test_a_poller_line_leaves_the_connection_alone(directory: Directory) -> None:
    """Only what changed restarts."""
    directory.write("subsystem.poller", "device.upTime=7\n")
    directory.reload.reload()
    directory.reactor.advance(0)
    (schedule,) = directory.agent.settings.poller.schedules
    assert schedule.period_s == 7.0
    assert directory.attempts() == 1
    directory.stop()


def test_operations_by_script_come_and_go_while_the_agent_runs(directory: Directory) -> None:
    """The connection stays, and what is gone is refused again."""
    operations = directory.agent.parts.operations
    assert operations is not None
    usual = operations.operation_names
    assert "DISCOVER" in usual
    directory.write(
        "operations.scripts",
        "path=ops\nscriptTimeout=7\nrebootCommand=reboot-it\nPUMP=pump.sh\nRESET=r.sh;REBOOTS\n",
    )
    directory.reload.reload()
    directory.reactor.advance(0)
    assert operations.operation_names == sorted([*usual, "PUMP", "REBOOT_EQUIPMENT", "RESET"])
    scripts = directory.agent.parts.scripts
    assert (str(scripts.scripts_directory), scripts.timeout_s) == ("ops", 7.0)
    directory.write("operations.scripts", "PUMP=other.sh\n")
    directory.reload.reload()
    directory.reactor.advance(0)
    assert operations.operation_names == sorted([*usual, "PUMP"])
    assert scripts.scripts_directory is None
    directory.write("datastreams.deviceinfo", "deviceId=dev-1\napiKey=k\npath=shared\n")
    directory.reload.reload()
    directory.reactor.advance(0)
    assert str(scripts.scripts_directory) == "shared"
    assert directory.attempts() == 1
    directory.stop()


def test_a_script_for_an_operation_of_a_plugin_is_refused(directory: Directory) -> None:
    """The reload as a whole: the agent goes on as before."""
    directory.agent.add(FakeOperation("PUMP", lambda request, progress: OperationResult()))
    directory.write("operations.scripts", "PUMP=pump.sh\nOTHER=other.sh\n")
    directory.write("subsystem.poller", "device.upTime=7\n")
    with _errors() as errors:
        directory.reload.reload()
        directory.reactor.advance(0)
    assert any("the operation PUMP is handled twice" in line for line in errors)
    operations = directory.agent.parts.operations
    assert operations is not None
    assert "OTHER" not in operations.operation_names
    assert len(directory.agent.settings.poller.schedules) == 2
    directory.stop()


def test_a_renewed_certificate_makes_a_new_connection(tmp_path: Path) -> None:
    """The path stays, the content changes: the connection is made anew, once."""
    Authority(tmp_path, "ca")
    world = Directory(tmp_path)
    world.write(
        "connector.websocket",
        CONNECTOR.format(port=9000, keep=180) + "secure=true\ncaFile=ca.pem\n",
    )
    world.reload.reload()
    world.reactor.advance(0)
    before = world.attempts() + len(world.reactor.sslClients)
    world.reload.reload()
    world.reactor.advance(0)
    assert world.attempts() + len(world.reactor.sslClients) == before
    Authority(tmp_path, "ca")
    world.reload.reload()
    world.reload.reload()
    world.reactor.advance(0)
    assert world.attempts() + len(world.reactor.sslClients) == before + 1
    world.stop()


def test_a_renewed_certificate_waits_for_its_key(tmp_path: Path) -> None:
    """Of the two files one is always written first: the connection is not given up for a pair that
    doesn't belong together, and is made anew once it does."""
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("device", "device")
    world = Directory(tmp_path)
    world.write(
        "connector.websocket",
        CONNECTOR.format(port=9000, keep=180)
        + f"secure=true\ncaFile=ca.pem\ncertFile={certificate}\nkeyFile={key}\n",
    )
    world.reload.reload()
    world.reactor.advance(0)
    before = world.attempts() + len(world.reactor.sslClients)
    assert world.agent.parts.connector.status().state is LinkState.CONNECTING
    renewed, its_key = authority.issue("renewed", "device")
    certificate.write_bytes(renewed.read_bytes())
    with _errors() as errors:
        world.reload.reload()
        world.reactor.advance(0)
    assert world.attempts() + len(world.reactor.sslClients) == before
    assert world.agent.parts.connector.status().state is LinkState.CONNECTING
    assert any("can't be used together" in line for line in errors)
    key.write_bytes(its_key.read_bytes())
    world.reload.reload()
    world.reactor.advance(0)
    assert world.attempts() + len(world.reactor.sslClients) == before + 1
    world.stop()


def test_a_key_and_its_passphrase_are_renewed_one_after_the_other(tmp_path: Path) -> None:
    """A key that is encrypted anew waits for its new passphrase: the connection stays until the
    file with the passphrase is written as well."""
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("device", "device", passphrase="one")
    (tmp_path / "passphrase").write_text("one\n")
    world = Directory(tmp_path)
    world.write(
        "connector.websocket",
        CONNECTOR.format(port=9000, keep=180)
        + f"secure=true\ncaFile=ca.pem\ncertFile={certificate}\nkeyFile={key}\n"
        + "keyPassphraseFile=passphrase\n",
    )
    world.reload.reload()
    world.reactor.advance(0)
    before = world.attempts() + len(world.reactor.sslClients)
    assert world.agent.parts.connector.status().state is LinkState.CONNECTING
    authority.issue("device", "device", passphrase="two")
    with _errors() as errors:
        world.reload.reload()
        world.reactor.advance(0)
    assert world.attempts() + len(world.reactor.sslClients) == before
    assert any("can't be decrypted" in line for line in errors)
    (tmp_path / "passphrase").write_text("two\n")
    world.reload.reload()
    world.reactor.advance(0)
    assert world.attempts() + len(world.reactor.sslClients) == before + 1
    assert tmp_path / "passphrase" in files_of(world.agent.settings)
    world.stop()


def test_another_address_makes_a_new_connection(directory: Directory) -> None:
    """Host, port, path, TLS and identity are what a connection is made of."""
    directory.write("connector.websocket", CONNECTOR.format(port=9001, keep=180))
    directory.reload.reload()
    directory.reactor.advance(0)
    assert [client[1] for client in directory.reactor.tcpClients] == [9000, 9001]
    directory.stop()


def test_a_faulty_file_keeps_the_old_settings_and_names_every_fault(directory: Directory) -> None:
    """The agent goes on as before; each fault is one line with file, line and key."""
    before = directory.agent.settings
    directory.write("connector.websocket", "host=h\npath=p\nport=x\nhosst=h\n")
    with _errors() as errors:
        directory.reload.reload()
    assert directory.agent.settings is before
    assert any(":3: port: " in line for line in errors)
    assert any(":4: hosst: " in line for line in errors)
    directory.stop()


def test_a_plugin_that_is_not_installed_changes_nothing(directory: Directory) -> None:
    """What can't be applied as a whole is not applied in part."""
    before = directory.agent.settings
    directory.write("subsystem.poller", "device.upTime=9\n")
    directory.write("plugins", "plugins=no-such-plugin\n")
    with _errors() as errors:
        directory.reload.reload()
    assert directory.agent.settings is before
    assert any("no-such-plugin" in line for line in errors)
    directory.stop()


def test_what_a_plugin_brings_that_cannot_be_used_costs_nothing_else(directory: Directory) -> None:
    """By the time a new plugin's objects are put in their places the new settings are in force:
    one that can't be used, or can't be removed later, is told, and the others come and go."""
    agent = directory.agent
    registry = agent.parts.host.registry
    agent.add(FakeGetter("taken"))
    good, later = FakeGetter("good"), FakeGetter("later")
    with _errors() as errors:
        agent.exchange_plugins((), {"bus": [FakeGetter("taken"), good, object(), later]})
    assert registry.getters("good", "") == [("", good)]
    assert registry.getters("later", "") == [("", later)]
    assert [line.partition(":")[0] for line in errors] == ["plugin bus"] * 2
    agent.exchange_plugins([PluginSettings(name="bus", options={})], {})
    assert registry.getters("good", "") == registry.getters("later", "") == []
    directory.stop()


def test_a_removed_file_means_its_defaults_and_a_new_one_is_taken_up(
    directory: Directory, tmp_path: Path
) -> None:
    """The poller's file goes: nothing is polled. The state manager's comes: values are kept."""
    (directory.path / "es.amplia.oda.subsystem.poller.cfg").unlink()
    directory.write("statemanager.inmemory", "maxData=10\nforgetTime=60\nforgetPeriod=10\n")
    directory.reload.reload()
    assert directory.agent.settings.poller.schedules == ()
    assert type(directory.agent.parts.state).__name__ == "InMemoryStateManager"
    (directory.path / "es.amplia.oda.statemanager.inmemory.cfg").unlink()
    directory.reload.reload()
    assert type(directory.agent.parts.state).__name__ == "RealtimeStateManager"
    directory.stop()


def test_a_reload_keeps_what_the_state_manager_has_kept(directory: Directory) -> None:
    """Other settings of the state manager leave its values, and the rhythm of the collector; when
    its file goes, everything that was not published is published."""
    directory.write("subsystem.poller", "")
    state = "maxData={most}\nforgetTime={age}\nforgetPeriod=10\n{path}"
    directory.write("statemanager.inmemory", state.format(most=100, age=600, path=""))
    directory.reload.reload()
    agent = directory.agent
    before = agent.counters.count("events_accepted")
    received = [agent.parts.state.received([Event("t", n)]) for n in range(11)]
    for most, age, path in (
        (50, 600, ""),
        (50, 700, f"databasePath={directory.path / 'state.db'}\n"),
        (20, 500, ""),
    ):
        directory.write("statemanager.inmemory", state.format(most=most, age=age, path=path))
        directory.reload.reload()
        directory.reactor.advance(0)
    assert all(done.called for done in received)
    assert agent.counters.count("events_accepted") == before
    (directory.path / "es.amplia.oda.statemanager.inmemory.cfg").unlink()
    directory.reload.reload()
    agent.parts.identified("dev-1")
    for _ in range(3):
        directory.reactor.advance(0.1)
    assert agent.counters.count("events_accepted") == before + 11
    assert agent.counters.count("values_forgotten_unpublished") == 0
    directory.stop()


def test_a_changed_outbox_path_moves_the_outbox(tmp_path: Path) -> None:
    """What waits moves along, for the right time too, and the rest of the settings waits for the
    next start. A file that is there is left alone; what happens to the messages then is said."""
    text = CONNECTOR.replace("outbox=memory", f"outboxPath={tmp_path}/old.sqlite")
    directory = Directory(tmp_path, text)
    directory.agent.publish(Event("t", 1))
    directory.reactor.advance(1.0)
    outbox = directory.agent.parts.outbox
    waiting = outbox.counts()["waiting"]
    assert waiting
    undated = directory.agent.parts.undated
    undated.dating.earliest_ms = 1 << 62  # the clock is wrong from here on
    undated.look()
    directory.agent.publish(Event("t", 1))
    directory.reactor.advance(0)
    assert (tmp_path / "old-undated.sqlite").exists()
    text = text.replace("old.sqlite", "new.sqlite") + "outboxMaxRows=77\n"
    directory.write("connector.websocket", text.format(port=9000, keep=180))
    with capturedLogs() as events:
        directory.reload.reload()
        directory.reactor.advance(0)
    said = [formatEvent(event) for event in events]
    assert f"the outbox is in {tmp_path}/new.sqlite now" in said
    assert "changed outbox settings take effect at the next start of the agent" in said
    assert outbox.path == tmp_path / "new.sqlite"
    assert (tmp_path / "new-undated.sqlite").exists()
    assert not (tmp_path / "old-undated.sqlite").exists()
    assert len(directory.agent.parts.undated) == 1
    assert not (tmp_path / "old.sqlite").exists()
    assert outbox.counts()["waiting"] >= waiting
    (tmp_path / "taken").write_text("mine")
    text = text.replace("new.sqlite", "taken")
    directory.write("connector.websocket", text.format(port=9000, keep=180))
    with _errors() as errors:
        directory.reload.reload()
        directory.reactor.advance(0)
    (error,) = errors
    assert f"{tmp_path}/new.sqlite can't be moved to {tmp_path}/taken" in error
    assert "oda outbox import" in error
    assert (tmp_path / "taken").read_text() == "mine"
    assert outbox.counts()["waiting"] >= waiting
    directory.stop()


def test_a_change_between_file_and_memory_waits_for_the_next_start(tmp_path: Path) -> None:
    """Nothing is moved, and what becomes of the messages is said."""
    text = CONNECTOR.replace("outbox=memory", f"outboxPath={tmp_path}/old.sqlite")
    directory = Directory(tmp_path, text)
    changed = text.replace("old.sqlite", "new.sqlite") + "outbox=memory\n"
    directory.write("connector.websocket", changed.format(port=9000, keep=180))
    with capturedLogs() as events:
        directory.reload.reload()
        directory.reactor.advance(0)
    said = [formatEvent(event) for event in events]
    assert "changed outbox settings take effect at the next start of the agent" in said
    assert any("oda outbox import" in line for line in said)
    assert directory.agent.parts.outbox.path == tmp_path / "old.sqlite"
    directory.stop()


def test_sighup_reloads(directory: Directory) -> None:
    """The signal's handler leaves the work to the reactor."""
    directory.write("subsystem.poller", "device.upTime=7\n")
    handler = directory.signals[0]
    handler()
    directory.reactor.advance(0)
    assert directory.agent.settings.poller.schedules[0].period_s == 7.0
    directory.stop()


def test_sighup_ends_a_pause_before_the_next_attempt(directory: Directory) -> None:
    """Whoever sends it has mended something: the agent connects at once."""
    directory.reactor.advance(31.0)  # the attempt has failed: nobody answered
    waiting = directory.agent.parts.connector.status()
    assert waiting.state is LinkState.WAITING
    attempts = directory.attempts()
    directory.signals[0]()
    directory.reactor.pump([0, 0])
    assert directory.attempts() == attempts + 1
    directory.stop()


def test_a_change_is_noticed_by_looking(directory: Directory) -> None:
    """Without a signal: two looks that agree, and the change is applied."""
    directory.write("subsystem.poller", "device.upTime=7\n")
    for _ in range(3):
        directory.reactor.advance(2.0)
    assert directory.agent.settings.poller.schedules[0].period_s == 7.0
    directory.stop()


def test_many_reloads_leave_nothing_behind(directory: Directory) -> None:
    """However often the configuration changes: no timer, socket or memory is left over."""

    def change(number: int) -> None:
        directory.write(
            "connector.websocket", CONNECTOR.format(port=9000 + number % 3, keep=100 + number % 7)
        )
        directory.write("subsystem.poller", f"device.upTime={1 + number % 5}\na;b={number % 4}\n")
        directory.write("subsystem.collector", f"c={1 + number % 2}\n")
        directory.write("dispatcher.opengate", f"operationTimeout={10 + number % 3}\nd=5\n")
        state = directory.path / "es.amplia.oda.statemanager.inmemory.cfg"
        if number % 2:
            state.write_text("maxData=10\n")
        else:
            state.unlink(missing_ok=True)
        directory.reload.reload()
        directory.reactor.advance(0)
        del directory.reactor.tcpClients[:-1], directory.reactor.connectors[:-1]

    tracemalloc.start()
    for number in range(50):
        change(number)
    timers = len(directory.reactor.getDelayedCalls())
    growth = []
    for _ in range(2):
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(RELOADS // 2):
            change(number)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        growth.append(after - before)
    tracemalloc.stop()
    assert len(directory.reactor.getDelayedCalls()) <= timers + 1
    # A table of the interpreter may double once; what leaks does so in both halves.
    assert min(growth) < 100_000, f"memory grows with each reload: {growth}"
    directory.stop()
    assert directory.reactor.getDelayedCalls() == []
