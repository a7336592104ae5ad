"""Plays a recorded session to a device: acts as the platform, and compares the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from oda.errors import CodecError
from oda.interfaces import ICodecRegistry, IWallClock
from oda.model import ContentType
from oda.platform.access import KeyRing
from oda.platform.application import Door
from oda.platform.database import Database
from oda.platform.faults import NORMAL, Incident
from oda.platform.logger import PlatformLogger
from oda.platform.protocol import DeviceServerFactory, WebSocketPipe
from oda.platform.recording import Recording
from oda.platform.sessions import Session
from oda.platform.tape.device_player import Pace
from oda.platform.tape.from_record import session_from_record
from oda.platform.tape.script import (
    Script,
    Step,
    add_answer,
    addressed,
    as_then,
    compare_answers,
)
from oda.platform.tape.session_file import Session as RecordedSession
from oda.platform.wire import Answer, read_message

log = PlatformLogger()

_MAX_MESSAGE_BYTES = 32 * 1024 * 1024


class Verdict(msgspec.Struct, frozen=True):
    """The result of one operation; no ``differences`` means the recorded answers."""

    name: str
    request_id: str
    differences: list[str]


class _Asked:
    """An operation that was sent: its recorded id, and its answers."""

    def __init__(self, then_id: str) -> None:
        self.then_id = then_id
        self.answers: list[Any] = []
        self.is_over = False


class PlatformPlayer:
    """An ``Inbox`` that sends a script's steps to the first device that connects.

    ``then`` is the recorded device. ``new_id`` makes ids of requests, because a device that
    remembers operations would not execute an id again. None keeps the recorded ids, and every byte.
    The player waits for an answer at most ``answer_timeout_s``.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IWallClock,
        codecs: ICodecRegistry,
        script: Script,
        then: str,
        speed: float,
        answer_timeout_s: float,
        new_id: Callable[[], str] | None,
    ) -> None:
        self._reactor = reactor
        self._codecs = codecs
        self._script = script
        self._then = then
        self._pace = Pace(reactor, speed)
        self._answer_timeout_s = answer_timeout_s
        self._new_id = new_id
        self._recording = Recording(Database(), clock)
        self._session: Session | None = None
        self._waiting: list[Deferred[None]] = []
        self._by_now_id: dict[str, _Asked] = {}
        self._by_then_id: dict[str, _Asked] = {}
        self.other_messages = 0

    def listen(self, port: int, interface: str, path: str) -> int:
        """Accept devices, with any key; returns the real port. Raises ``CannotListenError``."""
        door = Door(path, KeyRing(), lambda device: NORMAL, lambda device: False, False)
        self._factory = DeviceServerFactory(
            self._reactor,
            door.admit,
            self._make_session,
            lambda session: session.open(NORMAL),
            _MAX_MESSAGE_BYTES,
        )
        self._port = self._reactor.listenTCP(port, self._factory, interface=interface)
        real: int = self._port.getHost().port
        return real

    async def stop(self) -> None:
        """Close cleanly."""
        await self._port.stopListening()
        if self._session is not None:
            self._session.strike(Incident(close=1000))
        while self._session is not None:
            await self._change()

    def recorded(self) -> RecordedSession:
        """The session that has been played, as the platform's record has it."""
        return session_from_record(self._recording.messages(), self._recording.connections())

    async def play(self, ignored: frozenset[str]) -> list[Verdict]:
        """Wait for the device, send everything, and compare the answers."""
        await self._connected()
        await self._pace.until(self._script.began_ms)
        for step in self._script.steps:
            await self._pace.until(step.at_ms)
            for request_id in step.after:
                await self._answered(request_id)
            session = await self._connected()
            session.send(self._payload(step, session.device), step.is_text)
        for request_id in self._script.answers:
            await self._answered(request_id)
        return list(self._verdicts(ignored))

    def _verdicts(self, ignored: frozenset[str]) -> list[Verdict]:
        names = {step.request_id: step.name for step in self._script.steps}
        return [
            Verdict(
                names.get(then_id, ""),
                then_id,
                compare_answers(self._script.answers.get(then_id, ()), asked.answers, ignored),
            )
            for then_id, asked in self._by_then_id.items()
        ]

    def _payload(self, step: Step, device: str) -> bytes:
        if step.request_id is None:
            return step.payload
        asked = self._by_then_id.get(step.request_id)
        content_type = self._codecs.detect(step.payload)
        if self._new_id is None or content_type is None:
            if asked is None:
                self._ask(step.request_id, step.request_id)
            return step.payload
        if asked is None:
            now_id = self._new_id()
            self._ask(step.request_id, now_id)
        else:
            now_id = next(name for name, one in self._by_now_id.items() if one is asked)
        document = addressed(step.document, now_id, self._then, device)
        payload: bytes = self._codecs.codec(content_type).encode(document)
        return payload

    def _ask(self, then_id: str, now_id: str) -> None:
        self._by_then_id[then_id] = self._by_now_id[now_id] = _Asked(then_id)

    async def _connected(self) -> Session:
        while self._session is None:
            await self._change()
        return self._session

    async def _answered(self, then_id: str) -> None:
        asked = self._by_then_id.get(then_id)
        if asked is None:
            return
        deadline_s = self._reactor.seconds() + self._answer_timeout_s
        while not asked.is_over:
            left_s = deadline_s - self._reactor.seconds()
            if left_s <= 0:
                asked.is_over = True  # the verdict says that the answer is missing
                return
            await self._change().addTimeout(left_s, self._reactor, lambda result, after: None)

    def _change(self) -> Deferred[None]:
        """Fires at the next event."""
        changed: Deferred[None] = Deferred()
        self._waiting.append(changed)
        return changed

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for changed in waiting:
            changed.callback(None)

    def _make_session(self, device: str, peer: str, pipe: WebSocketPipe) -> Session:
        return Session(
            self._reactor,
            device,
            peer,
            pipe,
            self._recording,
            self._codecs,
            self,
            _MAX_MESSAGE_BYTES,
        )

    # Inbox

    def session_opened(self, session: Session) -> None:
        """See ``Inbox``."""
        log.info("{device} connected from {peer}", device=session.device, peer=session.peer)
        older, self._session = self._session, session
        if older is not None:
            older.replaced()
        self._changed()

    def message_read(
        self, session: Session, number: int, payload: bytes, content_type: ContentType | None
    ) -> None:
        """See ``Inbox``."""
        answer = self._read(payload, content_type)
        asked = None if answer is None else self._by_now_id.get(answer.id)
        if answer is None or asked is None:
            self.other_messages += 1
            return
        response = as_then(answer.response, asked.then_id, self._then, session.device)
        add_answer(asked.answers, Answer(asked.then_id, response, answer.is_final))
        asked.is_over = asked.is_over or answer.is_final
        self._changed()

    def _read(self, payload: bytes, content_type: ContentType | None) -> Answer | None:
        if content_type is None:
            return None
        try:
            message = read_message(self._codecs.codec(content_type).decode(payload))
        except CodecError:
            return None
        return message if isinstance(message, Answer) else None

    def session_closed(self, session: Session, code: int | None) -> None:
        """See ``Inbox``."""
        log.info("{device} disconnected ({code})", device=session.device, code=code)
        if self._session is session:
            self._session = None
        self._changed()
