"""The tables: every file, every key, the allowed values and their meaning.

Adding a key takes one line here and one field in ``oda.settings``. The documentation of all keys is
made from these tables (``reference``).
"""

from __future__ import annotations

from collections.abc import Callable

from oda.config.connection import CONNECTOR, PREFIX
from oda.config.keys import Component, Key, Lines, Section
from oda.config.lines import (
    LOG_LEVEL_ALLOWED,
    LOG_PREFIX,
    MAX_SECONDS,
    OPERATION_ALLOWED,
    POLL_ALLOWED,
    SCHEDULE_ALLOWED,
    SCRIPT_ALLOWED,
    check_command,
    read_log_level,
    read_poll,
    read_schedule,
    read_script,
    read_script_operation,
)
from oda.config.parsers import (
    CONTENT_TYPE,
    COUNT,
    PORT,
    TIMEOUT,
    boolean,
    choice,
    command,
    datastreams,
    device_id,
    host,
    integer,
    path,
    seconds,
    secret,
    text,
    time_source,
    time_sources,
)
from oda.config.update import (
    configuration_files,
    directories,
    hosts,
    package_command,
    signing_key,
)
from oda.settings import (
    HOST_NAME_AS_ID,
    ClockOperationSettings,
    ClockTimezone,
    CollectorSettings,
    ComponentLogLevel,
    DeviceInfoSettings,
    DispatcherSettings,
    LogLevel,
    MonitorSettings,
    OperationsSettings,
    PollerSettings,
    Schedule,
    ScriptOperationSettings,
    ScriptSettings,
    StateManagerSettings,
    UpdateSettings,
)

PLUGINS_FILE = PREFIX + "plugins.cfg"


def _schedules(
    form: str,
    meaning: str,
    allowed: str = SCHEDULE_ALLOWED,
    read: Callable[[str, str], Schedule] = read_schedule,
) -> Lines:
    def identity(schedule: Schedule) -> tuple[str, str]:
        return schedule.datastream_id, schedule.device_pattern

    return Lines(
        form=form,
        allowed=allowed,
        meaning=meaning,
        field="schedules",
        read=read,
        identity=identity,
        unmistakable=lambda key, value: ";" in key or ";" in value,
    )


def _log_component(line: ComponentLogLevel) -> str:
    return line.component


def _operation_name(script: ScriptOperationSettings) -> str:
    return script.name


def _script_identity(script: ScriptSettings) -> str:
    return script.datastream_id


DEVICE_INFO = Component(
    file=PREFIX + "datastreams.deviceinfo.cfg",
    about="The identity of the device, and datastreams that scripts read.",
    variants=(
        PREFIX + "datastreams.deviceinfofx30.cfg",
        PREFIX + "datastreams.deviceinfoowa450.cfg",
    ),
    environment=True,
    sections=(
        Section(
            DeviceInfoSettings,
            (
                Key(
                    "deviceId",
                    "device_id",
                    device_id(),
                    "the device's id; without it the serial number is the id, and with "
                    f"{HOST_NAME_AS_ID} the host name (docs/identity.md)",
                    empty_is_absent=True,
                ),
                Key(
                    "apiKey",
                    "api_key",
                    secret("the key that the platform gave you"),
                    "authenticates the device",
                    aliases=("apikey",),
                    alternative="apiKeyFile",
                ),
                Key(
                    "apiKeyFile",
                    "api_key_file",
                    path(
                        "a file that holds the key and nothing else; "
                        "relative to the configuration directory",
                        anchored=True,
                    ),
                    "the file to read the key from, instead of apiKey",
                ),
                Key(
                    "source",
                    "source",
                    path("a directory", anchored=False),
                    "where ODA takes its scripts from; relative to the working directory",
                    environment=False,
                    empty_is_absent=True,
                ),
                Key(
                    "path",
                    "path",
                    path("a directory", anchored=False),
                    "the directory of the scripts; relative to the working directory",
                    environment=False,
                    empty_is_absent=True,
                ),
                Key(
                    "strictPermissions",
                    "strict_permissions",
                    boolean(),
                    "refuse to start if every user of the machine can read a file with the API "
                    "key, a private key, a passphrase or a password, or can write the "
                    "configuration directory, a file read from it or the directory path "
                    "(otherwise these are warnings)",
                ),
                Key(
                    "scriptTimeout",
                    "script_timeout_s",
                    TIMEOUT,
                    "a script that runs longer is killed",
                ),
                Key(
                    "scriptMaxOutput",
                    "script_max_output_bytes",
                    integer(1, 1 << 30, "bytes"),
                    "a script that writes more is killed",
                ),
                Key(
                    "clockTimezone",
                    "clock_timezone",
                    choice(ClockTimezone),
                    "the timezone of the agent's own device.clock: hours, as SET_CLOCK_EQUIPMENT "
                    "takes them, or a text, as the reference agent's script writes it: CET "
                    "(abbreviation) or Europe/Madrid (name; if unknown, the abbreviation)",
                ),
            ),
        ),
    ),
    lines=Lines(
        form="<datastreamId>",
        allowed=SCRIPT_ALLOWED,
        meaning="the datastream's value is the output of the script, read as that type (STRING by "
        "default); arguments are allowed, and no shell is involved",
        field="scripts",
        read=read_script,
        identity=_script_identity,
        unmistakable=lambda key, value: "." in key or ";" in value,
        free=True,
        empty_is_absent=True,
        renamed={"serialNumberCommand": "device.serialNumber"},
    ),
)

