"""Every contract between the parts of the agent, and with users' code.

This module has no implementation. Unless its docstring says otherwise, a method is called in the
reactor's thread and must not block. "Value or Deferred" means that a method may return its value
directly or through a Deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from oda.model import (
    Answer,
    ConnectionStatus,
    ContentType,
    DatastreamValue,
    DeploymentElement,
    Event,
    InterruptedOperation,
    MessageClass,
    Moment,
    OperationRequest,
    OutboxRow,
    OutgoingMessage,
    ScriptOutput,
    Step,
)


class IWallClock(Interface):
    """The time of day. Intervals don't use it: they run on the reactor's monotonic clock."""

    def now_ms() -> int:
        """Milliseconds since the Unix epoch; may jump in either direction at any time."""


class IDating(Interface):
    """Knows whether the time of day can be believed, and when a moment was for which it could not.

    The time of day is wrong on a device without a battery for its clock, from its start until
    something sets the clock.
    """

    def is_right() -> bool:
        """Whether the time of day can be believed now; cheap."""

    def moment() -> Moment:
        """Now, on the clock that no correction moves."""

    def date(moment: Moment) -> tuple[int, int | None] | None:
        """When that was: ``at`` in milliseconds since the Unix epoch, and None. Where only bounds
        are known: it was not after the first and not before the second. None where nothing is known
        yet. The answer for a moment stays the same."""


class ICounters(Interface):
    """Counts events and measurements of the agent."""

    def increment(name: str, amount: int = 1, **labels: str) -> None:
        """Add ``amount`` to the counter ``name`` (snake_case, no prefix) with these labels.

        Never raises. Called once per batch, not once per datapoint.
        """

    def observe(name: str, value: float, **labels: str) -> None:
        """Record one measurement (seconds, bytes; the unit ends the name). Never raises."""


class IDeviceInfoProvider(Interface):
    """Who this device is (DeviceInfoProvider). The agent asks before the first connection, and
    again after its configuration has changed."""

    def device_id() -> Any:
        """The device's id (text, not empty), as a value or Deferred.

        The Deferred fails with ``ReadingFailed`` when there is no id; the agent then logs the
        reason, does not connect, and asks again later.
        """

    def api_key() -> str:
        """The key that authenticates the device. The caller must not log or keep it."""

    def serial_number() -> Any:
        """The serial number (text) as a value or Deferred; fails with ``ReadingFailed``."""

    def software() -> Any:
        """Installed software: a list of ``{"name", "version", "type"}``, as a value or Deferred."""


class IDispatcher(Interface):
    """Takes each message from the platform and makes the answer (Dispatcher)."""

    def process(payload: bytes, content_type: ContentType | None) -> Deferred[Any]:
        """Called once for every received message, in the order of arrival, without waiting for
        earlier messages.

        ``content_type`` is the format that the first byte announces, None for no known format. The
        Deferred fires with the payload to send back, in the format of the request, or with None for
        no answer. An ``Answer`` instead of bytes also ends a record of the journal. The Deferred
        must not fail; if it does, the connector logs and counts the failure and stays connected.
        """


class IConnector(Interface):
    """Sends messages to the platform."""

    is_connected: bool = Attribute("True while the WebSocket is open.")

    def uplink(
        payload: bytes,
        content_type: ContentType,
        datapoints: int = 0,
        fresh_payload: bytes | None = None,
    ) -> Deferred[int]:
        """Accept a telemetry message for delivery, connected or not.

        The Deferred fires with the row's id when the message is accepted: from then on the message
        is either delivered, or lost with a log line and a count. It fails with ``OutboxError`` when
        the message is not accepted. ``datapoints`` is the number to count. ``fresh_payload``
        replaces the payload if the first transmission happens within a few seconds (the reduced
        form, which has no time).
        """

    def uplink_response(answer: bytes | Answer, content_type: ContentType) -> Deferred[int]:
        """Like ``uplink``, for an answer to an operation; answers are sent before telemetry.

        A partial answer is bytes. An ``Answer`` ends the operation's record in the same
        transaction; if it is too large to send, an error answer replaces it.
        """

    def uplink_no_qos(payload: bytes, content_type: ContentType) -> None:
        """Send now or raise ``NotConnected``. The message is neither stored nor retried."""


class IConnectionObservable(Interface):
    """Reports the state of the connection."""

    def status() -> ConnectionStatus:
        """The current state of the connection; cheap, may be called at any time."""


class ICodec(Interface):
    """One message format. Implementations keep no state between calls."""

    content_type: ContentType = Attribute("The format of this codec.")

    def encode(message: object) -> bytes:
        """The bytes of ``message``: a type of ``oda.model``, or dict, list, str, int, float, bool
        and None in any nesting.

        Raises ``EncodeError``, which names the member, for a value that the format can't carry.
        """

    def decode(payload: bytes) -> Any:
        """The message in ``payload`` as dict, list, str, int, float, bool, None (and bytes in the
        binary formats).

        Raises ``DecodeError`` for anything else: malformed, too deeply nested, too long, trailing
        bytes, or keys that aren't text. Uses no more memory than a small multiple of the payload.
        """


class ICheckedEncoding(Interface):
    """An optional addition to ``ICodec``, for the agent's hot path."""

    def encode_checked(document: object) -> bytes:
        """Like ``ICodec.encode``, for a document whose ids, times and values are already checked,
        as those of telemetry are when they are published. The codec need not check them again.

        Raises ``EncodeError`` for what that check does not cover (text that is not Unicode).
        """


