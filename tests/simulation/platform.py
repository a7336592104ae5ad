"""A model of the platform: what its WebSocket layer read, what it committed, what it asks for.

It speaks WebSocket frames itself (RFC 6455), as far as the agent uses them: the upgrade, whole
messages, pings, pongs and closes. What it has read it *commits* after a while. When a connection
ends without a close frame (or with 1011, 1012, 1013), what it had read and not committed is lost:
that is what the agent's lingering rows are for.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1
from random import Random
from struct import pack, unpack_from
from typing import Any

import msgspec

from tests.simulation.documents import read_document
from tests.simulation.history import Asked, History
from tests.simulation.network import Wire
from tests.simulation.scheduler import Scheduler

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
#: Closes after which the agent repeats what lingers (docs/delivery.md).
_LOSING_CODES = frozenset({1011, 1012, 1013})
#: After so many ends in a row the agent may set aside the message that was sent alone each time.
_ENDS_THAT_CONDEMN = 3
#: A request counts as read when its connection lived on for so long after its last byte.
_READ_AFTER_S = 1.0


@dataclass
class Habits:
    """How the platform behaves now.

    ``pong``: "prompt", "late", "lost", "twice" (each answer comes two times), "foreign" (pongs of
    an earlier connection and unsolicited ones come before the right one).
    """

    pong: str = "prompt"
    pong_delay_s: float = 0.0
    commit_lag_s: float = 0.5
    refuses_poison: bool = True
    drops_on_cut: bool = False
    http_status: int | None = None


class Batch:
    """What came in one message, not committed yet."""

    __slots__ = ("answer", "numbers")

    def __init__(self, numbers: list[int], answer: tuple[tuple[str, str], bytes] | None) -> None:
        self.numbers = numbers
        self.answer = answer


class Peer:
    """The platform's end of one connection."""

    def __init__(self, platform: Platform, wire: Wire, number: int) -> None:
        self._platform = platform
        self._wire = wire
        self._data = bytearray()
        self._uncommitted: list[Batch] = []
        self.number = number
        self.name = f"conn {number}"
        self.is_open = False
        self.is_closing = False
        self.has_answered = False
        self.loses = False
        #: How many messages were read on this connection.
        self.read = 0

    @property
    def wire(self) -> Wire:
        return self._wire

    @property
    def has_uncommitted(self) -> bool:
        """Whether something was read that is not committed yet."""
        return bool(self._uncommitted)

    # -- what the network tells ----------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes of the agent have arrived."""
        self._data += data
        if not self.is_open and not self.is_closing:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._data[:end])
            del self._data[: end + 4]
            self._upgrade(head)
        while self._wire.is_up and self._take_frame():
            pass

    def lost(self) -> None:
        """The connection is over, without a word."""
        was_upgraded = self.is_open or self.is_closing
        if self.is_open:
            self._platform.history.say("platform", f"{self.name} is lost")
            self._platform.ended(self)
        # The agent hears of the end at once, unless it is gone or hears nothing: then it could not
        # know for too long that what it had been acknowledged is needed again.
        wire = self._wire
        is_deaf = wire.reactor.is_dead or wire.down.is_held or wire.up.is_held
        self._end(keeps=is_deaf or not (self.loses or self._platform.habits.drops_on_cut))
        if was_upgraded:
            self.is_closing = True
            self._data += wire.up.buffer
            while self._take_frame():
                pass

    # -- what the platform does ----------------------------------------------------------------

    def send(self, opcode: int, payload: bytes) -> None:
        """Write one frame."""
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, size))
        elif size < 65536:
            head = pack("!BBH", 0x80 | opcode, 126, size)
        else:
            head = pack("!BBQ", 0x80 | opcode, 127, size)
        self._wire.down.write(head + payload)

    def close(self, code: int) -> None:
        """Begin the closing handshake; with some codes what was not committed is lost."""
        if self.is_open and not self.is_closing:
            self._platform.history.say("platform", f"{self.name} is closed with {code}")
            self.send(_CLOSE, pack("!H", code))
            self.is_closing = True
            self._platform.ended(self)
            self._end(keeps=code not in _LOSING_CODES)
            # A server does not wait for ever for the answer to its close frame.
            self._platform.scheduler.later(2.0, self._drop)

    # -- inside --------------------------------------------------------------------------------

    def _upgrade(self, head: bytes) -> None:
        status = self._platform.habits.http_status
        if status is not None:
            self._wire.down.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
            self._wire.down.ends_when_empty = True
            return
        key = next(
            line.split(b": ", 1)[1]
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        accept = b64encode(sha1(key + _GUID).digest())
        self._wire.down.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.is_open = True
        self._platform.opened(self)

    def _take_frame(self) -> bool:
        data = self._data
        if len(data) < 6:
            return False
        size, at = data[1] & 0x7F, 2
        if size == 126:
            if len(data) < 8:
                return False
            size, at = unpack_from("!H", data, 2)[0], 4
        elif size == 127:
            if len(data) < 14:
                return False
            size, at = unpack_from("!Q", data, 2)[0], 10
        if len(data) < at + 4 + size:
            return False
        assert data[1] & 0x80, "a client has to mask"
        opcode = data[0] & 0x0F
        mask, masked = bytes(data[at : at + 4]), bytes(data[at + 4 : at + 4 + size])
        del data[: at + 4 + size]
        self._frame(opcode, _unmasked(mask, masked))
        return True

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == _CLOSE:
            self._closed(payload)
        elif self.is_closing:
            # Behind its own close frame the platform reads nothing.
            if opcode in (_TEXT, _BINARY):
                self._platform.missed(payload)
        elif opcode in (_TEXT, _BINARY):
            self._message(payload)
        elif opcode == _PING:
            self._platform.pinged(self, payload)

    def _message(self, payload: bytes) -> None:
        self.read += 1
        batch = self._platform.read(self, payload)
        if batch is None:
            return
        lag_s = self._platform.habits.commit_lag_s
        if lag_s <= 0:
            self._platform.commit(batch)
            return
        self._uncommitted.append(batch)
        self._platform.scheduler.later(lag_s, self._commit, batch)

    def _commit(self, batch: Batch) -> None:
        if batch in self._uncommitted:
            self._uncommitted.remove(batch)
            self._platform.commit(batch)

    def _closed(self, payload: bytes) -> None:
        if not self.is_closing:
            self.is_closing = True
            self.send(_CLOSE, payload[:2])
            self._platform.history.say(
                "platform",
                f"{self.name}: the agent closes with {int.from_bytes(payload[:2], 'big')}",
            )
            self._end(keeps=True)
        if self._wire.is_up:
            self._wire.down.ends_when_empty = True
            self._wire.down.schedule()

    def _drop(self) -> None:
        if self._wire.is_up:
            self._wire.finish()

    def _end(self, keeps: bool) -> None:
        self.is_open = False
        uncommitted, self._uncommitted = self._uncommitted, []
        for batch in uncommitted:
            if keeps:
                self._platform.commit(batch)
            else:
                self._platform.lose(batch)


class Platform:
    """All connections of the agent end here. ``on_answer(key, payload)`` is called for each final
    answer that is read."""

    def __init__(self, scheduler: Scheduler, history: History, seed: str) -> None:
        self.scheduler = scheduler
        self.history = history
        self.habits = Habits()
        self._random = Random(f"{seed}/platform")
        self._peers: list[Peer] = []
        self._waiting: list[tuple[Asked, bytes]] = []
        self._old_pings: list[bytes] = []
        #: How many connections of a life ended without the agent's close frame.
        self._ends: Counter[int] = Counter()
        #: The agent has had an answer to a ping in this life: it knows that pongs come.
        self.is_trusted = False
        self.life = 0
        self.is_life_over: Callable[[], bool] = lambda: False
        self.on_answer: Callable[[tuple[str, str], bytes], None] = lambda key, payload: None

    def has_uncommitted(self) -> bool:
        """Whether something was read that is not committed yet."""
        return any(peer.has_uncommitted for peer in self._peers)

    def accept(self, wire: Wire) -> Peer:
        """A connection is made."""
        peer = Peer(self, wire, len(self._peers) + 1)
        self._peers.append(peer)
        return peer

    @property
    def peer(self) -> Peer | None:
        """The newest connection that is open."""
        for peer in reversed(self._peers):
            if peer.is_open and not peer.is_closing:
                return peer
        return None

    def crash(self) -> None:
        """The platform ends; another one is there at once."""
        self.history.say("platform", "crashes")
        for peer in self._peers:
            if peer.wire.is_up:
                peer.loses = True
                peer.wire.reset()

    def opened(self, peer: Peer) -> None:
        """The WebSocket is open: what waits for it is sent."""
        self.history.say("platform", f"{peer.name} is open")
        waiting, self._waiting = self._waiting, []
        for asked, payload in waiting:
            self._send(peer, asked, payload)

    def ended(self, peer: Peer) -> None:
        """A connection is over, and the agent has not closed it.

        By its rule (docs/delivery.md) the agent may take the third end in a row for the fault of
        the message that alone was on its way.
        """
        self._ends[self.life] += 1
        if self._ends[self.life] >= _ENDS_THAT_CONDEMN and peer.read <= 1:
            self.history.facts.lone_ends += 1

    # -- what it reads -------------------------------------------------------------------------

    def read(self, peer: Peer, payload: bytes) -> Batch | None:
        """One message of the agent; None where it is refused."""
        document = read_document(payload)
        key = document.key
        if key is not None:
            self.history.say(
                "platform",
                f"{peer.name} reads {'the' if document.is_final else 'a partial'} answer"
                f" {_name(key)}: {document.outcome}",
            )
            if not document.is_final:
                return None
            self.on_answer(key, payload)
            return Batch([], (key, payload))
        numbers: list[int] = []
        is_poison = False
        facts = self.history.facts
        for stream, at_ms, number, value in document.datapoints:
            numbers.append(number)
            is_poison = is_poison or (isinstance(value, dict) and "poison" in value)
            known = facts.published.get(number)
            if known is None:
                self.history.violate(f"event {number} arrived and was never published")
                continue
            first = facts.arrived.get(number)
            if first is None:
                facts.arrived[number] = (stream, at_ms, value)
                facts.order[stream].append(number)
                if (
                    stream != known.stream
                    or value != known.value
                    or at_ms != (known.at_ms if known.at_ms is not None else at_ms)
                ):
                    self.history.violate(f"event {number} arrived altered")
            elif first != (stream, at_ms, value):
                self.history.violate(f"event {number} arrived again and differs")
        self.history.say("platform", f"{peer.name} reads {_ranges(numbers)}")
        if is_poison and self.habits.refuses_poison:
            facts.refused_by_platform.update(numbers)
            peer.close(1007)
            return None
        return Batch(numbers, None)

    def missed(self, payload: bytes) -> None:
        """A message was written to a connection and will not be read from there."""
        key = read_document(payload).key
        if key is not None:
            self.history.facts.unread.add(key)

    def commit(self, batch: Batch) -> None:
        """What was read is safe now."""
        facts = self.history.facts
        facts.committed.update(batch.numbers)
        if batch.answer is not None:
            key, payload = batch.answer
            if payload not in facts.answers[key]:
                facts.answers[key].append(payload)

    def lose(self, batch: Batch) -> None:
        """What was read is gone."""
        facts = self.history.facts
        for number in batch.numbers:
            facts.lost_by_platform[number] += 1
        if batch.answer is not None:
            facts.answers_lost[batch.answer[0]] += 1

    # -- pings ---------------------------------------------------------------------------------

    def pinged(self, peer: Peer, payload: bytes) -> None:
        """Answer a ping, or not, as the habits have it.

        A platform that never answered would be taken for one that never does, to which weaker
        promises apply; so the habits wait for the first answer of this life (and connection).
        """
        habits = self.habits
        pong = habits.pong if self.is_trusted else "prompt"
        if pong == "foreign" and not peer.has_answered:
            pong = "prompt"
        if pong == "lost":
            self.history.say("platform", f"{peer.name} does not answer a ping")
            return
        if pong == "foreign":
            for old in self._old_pings[-2:]:
                peer.send(_PONG, old)
            peer.send(_PONG, b"unsolicited")
        if pong in ("late", "foreign"):
            self.scheduler.later(habits.pong_delay_s, self._pong, peer, payload)
            return
        self._pong(peer, payload)
        if pong == "twice":
            self._pong(peer, payload)

    def _pong(self, peer: Peer, payload: bytes) -> None:
        if peer.is_open and not peer.is_closing:
            peer.has_answered = self.is_trusted = True
            self._old_pings.append(payload)
            del self._old_pings[:-4]
            peer.send(_PONG, payload)

    # -- requests ------------------------------------------------------------------------------

    def ask(self, request_id: str, name: str, parameters: Any, acts: bool) -> None:
        """Send a request, now or as soon as a connection is open."""
        asked = Asked((request_id, name), self.life, acts)
        self.history.facts.asked[asked.key].append(asked)
        request = {"id": request_id, "name": name, "parameters": parameters}
        payload = msgspec.json.encode({"operation": {"request": request}})
        peer = self.peer
        if peer is None:
            self._waiting.append((asked, payload))
        else:
            self._send(peer, asked, payload)

    def _send(self, peer: Peer, asked: Asked, payload: bytes) -> None:
        self.history.say("platform", f"{peer.name} asks {_name(asked.key)}")
        asked.life = self.life
        peer.send(_TEXT, payload)
        self.scheduler.later(_READ_AFTER_S, self._look_whether_read, peer, asked, 30)

    def _look_whether_read(self, peer: Peer, asked: Asked, rounds: int) -> None:
        down = peer.wire.down
        if not peer.is_open or asked.life != self.life or self.is_life_over():
            return
        if down.buffer or down.is_held or down.is_paused:
            if rounds:
                self.scheduler.later(
                    _READ_AFTER_S, self._look_whether_read, peer, asked, rounds - 1
                )
            return
        # All was delivered; whether it was processed shows in a moment in which all still is well.
        if asked.was_delivered:
            asked.is_read = True
        else:
            asked.was_delivered = True
            self.scheduler.later(_READ_AFTER_S, self._look_whether_read, peer, asked, rounds)


def _unmasked(mask: bytes, data: bytes) -> bytes:
    size = len(data)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(pad)).to_bytes(size)


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}/{key[1]}"


def _ranges(numbers: list[int]) -> str:
    """Events by their numbers, those without gaps as ranges."""
    if not numbers:
        return "readings"
    texts: list[str] = []
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            first, last = numbers[start], numbers[at - 1]
            texts.append(str(first) if first == last else f"{first}-{last}")
            start = at
    return "events " + ", ".join(texts[:12]) + (", ..." if len(texts) > 12 else "")