DISPATCHER = Component(
    file=PREFIX + "dispatcher.opengate.cfg",
    about="How events become messages, and how operations are executed.",
    sections=(
        Section(
            DispatcherSettings,
            (
                Key(
                    "reducedOutput",
                    "reduced_output",
                    boolean(),
                    "omit path, time and the host's id where the platform can fill them in",
                    aliases=("reduceBandwidthMode",),
                    empty_is_absent=True,
                ),
                Key(
                    "eventContentType",
                    "event_content_type",
                    CONTENT_TYPE,
                    "the format of telemetry; without it, contentType of the connector",
                ),
                Key(
                    "operationTimeout",
                    "operation_timeout_s",
                    TIMEOUT,
                    "an operation that takes longer is answered with ERROR_PROCESSING",
                ),
                Key(
                    "maxConcurrentOperations",
                    "max_concurrent_operations",
                    integer(1, 100_000),
                    "how many operations run at a time",
                ),
                Key(
                    "clockDatastream",
                    "clock_datastream",
                    text("a datastream's id"),
                    "the datastream that the clock operations set, unless they have a file of "
                    "their own",
                ),
                Key(
                    "allowSetClock",
                    "allow_set_clock",
                    boolean(),
                    "let the platform set the system's clock (the process needs the privilege, "
                    "see docs/operating.md); a plugin's clock datastream doesn't need this",
                ),
                Key(
                    "timeSync",
                    "time_sync",
                    boolean(),
                    "something keeps this machine's clock right (systemd-timesyncd, chrony, ntpd): "
                    "until its first synchronisation readings are kept and not sent, and get their "
                    "time then (see docs/time.md)",
                ),
                Key(
                    "timeSource",
                    "time_source",
                    time_source(),
                    "the time source of SYNCHRONIZE_CLOCK if the request names none",
                ),
                Key(
                    "timeSources",
                    "time_sources",
                    time_sources(),
                    "the time sources that a request may name besides timeSource; others are "
                    "refused",
                ),
            ),
        ),
    ),
    lines=_schedules(
        "datastreamId[;deviceId]",
        "events of that datastream are collected and published together every period, for the "
        "first time after first (the period if it isn't given); what GET_DEVICE_PARAMETERS and "
        "REFRESH_INFO read is published at once",
    ),
)


def _clock_operation(file: str, operation: str) -> Component:
    return Component(
        file=PREFIX + file,
        about=f"{operation}, if its clock is another one than in the dispatcher's file.",
        sections=(
            Section(
                ClockOperationSettings,
                (
                    Key(
                        "clockDatastream",
                        "clock_datastream",
                        text("a datastream's id"),
                        f"the datastream that {operation} sets; without it, the one in the "
                        "dispatcher's file",
                    ),
                ),
            ),
        ),
    )


SET_CLOCK = _clock_operation("operation.setclock.cfg", "SET_CLOCK_EQUIPMENT")
SYNCHRONIZE_CLOCK = _clock_operation("operation.synchronizeclock.cfg", "SYNCHRONIZE_CLOCK")