class ITolerantDecoding(Interface):
    """An optional addition to ``ICodec``: finds the sender in a message that the codec refuses. So
    the agent can answer a request with a number out of range, instead of ignoring it.
    """

    def members(payload: bytes, *path: str, names: Collection[str]) -> Mapping[str, bytes] | None:
        """The members with these names of the object at ``path``, each in encoded form; None if
        there is no object. A member that is too long to examine may be replaced by bytes that no
        decoder accepts.

        Examines only the structure: builds nothing of what the message claims to hold. Raises
        ``DecodeError`` where the structure is malformed or too deeply nested.
        """

    def decode_tolerantly(payload: bytes) -> Any:
        """Like ``ICodec.decode``, for one member: a number that can't be read becomes its text, and
        invalid Unicode in a text becomes U+FFFD. Raises ``DecodeError`` if that does not help.
        """


class ICodecRegistry(Interface):
    """The codecs of an agent, by content type."""

    def detect(payload: bytes) -> ContentType | None:
        """The format that the first byte announces (after white space for JSON), or None."""

    def codec(content_type: ContentType) -> Any:
        """The ``ICodec`` for that format; raises ``CodecError`` when there is none."""


class IDatastreamGetter(Interface):
    """Reads one datastream of one or several devices."""

    datastream_id: str = Attribute("The datastream this getter reads.")

    def devices() -> Iterable[str]:
        """The ids of the devices it reads, "" for the host; called again whenever needed."""

    def get(device_id: str) -> Any:
        """The current ``Reading`` of that device, as a value or Deferred.

        The call may raise, or the Deferred fail with, anything. The platform gets the text of the
        error; every error other than ``ReadingFailed`` is also logged with its traceback.
        """


class ILimitsItself(Interface):
    """An optional addition to ``IDatastreamGetter``: every Deferred of its ``get`` fires within a
    time limit of the getter's own. The agent then sets no limit.
    """


class IDatastreamSetter(Interface):
    """Writes one datastream of one or several devices."""

    datastream_id: str = Attribute("The datastream this setter writes.")

    def devices() -> Iterable[str]:
        """The ids of the devices it writes, "" for the host; called again whenever needed."""

    def set(device_id: str, value: Any) -> Any:
        """Write ``value``; returns None or a Deferred that fires with None when done.

        Fails or raises like ``IDatastreamGetter.get``, with ``WritingFailed``.
        """


