"""``oda check``: would an agent with this configuration work, and if not, what has to be done?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import TimeoutError, inlineCallbacks, maybeDeferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import provider

from oda.commands.migration import Migration
from oda.commands.places import check_places
from oda.commands.running_agent import connect_to_agent
from oda.commands.text import json_text, print_finding
from oda.commands.update_check import check_update
from oda.config.checks import plaintext_warning
from oda.config.loader import LoadedConfiguration, find_directory, load
from oda.connector.resolution import install_resolver
from oda.connector.tls import build_tls_options
from oda.control.client import NoAgent, NotAllowed
from oda.control.wire import ControlError
from oda.datastreams.clock import SystemWallClock
from oda.datastreams.host import build_datastreams
from oda.datastreams.script_command import find_command
from oda.diagnosis.connection import ConnectionCheck
from oda.diagnosis.effective import key_source, render_settings, settings_document
from oda.diagnosis.findings import Findings, Result, document
from oda.errors import ConfigurationError, ConnectorError, DatastreamError, PluginError
from oda.extensions import installed_plugins, load_plugins
from oda.interfaces import IDeviceInfoProvider
from oda.monotonic import install_monotonic_clock
from oda.outbox.inspection import find_leftovers
from oda.settings import AgentSettings, Secret
from oda.upkeep import import_command

#: How long the running agent is given to answer, in seconds.
_ASK_TIMEOUT_S = 10.0


@click.command("check", short_help="Find out whether the agent could work, and what to fix.")
@click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
@click.option(
    "--offline",
    is_flag=True,
    help="Look at the configuration, and at what the agent opens when it starts.",
)
@click.option(
    "--connect",
    is_flag=True,
    help="Open the WebSocket even while the agent runs (the platform may end the agent's own).",
)
@click.option(
    "--timeout",
    "timeout_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds for everything together.",
)
@click.option(
    "--migrate",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Say what becomes of a Java ODA's installation, and write nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    conf: str | None,
    offline: bool,
    connect: bool,
    timeout_s: float,
    migrate: Path | None,
    as_json: bool,
) -> None:
    """Check the configuration, then go the agent's way to the platform, step by step: name, TCP,
    TLS, WebSocket with the device's own id and key, ping, acknowledgement.

    Says at each failure what to do about it. Ends with status 0 when nothing failed (there may be
    warnings), else 1. Nothing is sent but pings. While an agent runs with this configuration no
    WebSocket is opened without --connect: many platforms end the older of two connections.

    With --migrate DIRECTORY (an installation of the Java ODA, or its configuration directory) it
    says instead what of it will be used, what is left alone and why, and what changes.
    """
    findings = Findings(lambda finding: None if as_json else print_finding(finding))
    if migrate is not None:
        if conf is not None or connect:
            raise click.UsageError("--migrate looks at files only: leave out --conf and --connect")
        Migration(migrate, findings, os.environ).run()
        if as_json:
            click.echo(json_text(_report(findings)))
        ctx.exit(1 if findings.has_failed else 0)
    configuration = _load(conf, findings)
    shown = settings_document(configuration.settings) if configuration else None
    if configuration is not None:
        if not as_json:
            click.echo(render_settings(configuration.settings))
        _report_configuration(configuration, findings)
        check_places(configuration, findings, os.environ)
        _check_surroundings(configuration.settings, findings)
        _check_leftovers(configuration, findings)
        check_update(configuration, findings)
        if offline:
            _check_material(configuration.settings, findings)
        else:
            _check_online(configuration, findings, connect, timeout_s)
    if as_json:
        click.echo(json_text({**_report(findings), "settings": shown}))
    ctx.exit(1 if findings.has_failed else 0)


def _report(findings: Findings) -> dict[str, Any]:
    return {
        "ok": not findings.has_failed,
        "checks": [document(finding) for finding in findings.all],
    }


# -- the configuration -----------------------------------------------------------------------


def _load(conf: str | None, findings: Findings) -> LoadedConfiguration | None:
    """The configuration; None where it is faulty, with a finding for each fault."""
    try:
        return load(find_directory(conf), os.environ)
    except ConfigurationError as error:
        findings.add_faults(error)
        return None


def _report_configuration(configuration: LoadedConfiguration, findings: Findings) -> None:
    directory = configuration.directory
    findings.add(
        "configuration",
        Result.OK,
        f"{len(configuration.read)} files read from {directory}",
        directory=str(directory),
        files=list(configuration.read),
    )
    for note in configuration.notes:
        findings.add("configuration", Result.OK, note)
    if warning := plaintext_warning(configuration.settings.connector):
        findings.add("configuration", Result.WARNING, warning)
    for warning in configuration.warnings:
        findings.add("configuration", Result.WARNING, warning)
    if configuration.ignored:
        files = ", ".join(configuration.ignored)
        findings.add("configuration", Result.OK, f"of components this agent doesn't have: {files}")
    findings.add("key", Result.OK, f"from {key_source(configuration.settings, os.environ)}")


def _check_surroundings(settings: AgentSettings, findings: Findings) -> None:
    """What the settings name has to be there: scripts, plugins."""
    for script in settings.device_info.scripts:
        try:
            find_command(script.command, Path.cwd(), settings.device_info.path, os.environ)
        except ValueError as error:
            advice = "see 'path'; relative paths start at the agent's working directory"
            text = f"{script.datastream_id}: {error}"
            findings.add("scripts", Result.WARNING, text, advice)
    if settings.plugins:
        installed = installed_plugins()
        for fault in installed.faults:
            findings.add("plugins", Result.WARNING, fault, "mend it, or take it away")
        for plugin in settings.plugins:
            if plugin.name not in installed.by_name:
                findings.add(
                    "plugins",
                    Result.FAILED,
                    f"plugin '{plugin.name}' is not installed",
                    "install it for this Python, or take it out of 'plugins'",
                )


def _check_material(settings: AgentSettings, findings: Findings) -> None:
    """What the way to the platform uses besides, and finds out for itself: certificates, keys, and
    the plugins that are installed."""
    if settings.connector.secure:
        try:
            build_tls_options(settings.connector)
        except ConnectorError as error:
            findings.add("tls", Result.FAILED, str(error), "see the file that the key names")
        else:
            findings.add("tls", Result.OK, "the certificates and keys can be used")
    if settings.plugins and not findings.has_failed_in("plugins"):
        from twisted.internet import reactor

        try:
            load_plugins(settings.plugins, reactor)
        except PluginError as error:
            findings.add("plugins", Result.FAILED, str(error), "see the plugin's options")


def _check_leftovers(configuration: LoadedConfiguration, findings: Findings) -> None:
    """Messages that wait where nobody sends them: the outbox was somewhere else before."""
    for leftover in find_leftovers(configuration.settings.outbox):
        command = import_command(leftover.path, configuration.directory)
        findings.add(
            "outbox",
            Result.WARNING,
            str(leftover),
            f"if it was this agent's: {command}",
            path=str(leftover.path),
            messages=leftover.messages,
            deadLetters=leftover.dead,
        )


# -- the connection --------------------------------------------------------------------------


def _check_online(
    configuration: LoadedConfiguration, findings: Findings, connect: bool, timeout_s: float
) -> None:
    is_running = _ask_agent(
        configuration.directory,
        findings,
        configuration.settings.connector.keep_alive_interval_s,
    )
    from twisted.internet import reactor as default_reactor

    reactor: Any = default_reactor
    globalLogBeginner.beginLoggingTo([_print_defects], redirectStandardIO=False)
    install_monotonic_clock(reactor)
    install_resolver(reactor)
    check = OnlineCheck(configuration.settings, findings, reactor, os.environ)

    def begin() -> None:
        done = maybeDeferred(check.run, with_upgrade=connect or not is_running)
        done.addTimeout(timeout_s, reactor)
        done.addErrback(_given_up, check, findings, timeout_s)
        done.addErrback(_defect, check, findings)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()


def _ask_agent(directory: Path, findings: Findings, keep_alive_s: float = 0.0) -> bool:
    """Whether an agent runs with this configuration; ``keep_alive_s`` is what that says."""
    try:
        with connect_to_agent(directory, timeout_s=_ASK_TIMEOUT_S) as client:
            status = client.call("status")
    except NoAgent:
        findings.add("agent", Result.OK, "none is running with this configuration")
        return False
    except NotAllowed as error:
        text = f"another user's agent may run with this configuration: {error}"
        findings.add("agent", Result.WARNING, text, "run this as the agent's user")
        return True
    except (ControlError, OSError) as error:
        # Whatever is wrong there, somebody listens: a second connection of the same device could
        # end the one that it has.
        text = f"an agent runs with this configuration, but does not answer: {error}"
        findings.add("agent", Result.FAILED, text, "restart it")
        return True
    state = "connected and acknowledged" if status["ready"] else "; ".join(status["reasons"])
    findings.add(
        "agent",
        Result.OK if status["ready"] else Result.WARNING,
        f"running with this configuration: {state}",
        "" if status["ready"] else "see its log, and: oda status",
        ready=status["ready"],
    )
    learnt_s = status.get("connection", {}).get("keep_alive_s") or keep_alive_s
    if learnt_s < keep_alive_s:
        findings.add(
            "agent",
            Result.WARNING,
            f"something on the way ends silent connections: a ping goes out every {learnt_s:g} s",
            f"set keepAliveInterval={learnt_s:g}, so that a new start need not learn it again",
        )
    return True


class OnlineCheck:
    """The part that needs a reactor: who the device is, and the way to the platform."""

    def __init__(
        self,
        settings: AgentSettings,
        findings: Findings,
        reactor: Any,
        environ: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._findings = findings
        self._reactor = reactor
        self._environ = environ
        clock = SystemWallClock()
        self._connection = ConnectionCheck(
            settings.connector, findings, reactor, clock.now_ms, os.urandom
        )
        self._build = partial(build_datastreams, settings.device_info, reactor, clock)
        self._is_identifying = False

    @property
    def step(self) -> str:
        """What is being done."""
        return "device" if self._is_identifying else self._connection.step

    @inlineCallbacks
    def run(self, with_upgrade: bool) -> Any:
        """Fires with None when everything has been looked at; may be cancelled."""
        identity = None
        if with_upgrade:
            self._is_identifying = True
            host = self._build(self._environ, Path.cwd())
            try:
                identity = yield self._identify(host.device_info)
            finally:
                host.stop()
            self._is_identifying = False
        yield self._connection.run(identity)
        if not with_upgrade:
            self._findings.add(
                "upgrade",
                Result.SKIPPED,
                "the agent is connected, or will be, as this device",
                "stop the agent first, or give --connect",
            )

    @inlineCallbacks
    def _identify(self, device_info: Any) -> Any:
        """The device's id and key; None (with a finding) when there is no id."""
        try:
            for components in load_plugins(self._settings.plugins, self._reactor).values():
                for component in components:
                    if IDeviceInfoProvider.providedBy(component):
                        device_info = component
            device_id: str = yield maybeDeferred(device_info.device_id)
            key: str = device_info.api_key()
        except DatastreamError as error:
            self._findings.add(
                "device",
                Result.FAILED,
                f"its id can't be found out: {error}",
                "write deviceId=... into es.amplia.oda.datastreams.deviceinfo.cfg",
            )
            return None
        except PluginError as error:
            self._findings.add("plugins", Result.FAILED, str(error), "see the plugin's options")
            return None
        self._findings.add("device", Result.OK, f"its id is {device_id}", device=device_id)
        return device_id, Secret(key)


def _given_up(failure: Failure, check: OnlineCheck, findings: Findings, timeout_s: float) -> None:
    failure.trap(TimeoutError)
    findings.add(
        check.step,
        Result.FAILED,
        f"not done within {timeout_s:g} s",
        "see what hangs here, or give it longer with --timeout",
    )


def _defect(failure: Failure, check: OnlineCheck, findings: Findings) -> None:
    """Whatever else happened: better a report with a hole than none."""
    findings.add(
        check.step, Result.FAILED, f"a defect of the check: {type(failure.value).__name__}"
    )


@provider(ILogObserver)
def _print_defects(event: LogEvent) -> None:
    """What the parts of the agent log is said by the findings, but for defects."""
    if event.get("log_level") is LogLevel.critical:
        sys.stderr.write(eventAsText(event) + "\n")
