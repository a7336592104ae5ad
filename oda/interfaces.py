"""Every contract between the parts of the agent, and with the code of its users.

Nothing here has an implementation. Unless a method says otherwise it is called in the reactor's
thread, must not block, and may return its value either at once or through a Deferred where a
Deferred is announced as "value or Deferred".
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
    OperationRequest,
    OutboxRow,
    OutgoingMessage,
    Step,
)


class IWallClock(Interface):
    """The time of day. Intervals never use it: they run on the reactor's monotonic clock."""

    def now_ms() -> int:
        """Milliseconds since the Unix epoch; may jump in either direction at any time."""


class ICounters(Interface):
    """Where the agent counts what happens to it."""

    def increment(name: str, amount: int = 1, **labels: str) -> None:
        """Add ``amount`` to the counter ``name`` (snake_case, no prefix) with these labels.

        Never raises. Called once per batch rather than once per datapoint.
        """

    def observe(name: str, value: float, **labels: str) -> None:
        """Record one measurement (seconds, bytes; the unit ends the name). Never raises."""


class IDeviceInfoProvider(Interface):
    """Who this device is (DeviceInfoProvider). Asked once before the first connection, and again
    after its configuration changed."""

    def device_id() -> Any:
        """The device's id (text, not empty), as a value or Deferred.

        The Deferred fails with ``ReadingFailed`` when there is none; the agent then does not
        connect, says why, and asks again later.
        """

    def api_key() -> str:
        """The key that authenticates the device. It must not be logged or kept by the caller."""

    def serial_number() -> Any:
        """The serial number (text) as a value or Deferred; fails with ``ReadingFailed``."""

    def software() -> Any:
        """Installed software: a list of ``{"name", "version", "type"}``, as a value or Deferred."""


class IDispatcher(Interface):
    """Takes what the platform sends and makes the answer (Dispatcher)."""

    def process(payload: bytes, content_type: ContentType | None) -> Deferred[Any]:
        """Called once for every message received, in the order of arrival, without waiting for
        earlier ones to finish.

        ``content_type`` is what the first byte says, None when it says nothing. The Deferred fires
        with the payload to send back, in the format of the request, or with None when there is
        nothing to answer. An ``Answer`` instead of the bytes ends a record of the journal. It must
        not fail; the connector logs and counts it if it does, and the connection stays open.
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

        The Deferred fires with the row's id when the message is accepted: from then on it is
        delivered or its loss is counted and logged. It fails with ``OutboxError`` when it is not
        accepted. ``datapoints`` is counted. ``fresh_payload`` replaces the payload if the message
        goes out for the first time within a few seconds (the reduced form, which has no time).
        """

    def uplink_response(answer: bytes | Answer, content_type: ContentType) -> Deferred[int]:
        """As ``uplink``, for an answer to an operation: it goes out before telemetry.

        A partial answer is given as bytes. An ``Answer`` ends the operation's record in the same
        transaction; where it is too large to be sent, an error answer takes its place.
        """

    def uplink_no_qos(payload: bytes, content_type: ContentType) -> None:
        """Send now or not at all; raises ``NotConnected``. Nothing is stored or repeated."""


class IConnectionObservable(Interface):
    """Tells how the connection is."""

    def status() -> ConnectionStatus:
        """The connection as it is now; cheap, may be called at any time."""


class ICodec(Interface):
    """One format of messages. Implementations keep no state between calls."""

    content_type: ContentType = Attribute("The format this codec speaks.")

    def encode(message: object) -> bytes:
        """The bytes of ``message``: a type of ``oda.model``, or dict, list, str, int, float, bool
        and None in any nesting.

        Raises ``EncodeError``, naming the member, for what the format can't carry.
        """

    def decode(payload: bytes) -> Any:
        """The message in ``payload`` as dict, list, str, int, float, bool, None (and bytes in the
        binary formats).

        Raises ``DecodeError`` for anything else: malformed, too deep, too long, trailing bytes,
        keys that are no text. It uses no more memory than a small multiple of the payload.
        """


class ICheckedEncoding(Interface):
    """What a codec may offer besides ``ICodec``, for the agent's busiest way."""

    def encode_checked(document: object) -> bytes:
        """As ``ICodec.encode``, for a document whose ids, times and values have been checked one by
        one, as those of telemetry are when they are published: nothing has to be looked at again.

        Raises ``EncodeError`` for what the check does not see (text that is no Unicode).
        """


