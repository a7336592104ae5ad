"""The tables: every file, every key, what is allowed and what it means.

Adding a key is one line here and one field in ``oda.settings``. The documentation of all keys is
made from these tables (``reference``).
"""

from __future__ import annotations

from oda.config.connection import CONNECTOR, PREFIX
from oda.config.keys import Component, Key, Lines, Section
from oda.config.lines import (
    LOG_LEVEL_ALLOWED,
    LOG_PREFIX,
    MAX_SECONDS,
    SCHEDULE_ALLOWED,
    SCRIPT_ALLOWED,
    read_log_level,
    read_schedule,
    read_script,
)
from oda.config.parsers import (
    CONTENT_TYPE,
    COUNT,
    PORT,
    TIMEOUT,
    boolean,
    choice,
    host,
    integer,
    path,
    seconds,
    secret,
    text,
    time_source,
    time_sources,
)
from oda.config.update import command, configuration_files, directories, hosts, signing_key
from oda.settings import (
    ClockOperationSettings,
    ClockTimezone,
    CollectorSettings,
    ComponentLogLevel,
    DeviceInfoSettings,
    DispatcherSettings,
    LogLevel,
    MonitorSettings,
    PollerSettings,
    Schedule,
    ScriptSettings,
    StateManagerSettings,
    UpdateSettings,
)

PLUGINS_FILE = PREFIX + "plugins.cfg"


def _schedules(form: str, meaning: str) -> Lines:
    def identity(schedule: Schedule) -> tuple[str, str]:
        return schedule.datastream_id, schedule.device_pattern

    return Lines(
        form=form,
        allowed=SCHEDULE_ALLOWED,
        meaning=meaning,
        field="schedules",
        read=read_schedule,
        identity=identity,
        unmistakable=lambda key, value: ";" in key or ";" in value,
    )


def _log_component(line: ComponentLogLevel) -> str:
    return line.component


def _script_identity(script: ScriptSettings) -> str:
    return script.datastream_id


DEVICE_INFO = Component(
    file=PREFIX + "datastreams.deviceinfo.cfg",
    about="Who the device is, and datastreams that are read by scripts.",
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
                    text("any text"),
                    "the device's id; without it the serial number is used",
                    empty_is_absent=True,
                ),
                Key(
                    "apiKey",
                    "api_key",
                    secret("the key the platform gave"),
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
                    "instead of apiKey: where to read it",
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
                    "where scripts are kept; relative to the working directory",
                    environment=False,
                    empty_is_absent=True,
                ),
                Key(
                    "strictPermissions",
                    "strict_permissions",
                    boolean(),
                    "refuse to start where a file with the API key, a private key, a passphrase or "
                    "a password can be read by every user of the machine, or where the "
                    "configuration directory, a file read from it or the directory path can "
                    "be written by every user (otherwise these are warnings)",
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
                    "takes them, or a text, as the reference agent's script for it writes: CET "
                    "(abbreviation), Europe/Madrid (name; where that is unknown the abbreviation)",
                ),
            ),
        ),
    ),
    lines=Lines(
        form="<datastreamId>",
        allowed=SCRIPT_ALLOWED,
        meaning="the datastream's value is what the script writes, read as that type (STRING "
        "without one); arguments are allowed, no shell is involved",
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
    about="How events become messages, and how operations are handled.",
    sections=(
        Section(
            DispatcherSettings,
            (
                Key(
                    "reducedOutput",
                    "reduced_output",
                    boolean(),
                    "leave out path, time and the host's id where the platform can fill them in",
                    aliases=("reduceBandwidthMode",),
                    empty_is_absent=True,
                ),
                Key(
                    "eventContentType",
                    "event_content_type",
                    CONTENT_TYPE,
                    "the format of telemetry; without it the connector's contentType",
                ),
                Key(
                    "operationTimeout",
                    "operation_timeout_s",
                    TIMEOUT,
                    "an operation that takes longer is answered ERROR_PROCESSING",
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
                    "the datastream that the clock operations set, where they have no file of "
                    "their own",
                ),
                Key(
                    "allowSetClock",
                    "allow_set_clock",
                    boolean(),
                    "let the platform set the system's clock (the process needs the right to, "
                    "see docs/operating.md); a clock datastream of a plugin doesn't need it",
                ),
                Key(
                    "timeSource",
                    "time_source",
                    time_source(),
                    "the time source of SYNCHRONIZE_CLOCK where the request names none",
                ),
                Key(
                    "timeSources",
                    "time_sources",
                    time_sources(),
                    "the time sources that a request may name, besides timeSource; others are "
                    "refused",
                ),
            ),
        ),
    ),
    lines=_schedules(
        "datastreamId[;deviceId]",
        "events of that datastream are collected and published together every period, first after "
        "first (the period where it isn't given); what GET_DEVICE_PARAMETERS and REFRESH_INFO read "
        "is published at once",
    ),
)


