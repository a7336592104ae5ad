"""``oda demo``: a platform and an agent in one process, real readings, nothing to configure."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError

from oda.agent import Agent
from oda.platform.access import KeyRing
from oda.platform.lines import event_lines
from oda.platform.service import Platform
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    LogLevel,
    MonitorSettings,
    OutboxSettings,
    PollerSettings,
    Schedule,
    Secret,
)

_KEY = "demo-key"
#: What the demo reads once, and what every few seconds.
_ONCE = ("device.serialNumber", "device.cpu.total", "device.ram.total", "device.storage.disk.total")
_OFTEN = ("device.upTime", "device.cpu.usage", "device.cpu.status", "device.ram.usage")


@click.command("demo", short_help="Stand-in platform and agent together.")
@click.option("--device", default="demo-device", show_default=True, help="The device's id.")
@click.option(
    "--every",
    default=3.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds between two readings.",
)
@click.option(
    "--for",
    "seconds",
    default=None,
    type=click.FloatRange(min=0.0),
    help="End after this many seconds instead of waiting for Ctrl-C.",
)
@click.option(
    "--port",
    default=0,
    show_default="a free one",
    type=click.IntRange(0, 65535),
    help="Port for the device.",
)
@click.option(
    "--http-port",
    default=0,
    show_default="a free one",
    type=click.IntRange(0, 65535),
    help="Port of the REST API.",
)
def command(device: str, every: float, seconds: float | None, port: int, http_port: int) -> None:
    """Run the stand-in platform and an agent that sends it real readings of this machine.

    Prints a line for every datapoint that arrives at the platform, and the command that sends an
    operation to the device. Ctrl-C ends it.
    """
    from twisted.internet import reactor

    from oda.commands.running import begin_log

    # Without an observer, Twisted keeps the last 65,536 events in memory.
    log = begin_log(MonitorSettings(log_level=LogLevel.WARN))
    demo = Demo(reactor, device, every, port, http_port)
    try:
        demo.start()
    except CannotListenError as error:
        raise click.ClickException(f"port {error.port} is taken") from None
    if seconds is not None:
        reactor.callLater(seconds, reactor.stop)
    reactor.addSystemEventTrigger("before", "shutdown", demo.stop)
    reactor.run()
    log.flush(everything=True)


class Demo:
    """The two services, and a line for each datapoint."""

    def __init__(
        self, reactor: Any, device: str, every_s: float, port: int, http_port: int
    ) -> None:
        self._device = device
        # the first lines are printed before the reactor runs
        self._printer = _Printer(lambda: reactor.callWhenRunning(reactor.stop))
        self._directory = TemporaryDirectory(prefix="oda-demo-")
        self._every_s = every_s
        self._reactor = reactor
        self.platform = Platform(reactor, port=port, http_port=http_port, keys=KeyRing(key=_KEY))
        self.agent: Agent | None = None
        self._services = MultiService()
        self._seen = 0
        self._forget: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start both; raises ``CannotListenError`` when a port is in use."""
        self.platform.startService()
        self.agent = Agent(self._settings(), reactor=self._reactor)
        self._forget = self.platform.events.subscribe(self._look)
        self._printer.say(f"platform  {self.platform.url}/<device id>, key {_KEY}")
        self._printer.say(f"console   {self.platform.http_url}/")
        self._printer.say("try this  " + self._example())
        self._printer.say("Ctrl-C ends the demo.\n")
        self.agent.startService()

    def stop(self) -> Any:
        """Stop the agent, then the platform."""
        self._forget()
        if self.agent is None:
            return None
        stopped = maybeDeferred(self.agent.stopService)
        stopped.addCallback(lambda _: self.platform.stopService())
        stopped.addCallback(lambda _: self._directory.cleanup())
        return stopped

    def _settings(self) -> AgentSettings:
        once = [Schedule(datastream_id=name, first_s=0.0, period_s=0.0) for name in _ONCE]
        often = [
            Schedule(datastream_id=name, first_s=0.0, period_s=self._every_s) for name in _OFTEN
        ]
        return AgentSettings(
            connector=ConnectorSettings(
                host="127.0.0.1", port=self.platform.port, path=self.platform.path
            ),
            outbox=OutboxSettings(path=Path(self._directory.name) / "outbox.sqlite"),
            device_info=DeviceInfoSettings(device_id=self._device, api_key=Secret(_KEY)),
            poller=PollerSettings(schedules=(*once, *often)),
        )

    def _example(self) -> str:
        parameters = shlex.quote('{"variableList": ["device.ram.usage"]}')
        order = f"{shlex.quote(self._device)} GET_DEVICE_PARAMETERS {parameters}"
        # The command that started this process also works in the reader's shell.
        program = sys.argv[0] if Path(sys.argv[0]).name == "oda" else "oda"
        return f"{program} platform send {order} --api {self.platform.http_url}"

    def _look(self) -> None:
        _, events = self.platform.events.after(self._seen, 1000)
        for event in events:
            self._seen = event.number
            for line in event_lines(event.kind, msgspec.json.decode(event.data)):
                self._printer.say(f"{_now()}  {line}")


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


class _Printer:
    """Prints lines until the reader of the output is gone; then calls ``gone``, once."""

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone: Callable[[], None] | None = gone

    def say(self, line: str) -> None:
        """Print one line at once."""
        if self._gone is None:
            return
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:  # "oda demo | head" has ended
            # Otherwise Python would write its buffer at exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            gone, self._gone = self._gone, None
            gone()
