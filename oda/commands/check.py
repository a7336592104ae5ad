"""``oda check``: would an agent with this configuration work, and if not, what needs fixing?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import TimeoutError, inlineCallbacks, maybeDeferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import provider

from oda.commands.as_user import become, can_run, find_account, go_to, look_as, take_user
from oda.commands.migration import Migration
from oda.commands.places import check_places
from oda.commands.running_agent import connect_to_agent
from oda.commands.text import echo, json_text, print_finding
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
from oda.diagnosis.findings import Findings, Result, document, render_verdict
from oda.diagnosis.service import find_service
from oda.errors import ConfigurationError, ConnectorError, DatastreamError, PluginError
from oda.extensions import installed_plugins, load_plugins
from oda.interfaces import IDeviceInfoProvider
from oda.monitor.status import told_trouble
from oda.monotonic import install_monotonic_clock
from oda.outbox.inspection import find_leftovers
from oda.settings import AgentSettings, Secret
from oda.upkeep import import_command
from oda.wording import counted

#: How long the running agent may take to answer, in seconds.
_ASK_TIMEOUT_S = 10.0


@click.command("check", short_help="Find out whether the agent could work, and what to fix.")
@click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
@click.option(
    "--offline",
    is_flag=True,
    help="Check only the configuration, and what the agent opens when it starts.",
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
    help="Time limit for the whole check, in seconds.",
)
@click.option(
    "--migrate",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Report how this agent would use a Java ODA's installation; write nothing.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="Check as this user, who runs the agent: what may it read and write? For root only.",
)
@click.option("--verbose", "-v", is_flag=True, help="Print the settings in force, too.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    conf: str | None,
    offline: bool,
    connect: bool,
    timeout_s: float,
    migrate: Path | None,
    user: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Check the configuration, then go the agent's way to the platform, step by step: name, TCP,
    TLS, WebSocket with the device's own id and key, ping, acknowledgement.

    Prints the verdict, then each finding; a failure comes with advice on how to fix it. The exit
    status is 0 when nothing failed (there may be warnings), else 1. The check sends nothing but
    pings. While an agent runs with this configuration, it opens no WebSocket without --connect:
    many platforms end the older of two connections.

    Run by root, it also looks at everything as the service's user, and warns of what that user may
    not do. The user is that of the systemd unit, or the owner of the files. --user NAME makes the
    whole check as that user, in the unit's working directory.

    With --migrate DIRECTORY (an installation of the Java ODA, or its configuration directory) it
    reports instead what the agent will use of it, what it ignores and why, and what changes.
    """
    findings = Findings()
    if migrate is not None:
        if conf is not None or connect or user is not None:
            problem = "--migrate looks at files only: leave out --conf, --connect and --user"
            raise click.UsageError(problem)
        Migration(migrate, findings, os.environ).run()
        if as_json:
            click.echo(json_text(_report(findings)))
        else:
            _print(findings, f"{migrate} can be taken over")
        ctx.exit(1 if findings.has_failed else 0)
    if not (as_json or offline) and sys.stderr.isatty():
        click.echo("Checking ...", err=True)
    if user is not None:
        conf = _become(user, conf, findings)
    configuration = None if findings.has_failed else _load(conf, findings)
    shown = settings_document(configuration.settings) if configuration else None
    if configuration is not None:
        _report_configuration(configuration, findings)
        check_places(configuration, findings, os.environ)
        _check_surroundings(configuration.settings, findings)
        _check_leftovers(configuration, findings)
        check_update(configuration, findings)
        if os.geteuid() == 0:
            _check_as_service(configuration, findings)
        if offline:
            _check_material(configuration.settings, findings)
        else:
            _check_online(configuration, findings, connect, timeout_s)
    if as_json:
        click.echo(json_text({**_report(findings), "settings": shown}))
    else:
        _print(
            findings,
            "the configuration is good; the platform was not tried"
            if offline
            else "the agent can work with this configuration",
        )
        if verbose and configuration is not None:
            click.echo("\n" + render_settings(configuration.settings), nl=False)
    ctx.exit(1 if findings.has_failed else 0)