class ITolerantDecoding(Interface):
    """What a codec may offer besides ``ICodec``: to find out who asks, in a message that it
    refuses. A request with a number out of range is answered this way, instead of being ignored.
    """

    def members(payload: bytes, *path: str, names: Collection[str]) -> Mapping[str, bytes] | None:
        """The members of these names of the object at ``path``, each as it is encoded; None if
        there is no object. One that is too long to be looked at may be given as something that no
        decoder takes.

        Only the structure is looked at: nothing is built of what the message claims to hold.
        Raises ``DecodeError`` where the structure is malformed or nested too deeply.
        """

    def decode_tolerantly(payload: bytes) -> Any:
        """As ``ICodec.decode``, for one member: a number that can't be read becomes its text, and
        what is no Unicode in a text becomes U+FFFD. Raises ``DecodeError`` if that does not help.
        """


class ICodecRegistry(Interface):
    """The codecs of an agent, by content type."""

    def detect(payload: bytes) -> ContentType | None:
        """The format that the first byte announces (after white space for JSON), None if none."""

    def codec(content_type: ContentType) -> Any:
        """The ``ICodec`` for that format; raises ``CodecError`` when nobody speaks it."""


class IDatastreamGetter(Interface):
    """Reads one datastream, of one or several devices."""

    datastream_id: str = Attribute("The datastream this getter reads.")

    def devices() -> Iterable[str]:
        """The ids of the devices it reads, "" being the host; asked anew whenever needed."""

    def get(device_id: str) -> Any:
        """The current ``Reading`` of that device, as a value or Deferred.

        The Deferred may fail, or the call raise, with anything: the text of ``ReadingFailed`` goes
        to the platform, other exceptions are logged with their traceback first.
        """


class ILimitsItself(Interface):
    """What a getter may provide besides ``IDatastreamGetter``: every Deferred of its ``get`` fires
    within a time that the getter itself limits. The agent sets no limit of its own then.
    """


class IDatastreamSetter(Interface):
    """Writes one datastream, of one or several devices."""

    datastream_id: str = Attribute("The datastream this setter writes.")

    def devices() -> Iterable[str]:
        """The ids of the devices it writes, "" being the host; asked anew whenever needed."""

    def set(device_id: str, value: Any) -> Any:
        """Write ``value``; returns None or a Deferred that fires with None when it is done.

        Fails or raises like ``IDatastreamGetter.get``, with ``WritingFailed``.
        """


class IDatastreamRegistry(Interface):
    """Who reads and writes which datastream of which device; changes while the agent runs.

    Device patterns: "" is the host only, a text without ``*`` that device, a text with one ``*``
    every device whose id has the text before it as prefix and the text after it as suffix. ``*``
    alone is every device, the host included. The host's own id means "" wherever a device is named.
    """

    def add_getter(getter: Any) -> None:
        """Take up an ``IDatastreamGetter``.

        Raises ``DatastreamTaken`` when another getter reads one of its devices already, and
        ``DatastreamError`` when the id of its datastream is none: it is asked once. A getter whose
        ``devices()`` grow later into another's is not asked for those: the older one is.
        """

    def remove_getter(getter: Any) -> None:
        """Forget it; raises ``DatastreamNotFound`` when it is not registered."""

    def add_setter(setter: Any) -> None:
        """Take up an ``IDatastreamSetter``; raises as ``add_getter``."""

    def remove_setter(setter: Any) -> None:
        """Forget it; raises ``DatastreamNotFound`` when it is not registered."""

    def getters(datastream_id: str, device_pattern: str) -> Sequence[tuple[str, Any]]:
        """``(device_id, getter)`` for each device that matches: the host first, then by id."""

    def setter(datastream_id: str, device_id: str) -> Any:
        """The ``IDatastreamSetter``, or None when nobody writes that."""

    def canonical_id(device_id: str) -> str:
        """ "" for the host's own id, any other device id or pattern as it is."""

    def datastream_ids(device_pattern: str) -> Sequence[str]:
        """The datastreams that can be read of at least one matching device, sorted."""