class IDatastreamRegistry(Interface):
    """The getters and setters of each datastream and device; changes while the agent runs.

    Device patterns: "" is the host only; a text without ``*`` is that device; a text with one ``*``
    is every device whose id starts with the text before it and ends with the text after it. ``*``
    alone is every device, the host included. The host's own id means "" wherever it names a device.
    """

    def add_getter(getter: Any) -> None:
        """Register an ``IDatastreamGetter``.

        Raises ``DatastreamTaken`` when another getter already reads one of its devices, and
        ``DatastreamError`` when its datastream id is invalid; the id is read once. If the
        ``devices()`` of two getters overlap later, the older getter reads the shared devices.
        """

    def remove_getter(getter: Any) -> None:
        """Remove the getter; raises ``DatastreamNotFound`` when it is not registered."""

    def add_setter(setter: Any) -> None:
        """Register an ``IDatastreamSetter``; raises like ``add_getter``."""

    def remove_setter(setter: Any) -> None:
        """Remove the setter; raises ``DatastreamNotFound`` when it is not registered."""

    def getters(datastream_id: str, device_pattern: str) -> Sequence[tuple[str, Any]]:
        """``(device_id, getter)`` for each device that matches: the host first, then by id."""

    def setter(datastream_id: str, device_id: str) -> Any:
        """The ``IDatastreamSetter``, or None when there is none."""

    def canonical_id(device_id: str) -> str:
        """ "" for the host's own id; any other device id or pattern unchanged."""

    def writable(device_pattern: str) -> Sequence[tuple[str, str]]:
        """``(datastream_id, device_id)`` of everything that can be written of matching devices,
        sorted by datastream, then the host first, then by id."""

    def datastream_ids(device_pattern: str) -> Sequence[str]:
        """The datastreams that at least one matching device can read, sorted."""


