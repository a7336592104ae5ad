"""Bundles leave as encoded documents, and their owners learn what became of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.errors import EncodeError, EventRejected
from oda.interfaces import ICheckedEncoding, ICodec, IConnector, ICounters
from oda.model import TelemetryDocument
from oda.telemetry.documents import Bundle
from oda.telemetry.settling import settle
from oda.telemetry.splitting import Part, encode_parts

log = Logger()


class DocumentSender:
    """Encodes with ``codec``, at most ``max_message_bytes`` a message, and hands to ``connector``.

    With ``reduced`` the reduced form goes along, for a message that is sent while it is fresh. The
    three may be changed between two calls of ``send``.
    """

    def __init__(
        self,
        connector: IConnector,
        counters: ICounters,
        codec: ICodec,
        reduced: bool,
        max_message_bytes: int,
    ) -> None:
        self.set_codec(codec)
        self.reduced = reduced
        self.max_message_bytes = max_message_bytes
        self._connector = connector
        self._counters = counters
        self._unanswered: set[Deferred[Any]] = set()

    def set_codec(self, codec: ICodec) -> None:
        """Write later documents with this codec."""
        self.codec = codec
        # Every event was checked when it was published; see ``oda.telemetry.validation``.
        checked = ICheckedEncoding.providedBy(codec)
        self._write = codec.encode_checked if checked else codec.encode  # type: ignore[attr-defined]

    def send(self, bundle: Bundle) -> None:
        """Hand ``bundle`` over in as many documents as it needs, in order.

        Owners of a datapoint that fits in no message get ``EventRejected``, owners of a document
        that the connector does not accept its failure.
        """
        for part in encode_parts(bundle, self._encode, self.max_message_bytes):
            self._send_part(part)

    def answered(self) -> Deferred[None]:
        """Fires when the connector has answered for everything sent so far; never fails."""
        waiting = DeferredList([_observe(uplink) for uplink in self._unanswered])
        return waiting.addCallback(lambda _: None)

    def _encode(self, document: TelemetryDocument) -> bytes:
        try:
            return self._write(document)
        except EncodeError:
            raise
        except Exception as error:  # the owners must not wait for ever
            log.failure("the {content_type} codec failed", content_type=self.codec.content_type)
            raise EncodeError(f"{type(error).__name__}: {error}") from error

    def _fresh(self, bundle: Bundle) -> bytes | None:
        try:
            return self._encode(bundle.reduced())
        except EncodeError:
            return None  # the complete form goes out instead, which could be encoded

    def _send_part(self, part: Part) -> None:
        bundle = part.bundle
        if part.payload is None:
            datastream_id = bundle.runs[0].datastream_id
            self._counters.increment("events_rejected")
            log.warn(
                "a datapoint of {datastream_id} can't be sent: {problem}",
                datastream_id=datastream_id,
                problem=part.problem,
            )
            settle(bundle, Failure(EventRejected(datastream_id, part.problem)))
            return
        fresh = self._fresh(bundle) if self.reduced else None
        try:
            uplink: Deferred[Any] = self._connector.uplink(
                part.payload, self.codec.content_type, len(bundle), fresh
            )
        except Exception as error:  # noqa: BLE001 - a defect of a foreign connector: owners learn
            uplink = fail(error)
        self._unanswered.add(uplink)
        uplink.addCallbacks(
            self._accepted,
            self._refused,
            callbackArgs=(uplink, bundle),
            errbackArgs=(uplink, bundle),
        )

    def _accepted(self, row_id: object, uplink: Deferred[Any], bundle: Bundle) -> None:
        self._unanswered.discard(uplink)
        self._counters.increment("events_accepted", len(bundle))
        settle(bundle, None)

    def _refused(self, failure: Failure, uplink: Deferred[Any], bundle: Bundle) -> None:
        self._unanswered.discard(uplink)
        self._counters.increment("events_refused", len(bundle))
        settle(bundle, failure)


def _observe(uplink: Deferred[Any]) -> Deferred[None]:
    """Fires when ``uplink`` has, and leaves its result alone."""
    observed: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        observed.callback(None)
        return result

    uplink.addBoth(pass_on)
    return observed
