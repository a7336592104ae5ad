"""Whether the agent may read the platform's requests. It has to answer every request that it reads,
and the answers have to leave the device.

A request is *open* from the moment it is read until its answer is accepted, or it turns out to need
none. The answers wait in the outbox until the network has taken them. If either grows too large,
there is no room for more answers and they would be lost. So the agent stops reading while answers
can't be taken (``ReadingHold``), and reads again as soon as they can. ``Intake`` keeps the account.

While reading is held, the agent parses nothing, not even pongs, because they arrive behind the
messages that wait. So no pong can prove that an answer has arrived. Where answers that were written
take up the room, the agent lets them go (see ``session``); otherwise agent and platform would wait
for each other. For the same reason the agent keeps reading while a message under suspicion waits
for its pong: it sends nothing else until that pong arrives.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oda.connector.current import CurrentSettings
from oda.connector.protocol import PlatformProtocol
from oda.connector.window import Uplink
from oda.interfaces import IOutbox
from oda.log import Logger

_log = Logger()


# -- requests that are open ----------------------------------------------------------------------


#: Open requests may always take this much, however small the outbox is.
_LEAST_OPEN_BYTES = 256 * 1024
#: And never more, before one more is read: decoded, a byte of a request may cost seventy.
_MOST_OPEN_BYTES = 512 * 1024


class Intake:
    """The account of one connector. ``outbox_bytes`` is how much the outbox may hold.

    ``on_room``, where set, is called each time an open request is concluded.
    """

    def __init__(self, outbox: IOutbox, outbox_bytes: int) -> None:
        self._outbox = outbox
        self._max_open_bytes = min(max(_LEAST_OPEN_BYTES, outbox_bytes // 16), _MOST_OPEN_BYTES)
        self._max_answer_bytes = outbox_bytes // 4
        self._open_bytes = 0
        self._forgiven_bytes = 0
        self.on_room: Callable[[], None] | None = None

    def began(self, size: int) -> None:
        """The agent has read a request of ``size`` bytes."""
        self._open_bytes += size

    def concluded(self, size: int) -> None:
        """Its answer was accepted, or it needs none."""
        self._open_bytes -= size
        if self._open_bytes < self._forgiven_bytes:
            self._forgiven_bytes = self._open_bytes
        if self.on_room is not None:
            self.on_room()

    @property
    def is_open_full(self) -> bool:
        """True while so many requests are open that the agent may read no more."""
        return self._open_bytes - self._forgiven_bytes >= self._max_open_bytes

    @property
    def is_full(self) -> bool:
        """True while the agent may read no more."""
        return (
            self._open_bytes - self._forgiven_bytes >= self._max_open_bytes
            or self._outbox.answer_bytes() >= self._max_answer_bytes
        )

    def forgive(self) -> None:
        """Leave the requests that are open now out of the account: the dispatcher may never answer
        them."""
        self._forgiven_bytes = self._open_bytes


# -- holding -------------------------------------------------------------------------------------


#: Interval of the checks of a connection whose reading is held, in seconds.
_LOOK_S = 1.0
#: Longest time for which reading is held, as a multiple of ``pong_timeout_s``.
_HOLD_TIMES = 4


class ReadingHold:
    """Holds the reading of ``protocol``, and reports it to ``changed(is_held)``. ``let_go()`` lets
    go of answers that the network has taken, and says whether the network takes anything.
    ``needs_pong()`` says whether the agent can't send anything before a pong arrives."""

    def __init__(
        self,
        protocol: PlatformProtocol,
        intake: Intake,
        reactor: IReactorTime,
        settings: CurrentSettings,
        let_go: Callable[[], bool],
        changed: Callable[[bool], None],
        uplink: Uplink,
        needs_pong: Callable[[], bool],
    ) -> None:
        self._protocol = protocol
        self._intake = intake
        self._reactor = reactor
        self._settings = settings
        self._let_go = let_go
        self._changed = changed
        self._uplink = uplink
        self._needs_pong = needs_pong
        self._soon: IDelayedCall | None = None
        self._look: IDelayedCall | None = None
        self._since_s = 0.0
        self._is_held = False

    def begin(self) -> None:
        """Stop reading until there is room."""
        if self._is_held or self._needs_pong():
            return
        self._is_held = True
        self._since_s = self._reactor.seconds()
        self._intake.on_room = self.consider
        self._protocol.hold_reading()
        self._changed(True)
        self._look = self._reactor.callLater(_LOOK_S, self._protocol.guard, self._look_after)
        self.consider()

    def consider(self) -> None:
        """Something has changed: resume soon if there is room now."""
        if self._is_held and self._soon is None:
            self._soon = self._reactor.callLater(0, self._protocol.guard, self._go_on)

    def end(self) -> None:
        """The connection is closing or gone: leave no timer behind. The agent discards what it has
        not read, except the platform's close frame behind it."""
        if self._is_held:
            self._release()
            self._protocol.discard_messages()
            self._protocol.resume_reading()

    def end_for_good(self) -> None:
        """The socket is gone. Drops the references to the owners of the callbacks."""
        self.end()
        self._let_go, self._changed, self._needs_pong = _never, _ignore, _never

    def _go_on(self) -> None:
        self._soon = None
        if self._intake.is_full and not self._intake.is_open_full:
            self._let_go()
        if not self._intake.is_full or self._needs_pong():
            self._release()
            self._protocol.resume_reading()

    def _look_after(self) -> None:
        self._look = None
        # A failing disk accepts an answer only once it has been written to the network.
        takes = self._let_go()
        progress_s = self._uplink.progress_s()
        if not takes and progress_s is not None:
            # The answers of a large outbox take a long time on a slow link.
            self._since_s = max(self._since_s, progress_s)
        held_s = self._reactor.seconds() - self._since_s
        limit_s = _HOLD_TIMES * self._settings.now.pong_timeout_s
        if held_s >= limit_s and self._intake.is_full:
            if takes and self._intake.is_open_full:
                _log.warn(
                    "the agent has read nothing for {held:.0f} s because requests are not answered;"
                    " it goes on reading without waiting for the answers",
                    held=held_s,
                )
                self._intake.forgive()
            else:
                self._protocol.abort(
                    f"the network has taken no answer for {held_s:.0f} s: the connection is dead"
                )
                return
        self._look = self._reactor.callLater(_LOOK_S, self._protocol.guard, self._look_after)
        self.consider()

    def _release(self) -> None:
        self._is_held = False
        self._intake.on_room = None
        for call in (self._soon, self._look):
            if call is not None and call.active():
                call.cancel()
        self._soon = self._look = None
        self._changed(False)


def _never() -> bool:
    return False


def _ignore(_: bool) -> None:
    """Nobody needs to know any more."""