class IDatastreamAccess(Interface):
    """Reads and writes datastreams through the registered getters and setters.

    The outcome is always a value. If a getter or setter raises, fails or never answers, the value
    has status ERROR and the reason. An unexpected exception is logged once with its traceback, and
    not again until that datastream works; ``ReadingFailed`` and ``WritingFailed`` are not logged
    here. Values of the host carry device id "". Device patterns are those of
    ``IDatastreamRegistry``.
    """

    def read(datastream_id: str, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        """Read one datastream of every matching device, now and all at once.

        Fires with one value per device, the host first, then by id. If there is no device, it fires
        with one value of status NOT_FOUND, whose device id is the pattern. A value of status OK
        always has ``at_ms`` or, while the time of day can't be believed, ``taken``. The Deferred
        never fails. It has already fired on return if every getter answered at once, and fires at
        the latest at the time limit of a reading. Cancelling it cancels the open readings, which
        become ERROR.
        """

    def read_all(device_pattern: str) -> Deferred[list[DatastreamValue]]:
        """Like ``read``, for every datastream of the matching devices, sorted by datastream; fires
        with an empty list when there is none."""

    def write(device_id: str, datastream_id: str, value: Any) -> Deferred[DatastreamValue]:
        """Write one datastream of one device (not a pattern).

        Fires with status OK and the value written, NOT_FOUND, or ERROR with the reason. Never
        fails; time limit and cancelling are those of ``read``.
        """


class ITimeSource(Interface):
    """A source for the time of day that is better than the device's clock."""

    def now_ms() -> Deferred[int]:
        """Milliseconds since the Unix epoch, queried anew at each call.

        Fails with ``ReadingFailed`` (no answer in time, or an answer that can't be trusted); may be
        cancelled.
        """


class IDatastreamSource(Interface):
    """Produces events by itself (a bus, a socket, a sensor with interrupts)."""

    def start(publish: Callable[[Sequence[Event]], Deferred[None]]) -> Any:
        """Start to produce events; called once after the agent has started. ``publish`` accepts
        events and returns a Deferred that fires when they are accepted or fails with the reason; a
        source that can wait should wait for it. Returns None or a Deferred."""

    def stop() -> Any:
        """Stop; publish no event after the returned Deferred (or None) has fired."""


class IProgress(Interface):
    """What an operation tells while it runs. Calling it sends a partial answer."""

    def __call__(steps: Sequence[Step]) -> None:
        """Send a partial answer with the steps done so far.

        May be called any number of times before the end, and is ignored afterwards. Raises
        ``OperationFailed`` for steps that can't be sent.
        """

    def save(state: Any) -> Deferred[None]:
        """Keep ``state`` with the operation's record, in the place of what was saved before.

        Only for an operation that provides ``IResumableOperation``. ``state`` is None, bool, int,
        float, str, bytes, or a list or dict (with text keys) of these; at most 256 KiB together
        with the request's parameters, which are kept with it.

        The Deferred fires with None once the state is committed: from then on the operation is
        resumed if the process ends before the answer. Partial answers that were sent before are
        committed as well by then. It fails with ``OperationFailed`` for a state that can't be kept,
        and with ``OutboxError`` when it could not be committed (with ``outbox=memory`` always). A
        commit that reports an error may have worked all the same.
        """


class IOperation(Interface):
    """Handles one operation, by name."""

    name: str = Attribute("The operation's name on the wire, e.g. REFRESH_INFO.")

    reads_only: bool = Attribute(
        "True when running it twice does no harm: the journal then needs no record before it runs."
    )

    def execute(request: OperationRequest, progress: IProgress) -> Any:
        """Run the operation; returns the ``OperationResult`` as a value, Deferred or coroutine.

        ``progress(steps)`` sends a partial answer; see ``IProgress``. Raise (or fail with)
        ``OperationError`` to choose the answer. Let ``CancelledError`` pass: the agent cancels the
        Deferred at the time limit. Any other error gives the answer ERROR_PROCESSING with its text,
        and is logged with its traceback.
        """


class IResumableOperation(Interface):
    """What an operation may provide besides ``IOperation``: it continues after a restart of the
    agent, instead of being answered "interrupted".

    It says so by ``progress.save(state)``. As long as nothing is saved, it is interrupted as any
    other. Once something is, the end of the process does not answer it: its Deferred is cancelled,
    its record stays open, and the next process calls ``resume``. It always counts as one that acts.
    """

    time_limit_s: float | None = Attribute(
        "How long it may take, in seconds from the request and again from each restart; None: the"
        " operationTimeout of the configuration. Asked once for each run."
    )

    def resume(request: OperationRequest, state: Any, progress: IProgress) -> Any:
        """Go on after a restart; returns, raises and is cancelled as ``IOperation.execute``.

        Called once in each process, after the agent has started, connected or not. ``request`` has
        its parameters. ``state`` is what was committed last (a tuple is a list by then). Whatever
        was done after that commit may have been done or not. One that is resumed several times
        without saving another state is given up, and answered "interrupted".
        """


class IScriptRunner(Interface):
    """Runs the configured commands of operations. No shell is involved."""

    def run_once(
        command: str,
        variables: Mapping[str, str],
        written: bytes,
        on_output: Callable[[bytes], None],
        survives: bool = False,
    ) -> Deferred[ScriptOutput]:
        """Run ``command`` for one caller; a command never runs twice at the same time.

        ``variables`` are added to its environment, ``written`` is its standard input, and
        ``on_output`` gets its standard output piece by piece; it must not raise. Fires with
        everything that the command wrote, whatever its exit status. Fails with ``ReadingFailed`` if
        there is no such program, at the limits, after a signal, and at the end of the agent.
        Cancelling it ends the command. One that ``survives`` goes on, once it has started, when it
        is cancelled and when the agent ends.
        """


class IOperationRoute(Interface):
    """Passes operations down to gateways behind this device, and their answers up."""

    def execute(gateway: str, request: OperationRequest, progress: IProgress) -> Any:
        """Have ``gateway``, the next one on the request's path, execute the operation.

        ``request.path`` holds the gateways behind it; it is () for the last gateway. Returns the
        ``OperationResult`` like ``IOperation.execute``, with the same time limit, partial answers,
        record and errors. Return the result code NOT_SUPPORTED for an unknown gateway.
        """


class IJournal(Interface):
    """Remembers operations by their requests, so that none runs twice.

    Two requests are the same if their id, name, device, path and parameters are equal. All other
    requests have records of their own, even if they share an id.
    """

    def begin(
        request_id: str,
        name: str,
        acts: bool,
        request: OperationRequest | None = None,
        content_type: ContentType | None = None,
    ) -> Any:
        """Called when a request arrives; returns a value or Deferred.

        The journal keeps ``request`` (a fingerprint only of its parameters) and the
        ``content_type`` of its answer, for the answer to an interrupted operation; see
        ``interrupted``. Without ``request``, only id and name count. The Deferred fails with
        ``OutboxError`` when the operation can't be recorded; the operation must not run then.

        The result is the number of the new record (once it is committed, for an operation that
        ``acts``), or the ``JournalEntry`` of an equal earlier request. The entry holds the answer,
        or says that the operation is still running, or that it has ended and its answer is no
        longer kept. An operation that only reads may get a new record where other requests share
        its id.

        The record ends when its answer is put into the outbox, as the ``OutgoingMessage`` whose
        ``record`` is that number. Both are committed in one transaction.
        """

    def save(record: int, saved: bytes) -> Deferred[None]:
        """Keep ``saved`` with a running record, in the place of what was saved before, until the
        record ends. The operation then comes back from ``interrupted`` with it.

        Fires with None once it is committed; fails with ``OutboxError`` when it could not be, for a
        record that is not running, and where nothing outlives the process.
        """

    def interrupted() -> Sequence[InterruptedOperation]:
        """The operations recorded as running when an earlier process ended, and not yet answered,
        oldest first. Until they are answered, a repeated request counts as running."""

    def subscribe(on_interrupted: Callable[[], None]) -> None:
        """Call ``on_interrupted`` when the journal learns of interrupted operations after the
        start, because the store could not be opened before. Never called during a call into the
        outbox."""


class IEventDispatcher(Interface):
    """Turns events into OpenGate documents and passes them to the connector."""

    def publish(events: Event | Sequence[Event]) -> Deferred[None]:
        """Accept events for delivery in the order given: either all of them or none.

        The Deferred fires with None when all are accepted (with a durable outbox: committed). It
        fails with ``EventRejected`` when an event can't be published, or with ``OutboxError``.
        """

    def publish_now(events: Event | Sequence[Event]) -> Deferred[None]:
        """Like ``publish``, but without the collection delay that the configuration sets for the
        datastream: the platform or a user has requested these values."""


class IChangeFilter(Interface):
    """Chooses which of the values that are read become datapoints."""

    def passes(value: DatastreamValue) -> bool:
        """Whether to publish the value, which then counts as published."""

    def forget(device_id: str) -> None:
        """A value of this device was not accepted after all."""


class IStateManager(Interface):
    """Knows the values of datastreams, and decides what happens to a new value.

    Device patterns: "" (the host only), an id, or a text with one ``*``; see the telemetry page.
    """

    def get(
        device_pattern: str, datastream_ids: Sequence[str] | None
    ) -> Deferred[list[DatastreamValue]]:
        """The current values of these datastreams (None: all there are), in the order asked for.

        Each value is read from the source now. A stored value is returned only for a device whose
        datastream has no getter. An unknown datastream gives one value with status NOT_FOUND, a
        failed reading one with status ERROR. Values that were read are published as telemetry, by
        ``IEventDispatcher.publish_now``. Never fails.
        """

    def set(device_id: str, values: Sequence[tuple[str, Any]]) -> Deferred[list[DatastreamValue]]:
        """Write the values in the order given; one outcome for each. Never fails."""

    def received(events: Sequence[Event]) -> Deferred[None]:
        """Handle new values (from a poll, a source, a shell).

        The Deferred fires when they are accepted: published, or stored until the collector
        publishes them. It fails like ``IEventDispatcher.publish``.
        """

    def read(
        datastream_id: str, device_pattern: str, changes: IChangeFilter | None = None
    ) -> Deferred[list[DatastreamValue]]:
        """Read from the source now, and handle the values like ``received``. Never fails.

        ``changes`` chooses the values to handle; the others are only returned.
        """

    def collect(datastream_id: str, device_pattern: str) -> Deferred[int]:
        """Publish the stored values that are not yet published; fires with their number."""


class IOutbox(Interface):
    """Keeps messages from acceptance to acknowledgement, in the order they must be sent.

    A row is *waiting* (to be sent), *in flight* (taken, not acknowledged) or *lingering*
    (acknowledged but retained for a while, because a pong does not prove a commit by the platform).
    """

    def put(message: OutgoingMessage) -> Deferred[int]:
        """Accept a message; fires with its row id once accepted, fails with ``OutboxError``."""

    def take(
        max_messages: int, max_bytes: int, only: MessageClass | None = None
    ) -> Sequence[OutboxRow]:
        """The next waiting rows, now in flight: responses first, then telemetry, each in the order
        of acceptance. Returns at least one row of any size if there is one (of class ``only``).
        """

    def retire(row_ids: Sequence[int], linger_s: float | None = None) -> None:
        """The peer's WebSocket layer has read these rows: they linger, then are deleted.

        ``linger_s``, in seconds, replaces the configured time, unless the outbox needs the room.
        """

    def rewind(replay_lingering: bool, max_bytes: int | None = None) -> None:
        """The connection is lost: rows in flight wait again, in their old order. With
        ``replay_lingering``, so do lingering rows: all of them, or the newest that together cost at
        most ``max_bytes``. The last acknowledged rows are always among them, whatever their
        size."""

    def settle() -> None:
        """The connection was closed cleanly (code 1000 in both directions): acknowledged rows need
        no replay."""

    def bury(row_ids: Sequence[int], reason: str) -> None:
        """Set rows aside as dead letters: counted, and never sent again unless somebody asks."""

    def subscribe(on_pending: Callable[[], None]) -> None:
        """Call ``on_pending`` (soon) whenever rows wait that ``take`` has not seen."""

    def answer_bytes() -> int:
        """The bytes that waiting and in-flight answers take; cheap. A reader of requests stops
        reading while this is large. The outbox accepts an answer as long as this is less than its
        capacity, even if it has no room left for the answer."""

    def counts() -> Mapping[str, int]:
        """Rows by state (``waiting``, ``in_flight``, ``lingering``, ``dead``), ``bytes``, and
        ``oldest_age_ms``: the age of the oldest row that is waiting or in flight, 0 if there is
        none (the key may be missing where ages are unknown)."""

    def close() -> Deferred[None]:
        """Close the store. Later ``put`` calls fail with ``OutboxClosed``."""


class IInstaller(Interface):
    """Puts elements of an UPDATE in place, and takes them back.

    For each element the calls come in this order: ``check`` before anything is downloaded, then
    ``backup``, ``install``, and ``release`` once the update is confirmed. ``restore`` and then
    ``release`` follow a failure. The process may end at any moment, also within a call: the next
    process calls ``restore`` and ``release`` again. So these two must be right whatever was done
    before: nothing, a part, everything, or themselves.

    Every method may return its value or a Deferred, and may raise anything: it fails the update,
    with the error's text as the reason. What blocks belongs into a thread.
    """

    name: str = Attribute("The name by which the record of an update finds it after a restart.")

    def claims(element: DeploymentElement) -> bool:
        """Whether it is the one to install that element. Installers of plugins are asked before
        the agent's own."""

    def check(element: DeploymentElement) -> Any:
        """Raise where the element can't be installed as things are: ``InvalidParameter``,
        ``OperationNotSupported`` (with the name of the key that would allow it), or
        ``OperationFailed``. Changes nothing."""

    def validate(elements: Sequence[DeploymentElement], files: Sequence[Path | None]) -> Any:
        """Look at all its elements of the update together, with the files downloaded for them
        (None for an UNINSTALL), and raise where they can't be used. Changes nothing."""

    def backup(element: DeploymentElement) -> Any:
        """Keep what the element will replace. Returns what ``restore`` needs to know, as JSON can
        carry it: it is on disk before ``install`` is called."""

    def install(element: DeploymentElement, file: Path | None, note: Any) -> Any:
        """Put the element in place. ``file`` is the downloaded file, None for an UNINSTALL;
        ``note`` is what ``backup`` returned. The file belongs to the caller: copy it."""

    def activate() -> Any:
        """What was installed, or restored, is complete: let it take effect. Called once for all
        its elements."""

    def restore(element: DeploymentElement, note: Any) -> Any:
        """Make everything as it was when ``backup`` returned ``note``."""

    def release(element: DeploymentElement, note: Any) -> Any:
        """Forget the backup, and whatever an interrupted ``backup`` or ``install`` has left.
        ``note`` is None where ``backup`` has not returned."""


class IPlugin(Interface):
    """A ``twisted.plugin`` in the package ``oda.plugins``: adds getters, setters, sources,
    operations or codecs, or replaces the dispatcher or the device info.
    """

    name: str = Attribute("The name that loads it in the configuration.")

    def create(options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        """The objects it adds, each providing one or more interfaces of this module.

        Called once at start, before the connection. Any error it raises stops the start.
        """