class IDatastreamAccess(Interface):
    """Reads and writes datastreams through whoever is registered for them.

    The outcome is always a value: what a getter or setter raises, fails with, or never answers
    becomes status ERROR with its reason. An unexpected exception is logged with its traceback once
    until that datastream works again; ``ReadingFailed`` and ``WritingFailed`` are not logged here.
    Host values carry device id "". Device patterns are those of ``IDatastreamRegistry``.
    """

    def read(datastream_id: str, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        """Read one datastream of every device that matches, now and all at once.

        Fires with one value per device, the host first, then by id; when there is none, with one
        value of status NOT_FOUND and the pattern as its device id. ``at_ms`` is always filled in a
        value of status OK. The Deferred never fails, has fired already when every getter answered
        at once, and fires at the latest when the time limit of a reading is over. Cancelling it
        cancels the readings: those still open become ERROR.
        """

    def read_all(device_pattern: str) -> Deferred[list[DatastreamValue]]:
        """As ``read``, for every datastream of the matching devices, sorted by datastream; fires
        with an empty list when there is none."""

    def write(device_id: str, datastream_id: str, value: Any) -> Deferred[DatastreamValue]:
        """Write one datastream of one device (no pattern).

        Fires with status OK and the value written, NOT_FOUND, or ERROR with the reason. Never
        fails; time limit and cancelling as in ``read``.
        """


class ITimeSource(Interface):
    """Knows the time of day better than the device does."""

    def now_ms() -> Deferred[int]:
        """Milliseconds since the Unix epoch, asked anew at each call.

        Fails with ``ReadingFailed`` (no answer in time, an answer that can't be trusted); may be
        cancelled.
        """


class IDatastreamSource(Interface):
    """Something that produces events by itself (a bus, a socket, a sensor with interrupts)."""

    def start(publish: Callable[[Sequence[Event]], Deferred[None]]) -> Any:
        """Begin; called once after the agent has started. ``publish`` hands events over and
        returns a Deferred that fires when they are accepted, or fails with the reason: a source
        that can wait should wait for it. Returns None or a Deferred."""

    def stop() -> Any:
        """End; no event may be published after the returned Deferred (or None) has fired."""


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
        "True when running it twice does no harm: it then needs no record before it runs."
    )

    def execute(request: OperationRequest, progress: IProgress) -> Any:
        """Run it and return the ``OperationResult``, as a value, Deferred or coroutine.

        ``progress(steps)`` sends a partial answer; see ``IProgress``. Raising (or failing with)
        ``OperationError`` chooses the answer; ``CancelledError`` must be let through: the Deferred
        is cancelled at the time limit. Anything else is answered as ERROR_PROCESSING with its text
        and logged with its traceback.
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


class IOperationRoute(Interface):
    """Hands operations down to gateways behind this device, and their answers up."""

    def execute(gateway: str, request: OperationRequest, progress: IProgress) -> Any:
        """Have the operation executed by ``gateway``, the next one on the request's path.

        ``request.path`` holds the gateways behind it, () where it is the last. Returns the
        ``OperationResult``, as ``IOperation.execute`` does: the same time limit, partial answers,
        record and errors. Return the result code NOT_SUPPORTED for a gateway that is not known.
        """


class IJournal(Interface):
    """Remembers operations by their requests, so that none runs twice.

    Two requests are the same if id, name, device, path and parameters are. Others have records of
    their own, also where they share an id.
    """

    def begin(
        request_id: str,
        name: str,
        acts: bool,
        request: OperationRequest | None = None,
        content_type: ContentType | None = None,
    ) -> Any:
        """Called when a request arrives; a value or Deferred.

        ``request`` and the ``content_type`` of its answer are kept (of the parameters only a
        fingerprint) for the answer that an interrupted operation gets; see ``interrupted``. Without
        ``request``, id and name alone count. The Deferred fails with
        ``OutboxError`` when the operation can't be put on record: it must not run then.

        Gives the number of the new record (for an operation that ``acts``: once it is committed),
        or the ``JournalEntry`` of an earlier request that was the same: its answer, the fact
        that it is still running, or the fact that it has ended and its answer is no longer kept. An
        operation that only reads may get a new record where other requests share its id.

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
        """The operations that were on record as running when an earlier process ended and that have
        no answer yet, oldest first. Until they have, a repeated request counts as running."""

    def subscribe(on_interrupted: Callable[[], None]) -> None:
        """Call ``on_interrupted`` when interrupted operations become known after the start, because
        the store could be opened only then. Never called during a call into the outbox."""


