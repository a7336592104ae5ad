"""The settings in the configuration files, typed and frozen: one class per component.

This module holds data only. ``oda.config`` fills it from .cfg files; an embedder may fill it in
code. Field names are the keys in snake_case, with the unit at the end. Every default is the
documented default of the key. Sources: OpenGate device integration (host to keepAliveInterval,
device info, dispatcher, poller, collector, state manager); the other keys are this agent's own.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import msgspec

from oda.model import HOST, ContentType


class Secret:
    """A secret text: ``repr`` and ``str`` hide it, ``reveal()`` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Call this where the text is sent, and don't store the result."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


class Auth(Enum):
    """Where a request carries the API key."""

    HEADER = "header"
    QUERY = "query"


class FrameType(Enum):
    """The WebSocket frame that carries JSON; MessagePack and CBOR are always binary."""

    BINARY = "binary"
    TEXT = "text"


class ValueType(Enum):
    """How the agent reads the output of a script."""

    STRING = "STRING"
    BOOLEAN = "BOOLEAN"
    INTEGER = "INTEGER"
    LONG = "LONG"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    JSON = "JSON"


class ConnectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.connector.websocket.cfg``.

    ``key_passphrase`` and ``proxy_password`` are the contents of ``key_passphrase_file`` and
    ``proxy_password_file``; the file names are kept only for watching.
    """

    host: str
    port: int = 80
    path: str = ""
    connection_timeout_s: float = 30.0
    keep_alive_interval_s: float = 180.0
    pong_timeout_s: float = 30.0
    close_timeout_s: float = 5.0
    secure: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_passphrase_file: Path | None = None
    key_passphrase: Secret | None = None
    skip_verify: bool = False
    auth: Auth = Auth.HEADER
    origin: str | None = None
    content_type: ContentType = ContentType.JSON
    frame_type: FrameType = FrameType.BINARY
    compression: bool = False
    proxy_host: str | None = None
    proxy_port: int = 8080
    proxy_user: str | None = None
    proxy_password_file: Path | None = None
    proxy_password: Secret | None = None
    reconnect_max_delay_s: float = 300.0
    reconnect_spread_s: float = 10.0
    max_message_size_bytes: int = 16 * 1024 * 1024


class OutboxKind(Enum):
    """Where accepted messages are kept."""

    DURABLE = "durable"
    MEMORY = "memory"


class OutboxPolicy(Enum):
    """What happens to a new message when the outbox is full."""

    DROP_OLDEST = "dropOldest"
    REFUSE = "refuse"


class OutboxSync(Enum):
    """What a commit waits for: the disk, or only the operating system.

    With ``NORMAL``, the end of the process loses nothing, but a power failure may lose the newest
    messages.
    """

    FULL = "full"
    NORMAL = "normal"


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The ``outbox...``, ``ack...`` and ``journal...`` keys of
    ``es.amplia.oda.connector.websocket.cfg``. ``max_age_s`` 0 means no limit."""

    kind: OutboxKind = OutboxKind.DURABLE
    path: Path = Path("oda-outbox.sqlite")
    max_age_s: float = 0.0
    policy: OutboxPolicy = OutboxPolicy.DROP_OLDEST
    sync: OutboxSync = OutboxSync.FULL
    journal_max_entries: int = 10_000
    journal_max_age_s: float = 86_400.0
    max_bytes: int = 64 * 1024 * 1024
    max_rows: int = 1_000_000
    window_messages: int = 256
    window_bytes: int = 1024 * 1024
    linger_s: float = 60.0
    ack_commit_delay_s: float = 15.0
    commit_window_s: float = 0.02
    max_rate_per_s: float = 0.0


class ScriptSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One line ``<datastreamId>=<script>;<type>`` of the device info file."""

    datastream_id: str
    command: str
    value_type: ValueType = ValueType.STRING


class ClockTimezone(Enum):
    """The form of ``timezone`` in ``device.clock``: hours, as SET_CLOCK_EQUIPMENT takes them, or a
    text: ``CET``, ``Europe/Madrid``."""

    HOURS = "hours"
    ABBREVIATION = "abbreviation"
    NAME = "name"


#: The ``device_id`` that stands for the machine's host name.
HOST_NAME_AS_ID = "@hostname"


class DeviceInfoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.datastreams.deviceinfo.cfg``.

    ``device_id`` None means the serial number, and ``HOST_NAME_AS_ID`` the host name. ``path`` is
    the directory of the scripts. ``api_key_file`` is the file that ``api_key`` was read from, None
    if it was given directly.
    ``strict_permissions`` refuses secrets that every user of the machine can read.
    """

    device_id: str | None = None
    api_key: Secret
    api_key_file: Path | None = None
    source: Path | None = None
    path: Path | None = None
    strict_permissions: bool = False
    script_timeout_s: float = 30.0
    script_max_output_bytes: int = 64 * 1024
    clock_timezone: ClockTimezone = ClockTimezone.HOURS
    scripts: tuple[ScriptSettings, ...] = ()


class OnChange(msgspec.Struct, frozen=True, kw_only=True):
    """``onChange[;deadband=X][;maxSilence=S]`` of a line of the poller: publish a number only if it
    differs by more than ``deadband`` from the one published last, another value if it differs, and
    any value after ``max_silence_s`` (0: no limit)."""

    deadband: float = 0.0
    max_silence_s: float = 3600.0


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """One line ``datastreamId[;devicePattern]=[first;]period``.

    ``device_pattern`` is "" for the host device, an id, or a text with one ``*``. ``first_s`` is
    the delay before the first time (default: the period); ``period_s`` 0 means once. ``on_change``
    is for lines of the poller; None publishes every value.
    """

    datastream_id: str
    device_pattern: str = HOST
    first_s: float
    period_s: float
    on_change: OnChange | None = None


class DispatcherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.dispatcher.opengate.cfg``. ``schedules`` collect events before sending.

    ``time_sources`` are those that a request may name; they always include ``time_source``. With
    ``time_sync`` the agent believes the time of day only after its first synchronisation.
    """

    reduced_output: bool = False
    event_content_type: ContentType | None = None
    operation_timeout_s: float = 80.0
    max_concurrent_operations: int = 100
    clock_datastream: str = "device.clock"
    allow_set_clock: bool = False
    time_sync: bool = False
    time_source: str | None = None
    time_sources: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()


class ClockOperationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.operation.setclock.cfg`` or ``es.amplia.oda.operation.synchronizeclock.cfg``.

    ``clock_datastream`` None means the one from the dispatcher's file.
    """

    clock_datastream: str | None = None


class UpdateKey(msgspec.Struct, frozen=True):
    """The key that signs updates: ``public`` are the 32 bytes of an Ed25519 public key, ``id`` the
    8 bytes by which minisign names it."""

    id: bytes
    public: bytes

    def __str__(self) -> str:
        """As minisign writes it."""
        return b64encode(b"Ed" + self.id + self.public).decode()


class UpdateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.operation.update.cfg``: what the platform may install with UPDATE.

    ``roots`` are directories for files, ``configuration`` are names of .cfg files of this agent
    (``*``: all but this one), the four commands install packages. With none of them UPDATE is off.
    ``hosts`` and ``key_hosts`` are texts ``host`` or ``host:port``. With ``key`` every element must
    be signed.
    ``directory`` holds downloads and the record of the update that runs.
    """

    roots: tuple[Path, ...] = ()
    configuration: tuple[str, ...] = ()
    package_install: str | None = None
    package_remove: str | None = None
    package_version: str | None = None
    package_restore: str | None = None
    package_timeout_s: float = 600.0
    hosts: tuple[str, ...] = ()
    key_hosts: tuple[str, ...] = ()
    key: UpdateKey | None = None
    max_bytes: int = 256 * 1024 * 1024
    timeout_s: float = 3600.0
    confirm_s: float = 300.0
    directory: Path = Path("oda-update")


class ScriptEffect(Enum):
    """What the script of an operation ends: nothing, the agent, or the whole device."""

    NONE = "NONE"
    RESTARTS = "RESTARTS"
    REBOOTS = "REBOOTS"


class ScriptOperationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One line ``<OPERATION>=<script>[;option]...`` of the operations' file. ``serves_devices``: it
    is also for devices behind the agent."""

    name: str
    command: str
    effect: ScriptEffect = ScriptEffect.NONE
    serves_devices: bool = False


class OperationsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.operations.scripts.cfg``.

    ``path`` is where its scripts are kept; None means the ``path`` of the device info file.
    ``read_after_restart`` are datastreams of the device.
    """

    path: Path | None = None
    script_timeout_s: float = 60.0
    script_max_output_bytes: int = 64 * 1024
    reboot_command: str | None = None
    restart_command: str | None = None
    restart_timeout_s: float = 300.0
    read_after_restart: tuple[str, ...] = ()
    scripts: tuple[ScriptOperationSettings, ...] = ()


class PollerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.subsystem.poller.cfg``: which datastreams the agent reads, and when."""

    schedules: tuple[Schedule, ...] = ()


class CollectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.subsystem.collector.cfg``: which stored values it publishes, and when."""

    schedules: tuple[Schedule, ...] = ()


class StateManagerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.statemanager.inmemory.cfg``; its presence selects the in-memory manager."""

    database_path: Path | None = None
    max_data: int = 1000
    forget_time_s: float = 3600.0
    forget_period_s: float = 60.0


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin to load, with its options, from ``es.amplia.oda.plugins.cfg``."""

    name: str
    options: Mapping[str, str] = msgspec.field(default_factory=dict)


class LogLevel(Enum):
    """How much a component logs, from everything to defects only."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class ComponentLogLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One line ``log.<component>=<level>``: ``component`` is a package or module below ``oda``
    (``connector``, ``connector.link``), or ``twisted``."""

    component: str
    level: LogLevel


class MonitorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``es.amplia.oda.monitor.cfg``. ``port`` None means no server."""

    port: int | None = None
    interface: str = "127.0.0.1"
    log_level: LogLevel = LogLevel.INFO
    log_levels: tuple[ComponentLogLevel, ...] = ()


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an agent needs to know. ``state_manager`` None selects the realtime manager."""

    connector: ConnectorSettings
    device_info: DeviceInfoSettings
    outbox: OutboxSettings = OutboxSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    set_clock: ClockOperationSettings = ClockOperationSettings()
    synchronize_clock: ClockOperationSettings = ClockOperationSettings()
    update: UpdateSettings = UpdateSettings()
    operations: OperationsSettings = OperationsSettings()
    poller: PollerSettings = PollerSettings()
    collector: CollectorSettings = CollectorSettings()
    state_manager: StateManagerSettings | None = None
    monitor: MonitorSettings = MonitorSettings()
    plugins: tuple[PluginSettings, ...] = ()