UPDATE = Component(
    file=PREFIX + "operation.update.cfg",
    about="What the platform may install with UPDATE (see docs/updates.md): nothing without "
    "updateRoots, updateConfiguration or packageInstall. UPDATE never replaces this file.",
    sections=(
        Section(
            UpdateSettings,
            (
                Key(
                    "updateRoots",
                    "roots",
                    directories(),
                    "where files and directories may be installed; a relative path of an element "
                    "starts at the first of them",
                ),
                Key(
                    "updateConfiguration",
                    "configuration",
                    configuration_files(),
                    "the files of this directory that may be replaced; scripts and plugins that "
                    "such a file names run with the agent's rights",
                ),
                Key(
                    "packageInstall",
                    "package_install",
                    package_command(),
                    "installs a package: {file} is the downloaded file, {name} and {version} are "
                    "the element's; no shell is involved",
                ),
                Key(
                    "packageRemove",
                    "package_remove",
                    package_command(),
                    "removes the package {name}",
                ),
                Key(
                    "packageVersion",
                    "package_version",
                    package_command(),
                    "writes the version of {name} that is installed, nothing if there is none",
                ),
                Key(
                    "packageRestore",
                    "package_restore",
                    package_command(),
                    "installs the version {oldVersion} of {name} again, which was there before",
                ),
                Key(
                    "packageTimeout",
                    "package_timeout_s",
                    TIMEOUT,
                    "one of these commands that runs longer is ended, and has failed",
                ),
                Key(
                    "updateHosts",
                    "hosts",
                    hosts(),
                    "where files may be downloaded from; without it only from the platform's host",
                ),
                Key(
                    "updateKeyHosts",
                    "key_hosts",
                    hosts(),
                    "those of them that get the API key, as header X-ApiKey",
                ),
                Key(
                    "updateKey",
                    "key",
                    signing_key(),
                    "with it every element must be signed by this key",
                ),
                Key(
                    "updateMaxBytes",
                    "max_bytes",
                    integer(1024, 1 << 40, "bytes"),
                    "how much one update may download, and an archive of it hold",
                ),
                Key(
                    "updateTimeout",
                    "timeout_s",
                    TIMEOUT,
                    "how long the downloads of one update may take",
                ),
                Key(
                    "updateConfirm",
                    "confirm_s",
                    seconds(1, 86_400),
                    "after so long without a connection and an acknowledgement everything is "
                    "rolled back",
                ),
                Key(
                    "updateDirectory",
                    "directory",
                    path("a directory", anchored=False),
                    "where downloads and the record of an update are; relative to the working "
                    "directory",
                ),
            ),
        ),
    ),
    ignored=dict.fromkeys(
        (
            "rulesPath",
            "rulesUtilsPath",
            "backupPath",
            "deployPath",
            "downloadsPath",
            "configurationPath",
        ),
        "the platform may install only where updateRoots and updateConfiguration allow it",
    ),
)

OPERATIONS = Component(
    file=PREFIX + "operations.scripts.cfg",
    about="Operations that scripts carry out, and the commands of REBOOT_EQUIPMENT (see "
    "docs/script-operations.md).",
    sections=(
        Section(
            OperationsSettings,
            (
                Key(
                    "path",
                    "path",
                    path("a directory", anchored=False),
                    "where these scripts are kept; relative to the working directory; without it "
                    "the path of the device info file",
                ),
                Key(
                    "scriptTimeout",
                    "script_timeout_s",
                    TIMEOUT,
                    "a script that runs longer is killed; operationTimeout limits it too",
                ),
                Key(
                    "scriptMaxOutput",
                    "script_max_output_bytes",
                    integer(1, 1 << 30, "bytes"),
                    "a script that writes more is killed",
                ),
                Key(
                    "rebootCommand",
                    "reboot_command",
                    command(check_command),
                    "restarts the device, for REBOOT_EQUIPMENT with type HARDWARE or none; without "
                    "it this is refused",
                ),
                Key(
                    "restartCommand",
                    "restart_command",
                    command(check_command),
                    "restarts the agent, for REBOOT_EQUIPMENT with type SOFTWARE; without it this "
                    "is refused",
                ),
                Key(
                    "restartTimeout",
                    "restart_timeout_s",
                    TIMEOUT,
                    "how long after the command the restart may come; then the operation has "
                    "failed",
                ),
                Key(
                    "readAfterRestart",
                    "read_after_restart",
                    datastreams(),
                    "what the agent reads and publishes after a restart that an operation asked "
                    "for",
                ),
            ),
        ),
    ),
    lines=Lines(
        form="<OPERATION>",
        allowed=OPERATION_ALLOWED,
        meaning="the script carries out that operation; arguments are allowed, no shell is "
        "involved. REBOOTS: it restarts the device, RESTARTS: the agent, and the answer comes "
        "after that. DEVICES: it is also for devices behind the agent",
        field="scripts",
        read=read_script_operation,
        identity=_operation_name,
        unmistakable=lambda key, value: key.isupper(),
        free=True,
        empty_is_absent=True,
    ),
)