def _clock_operation(file: str, operation: str) -> Component:
    return Component(
        file=PREFIX + file,
        about=f"{operation}, where its clock is another one than that of the dispatcher's file.",
        sections=(
            Section(
                ClockOperationSettings,
                (
                    Key(
                        "clockDatastream",
                        "clock_datastream",
                        text("a datastream's id"),
                        f"the datastream that {operation} sets; without it that of the "
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
                    command(),
                    "installs a package: {file} is the downloaded file, {name} and {version} are "
                    "the element's; no shell is involved",
                ),
                Key(
                    "packageRemove",
                    "package_remove",
                    command(),
                    "removes the package {name}",
                ),
                Key(
                    "packageVersion",
                    "package_version",
                    command(),
                    "writes the version of {name} that is installed, nothing if there is none",
                ),
                Key(
                    "packageRestore",
                    "package_restore",
                    command(),
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

POLLER = Component(
    file=PREFIX + "subsystem.poller.cfg",
    about="Which datastreams are read, and when.",
    sections=(Section(PollerSettings, ()),),
    lines=_schedules(
        "datastreamId[;devicePattern]",
        "that datastream is read every period, first after first (the period where it isn't "
        "given); a pattern is a device's id or holds one *, none means the host",
    ),
)

COLLECTOR = Component(
    file=PREFIX + "subsystem.collector.cfg",
    about="Which kept values are published, and when (with the in-memory state manager).",
    sections=(Section(CollectorSettings, ()),),
    lines=_schedules(
        "datastreamId[;devicePattern]",
        "values of that datastream not yet published are published every period, first after first",
    ),
)

STATE_MANAGER = Component(
    file=PREFIX + "statemanager.inmemory.cfg",
    about="The presence of this file, even empty, chooses the in-memory state manager; without it "
    "every value is published as it arrives.",
    sections=(
        Section(
            StateManagerSettings,
            (
                Key(
                    "databasePath",
                    "database_path",
                    path("a file", anchored=False),
                    "where values are kept over a restart; relative to the working directory; "
                    "without it the end of the agent loses what was not published; beside what "
                    "another program has there (a directory, a database) it is oda-history.sqlite",
                ),
                Key(
                    "maxData",
                    "max_data",
                    COUNT,
                    "values kept for each datastream and device, those that arrived last",
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
                    "how often old values are looked for",
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
    about="Metrics and health over HTTP, and how much the log says (see docs/operating.md).",
    sections=(
        Section(
            MonitorSettings,
            (
                Key(
                    "monitorPort",
                    "port",
                    PORT,
                    "serves /metrics, /health/live and /health/ready; without it nothing is served",
                ),
                Key(
                    "monitorInterface",
                    "interface",
                    host(),
                    "the address it listens at; there is no password, so think before opening it",
                ),
                Key("logLevel", "log_level", choice(LogLevel), "what goes into the log"),
            ),
        ),
    ),
    lines=Lines(
        form=LOG_PREFIX + "<component>",
        allowed=LOG_LEVEL_ALLOWED,
        meaning="that component's own level; a component is a package or module of the agent as "
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
    POLLER,
    COLLECTOR,
    STATE_MANAGER,
    MONITOR,
)
#: Components whose file a usual installation does not have; the state manager's chooses it by being
#: there.
OPTIONAL = (SET_CLOCK, SYNCHRONIZE_CLOCK, UPDATE, STATE_MANAGER)
FILES = (*(component.file for component in COMPONENTS), PLUGINS_FILE)