class IEventDispatcher(Interface):
    """Turns events into OpenGate documents and hands them to the connector."""

    def publish(events: Event | Sequence[Event]) -> Deferred[None]:
        """Accept events for delivery, all or none, in the order given.

        The Deferred fires with None when all are accepted (with a durable outbox: committed). It
        fails with ``EventRejected`` when one can't be published, or with ``OutboxError``.
        """

    def publish_now(events: Event | Sequence[Event]) -> Deferred[None]:
        """As ``publish``, without waiting for the line of the configuration that collects the
        events of their datastream: somebody has asked for these values."""


class IStateManager(Interface):
    """Knows the values of datastreams, and what happens when a new one arrives.

    Device patterns: "" (the host only), an id, or a text with one ``*``; see the telemetry page.
    """

    def get(
        device_pattern: str, datastream_ids: Sequence[str] | None
    ) -> Deferred[list[DatastreamValue]]:
        """The current values of these datastreams (None: all there are), in the order asked for.

        They are read from the source, now. A value that is kept is the answer only for a device of
        which nobody reads that datastream. A datastream nobody knows gives one value with status
        NOT_FOUND, one that can't be read status ERROR. What was read is published as telemetry, by
        ``IEventDispatcher.publish_now``. Never fails.
        """

    def set(device_id: str, values: Sequence[tuple[str, Any]]) -> Deferred[list[DatastreamValue]]:
        """Write the values in the order given; one outcome for each. Never fails."""

    def received(events: Sequence[Event]) -> Deferred[None]:
        """New values have arrived (from a poll, a source, a shell).

        The Deferred fires when they are accepted: published, or kept until the collector publishes
        them. It fails as ``IEventDispatcher.publish`` does.
        """

    def read(datastream_id: str, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        """Read from the source, now, and treat what came as ``received``. Never fails."""

    def collect(datastream_id: str, device_pattern: str) -> Deferred[int]:
        """Publish the kept values that were not published yet; fires with their number."""


class IOutbox(Interface):
    """Keeps messages from acceptance to acknowledgement, in the order they have to be sent.

    A row is *pending* (to be sent), *in flight* (taken, not acknowledged) or *lingering*
    (acknowledged, kept for a while because a pong is not a commit by the platform).
    """

    def put(message: OutgoingMessage) -> Deferred[int]:
        """Accept a message; fires with its row id once accepted, fails with ``OutboxError``."""

    def take(
        max_messages: int, max_bytes: int, only: MessageClass | None = None
    ) -> Sequence[OutboxRow]:
        """The next pending rows, now in flight: responses first, then telemetry, each in the order
        of acceptance. At least one row whatever its size, if there is any (of the class ``only``).
        """

    def retire(row_ids: Sequence[int], linger_s: float | None = None) -> None:
        """The peer's WebSocket layer has read these rows: they linger, then are forgotten.

        ``linger_s`` instead of the configured time, in seconds, unless the room is needed.
        """

    def rewind(replay_lingering: bool, max_bytes: int | None = None) -> None:
        """The connection is gone: what was in flight is pending again, in its old place; lingering
        rows too where ``replay_lingering``: all of them, or the newest that cost at most
        ``max_bytes``, and at least those that were acknowledged last, however large they are."""

    def settle() -> None:
        """The connection was closed in good order (code 1000 both ways): what was acknowledged need
        not be repeated any more."""

    def bury(row_ids: Sequence[int], reason: str) -> None:
        """Set rows aside as dead letters; they are counted and never sent again by themselves."""

    def subscribe(on_pending: Callable[[], None]) -> None:
        """Call ``on_pending`` (soon) whenever there are pending rows that ``take`` has not seen."""

    def answer_bytes() -> int:
        """How much room the answers take that are pending or in flight, in bytes; cheap. Whoever
        reads requests stops while it is much. An answer is taken as long as this is less than the
        outbox may hold, even if there is no room left for it."""

    def counts() -> Mapping[str, int]:
        """Rows by state (``pending``, ``in_flight``, ``lingering``, ``dead``), ``bytes``, and
        ``oldest_age_ms``: the age of the oldest row that is pending or in flight, 0 without one
        (may be missing where ages are not known)."""

    def close() -> Deferred[None]:
        """Keep nothing open. Later ``put`` calls fail with ``OutboxClosed``."""


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
    """What a ``twisted.plugin`` in the package ``oda.plugins`` provides: a way for others to add
    getters, setters, sources, operations, codecs, or to replace the dispatcher or the device info.
    """

    name: str = Attribute("The name by which the configuration loads it.")

    def create(options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        """The objects it adds, each providing one or more interfaces of this module.

        Called once at start, before the connection; raise anything to refuse to start.
        """