def _print(findings: Findings, good_news: str) -> None:
    echo(render_verdict(findings.all, good_news), nl=False)
    for finding in findings.all:
        print_finding(finding)


def _report(findings: Findings) -> dict[str, Any]:
    return {
        "ok": not findings.has_failed,
        "checks": [document(finding) for finding in findings.all],
    }


# -- the configuration -----------------------------------------------------------------------


def _load(conf: str | None, findings: Findings) -> LoadedConfiguration | None:
    """The configuration; None if it is faulty, with a finding for each fault."""
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
        f"{counted(len(configuration.read), 'file')} read from {directory}",
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
    source = key_source(configuration.settings, os.environ, configuration.of_device)
    findings.add("key", Result.OK, f"from {source}")


def _check_surroundings(settings: AgentSettings, findings: Findings) -> None:
    """Check that scripts and plugins named in the settings exist."""
    for script in settings.device_info.scripts:
        try:
            find_command(script.command, Path.cwd(), settings.device_info.path, os.environ)
        except ValueError as error:
            advice = "see 'path'; relative paths start at the agent's working directory"
            text = f"{script.datastream_id}: {error}"
            findings.add("scripts", Result.WARNING, text, advice)
    own = settings.operations
    place = settings.device_info.path if own.path is None else own.path
    commands = {script.name: script.command for script in own.scripts}
    commands["rebootCommand"] = own.reboot_command or ""
    commands["restartCommand"] = own.restart_command or ""
    for name, command in commands.items():
        if command:
            try:
                find_command(command, Path.cwd(), place, os.environ)
            except ValueError as error:
                advice = "see 'path'; relative paths start at the agent's working directory"
                findings.add("scripts", Result.WARNING, f"{name}: {error}", advice)
    if settings.plugins:
        installed = installed_plugins()
        for fault in installed.faults:
            findings.add("plugins", Result.WARNING, fault, "repair or remove it")
        for plugin in settings.plugins:
            if plugin.name not in installed.by_name:
                findings.add(
                    "plugins",
                    Result.FAILED,
                    f"plugin '{plugin.name}' is not installed",
                    "install it for this Python, or remove it from 'plugins'",
                )


def _check_material(settings: AgentSettings, findings: Findings) -> None:
    """Check the rest that the agent uses on the way to the platform: certificates, keys, and the
    installed plugins."""
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
    """Messages in an outbox at an earlier place, where no agent sends them."""
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


# -- the service's user ----------------------------------------------------------------------


def _become(user: str, conf: str | None, findings: Findings) -> str | None:
    """Go on as this user, where the service works; gives the configuration directory."""
    account = take_user(user)
    service = None
    with suppress(ConfigurationError):  # _load reports it
        directory = find_directory(conf).absolute()
        service, conf = find_service(directory, ()), str(directory)
    if os.geteuid() == 0:
        become(account)
    findings.add("user", Result.OK, f"everything below is as the user {account.name} finds it")
    if can_run(findings) and service is not None and service.user == account.name:
        go_to(service.working_directory, findings)
    return conf


def _check_as_service(configuration: LoadedConfiguration, findings: Findings) -> None:
    """Warn of what the service's user may not do and root may."""
    outbox = configuration.settings.outbox.path
    directory = configuration.directory.absolute()
    # The directory of a relative path is only that of whoever runs the check.
    places = (outbox, outbox.parent) if outbox.is_absolute() else (outbox,)
    service = find_service(directory, (directory, *places))
    if service is None or service.user == "root":
        return
    try:
        account = find_account(service.user)
    except LookupError:
        text = f"there is no user {service.user}, whom {service.source} names"
        findings.add("user", Result.FAILED, text, f"adduser --system --group {service.user}")
        return
    known = {(one.step, one.text) for one in findings.all}
    found = [
        one
        for one in look_as(account, partial(_look, directory, service.working_directory))
        if one.result in (Result.WARNING, Result.FAILED) and (one.step, one.text) not in known
    ]
    for one in found:
        text = f"as the user {account.name} (of {service.source}): {one.text}"
        advice = one.advice or f"let that user read it; then: oda check --user {account.name}"
        findings.add("user", Result.WARNING, text, advice, user=account.name, of=one.step)
    if not found:
        text = f"the user {account.name} (of {service.source}) may read and write what it needs"
        findings.add("user", Result.OK, text, user=account.name)