POLLER = Component(
    file=PREFIX + "subsystem.poller.cfg",
    about="Which datastreams are read, and when.",
    sections=(Section(PollerSettings, ()),),
    lines=_schedules(
        "datastreamId[;devicePattern]",
        "that datastream is read every period, for the first time after first (the period if it "
        "isn't given); a pattern is a device's id or holds one *; without one it is the host. With "
        "onChange the agent publishes a value only if it differs from the last published one, a "
        "number only by more than deadband (which implies onChange), and any value after "
        "maxSilence (3600 s if it isn't given)",
        POLL_ALLOWED,
        read_poll,
    ),
)

COLLECTOR = Component(
    file=PREFIX + "subsystem.collector.cfg",
    about="Which kept values are published, and when (with the in-memory state manager).",
    sections=(Section(CollectorSettings, ()),),
    lines=_schedules(
        "datastreamId[;devicePattern]",
        "unpublished values of that datastream are published every period, for the first time "
        "after first",
    ),
)

STATE_MANAGER = Component(
    file=PREFIX + "statemanager.inmemory.cfg",
    about="The presence of this file, even empty, selects the in-memory state manager; without it "
    "every value is published as it arrives.",
    sections=(
        Section(
            StateManagerSettings,
            (
                Key(
                    "databasePath",
                    "database_path",
                    path("a file", anchored=False),
                    "the file that keeps values over a restart; relative to the working directory; "
                    "without it, unpublished values are lost when the agent ends; beside what "
                    "another program has there (a directory, a database) it is oda-history.sqlite",
                ),
                Key(
                    "maxData",
                    "max_data",
                    COUNT,
                    "how many values are kept for each datastream and device, the last to arrive",
                ),
                Key(
                    "forgetTime",
                    "forget_time_s",
                    seconds(1, MAX_SECONDS),
                    "values that arrived longer ago are forgotten, published or not; a correction "
                    "of the clock changes no age",
                ),
                Key(
                    "forgetPeriod",
                    "forget_period_s",
                    seconds(1, MAX_SECONDS),
                    "how often the agent looks for old values",
                ),
            ),
        ),
    ),
    ignored={
        "numProcessingThreads": "this agent has no threads to configure",
        "tasksQueueSize": "this agent has no task queue",
    },
)

MONITOR = Component(
    file=PREFIX + "monitor.cfg",
    about="Metrics and health over HTTP, and how much the log says (see docs/monitoring.md).",
    sections=(
        Section(
            MonitorSettings,
            (
                Key(
                    "monitorPort",
                    "port",
                    PORT,
                    "the port of /metrics, /health/live and /health/ready; without it none is open",
                ),
                Key(
                    "monitorInterface",
                    "interface",
                    host(),
                    "the address to listen at; there is no password, so think before opening it",
                ),
                Key("logLevel", "log_level", choice(LogLevel), "the lowest level that is logged"),
            ),
        ),
    ),
    lines=Lines(
        form=LOG_PREFIX + "<component>",
        allowed=LOG_LEVEL_ALLOWED,
        meaning="the level of that component; a component is a package or module of the agent as "
        "the log names it (`connector`, `connector.link`), or `twisted`",
        field="log_levels",
        read=read_log_level,
        identity=_log_component,
        unmistakable=lambda key, value: key.startswith(LOG_PREFIX),
    ),
)

COMPONENTS = (
    CONNECTOR,
    DEVICE_INFO,
    DISPATCHER,
    SET_CLOCK,
    SYNCHRONIZE_CLOCK,
    UPDATE,
    OPERATIONS,
    POLLER,
    COLLECTOR,
    STATE_MANAGER,
    MONITOR,
)
#: Components whose file is usually missing. The state manager's file selects it by its presence.
OPTIONAL = (SET_CLOCK, SYNCHRONIZE_CLOCK, UPDATE, OPERATIONS, STATE_MANAGER)
FILES = (*(component.file for component in COMPONENTS), PLUGINS_FILE)