def _look(directory: Path, working_directory: Path | None, findings: Findings) -> None:
    """What ``--offline`` looks at, without the reactor."""
    if not can_run(findings):
        return
    is_there = go_to(working_directory, findings)
    try:
        configuration = load(directory, os.environ)
    except ConfigurationError as error:
        findings.add_faults(error)
        return
    # Without a unit nobody knows where a relative path of the service starts.
    is_known = working_directory is not None or configuration.settings.outbox.path.is_absolute()
    if is_there and is_known:
        check_places(configuration, findings, os.environ)
    if is_there:
        _check_surroundings(configuration.settings, findings)


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
    has_ended: list[object] = []

    def begin() -> None:
        done = maybeDeferred(check.run, with_upgrade=connect or not is_running)
        done.addTimeout(timeout_s, reactor)
        done.addErrback(_given_up, check, findings, timeout_s)
        done.addErrback(_defect, check, findings)
        done.addBoth(has_ended.append)
        done.addBoth(lambda _: reactor.stop() if reactor.running else None)

    reactor.callWhenRunning(begin)
    reactor.run()
    if not has_ended:
        findings.add(check.step, Result.FAILED, "interrupted; the steps after it were not tried")


def _ask_agent(directory: Path, findings: Findings, keep_alive_s: float = 0.0) -> bool:
    """Whether an agent runs with this configuration; ``keep_alive_s`` is the configured value."""
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
        # Whatever is wrong, a process listens there. A second connection of the same device could
        # end the first one.
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
    for trouble in status.get("troubles", ()):
        text = f"trouble {told_trouble(trouble)}"
        findings.add("agent", Result.WARNING, text, "see docs/troubles.md", code=trouble["code"])
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
    """The part that needs a reactor: the device's identity, and the way to the platform."""

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
        """The present step."""
        return "device" if self._is_identifying else self._connection.step

    @inlineCallbacks
    def run(self, with_upgrade: bool) -> Any:
        """Fires with None when every step is done; may be cancelled."""
        identity = None
        # A plugin is not loaded beside an agent that has loaded it: it may use a device alone.
        if with_upgrade or not self._settings.plugins:
            self._is_identifying = True
            host = self._build(self._environ, Path.cwd())
            try:
                identity = yield self._identify(host.device_info)
            finally:
                host.stop()
            self._is_identifying = False
        yield self._connection.run(identity if with_upgrade else None)
        if not with_upgrade:
            self._findings.add(
                "upgrade",
                Result.SKIPPED,
                "the agent is connected, or will be, as this device",
                "stop the agent first, or give --connect",
            )

    @inlineCallbacks
    def _identify(self, device_info: Any) -> Any:
        """The device's id and key; None (with a finding) if there is no id."""
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
        source = getattr(device_info, "source", "") or "a plugin"
        self._findings.add(
            "device", Result.OK, f"its id is {device_id}, from {source}", device=device_id
        )
        return device_id, Secret(key)


def _given_up(failure: Failure, check: OnlineCheck, findings: Findings, timeout_s: float) -> None:
    failure.trap(TimeoutError)
    findings.add(
        check.step,
        Result.FAILED,
        f"not done within {timeout_s:g} s",
        "see what hangs here, or allow more time with --timeout",
    )


def _defect(failure: Failure, check: OnlineCheck, findings: Findings) -> None:
    """Any other error: an incomplete report is better than none."""
    findings.add(
        check.step, Result.FAILED, f"a defect of the check: {type(failure.value).__name__}"
    )


@provider(ILogObserver)
def _print_defects(event: LogEvent) -> None:
    """Print defects from the log; the findings cover everything else."""
    if event.get("log_level") is LogLevel.critical:
        sys.stderr.write(eventAsText(event) + "\n")
