"""Names are looked up in threads that nothing waits for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IReactorFromThreads
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.connector.resolution import (
    MAX_THREADS,
    AddressCollector,
    DaemonResolver,
    Resolution,
    install_resolver,
    start_daemon,
)

TCP = socket.SOCK_STREAM
FOUR = (socket.AF_INET, TCP, 6, "", ("192.0.2.1", 80))
SIX = (socket.AF_INET6, TCP, 6, "", ("2001:db8::1", 80, 0, 0))


@implementer(IReactorFromThreads)
class DirectReactor:
    """Keeps the calls of threads until ``make_calls``, as a reactor does until its next turn."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], Any]] = []

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.append(lambda: callable(*args, **kwargs))

    def make_calls(self) -> None:
        """Make them; what they raise is the test's."""
        calls, self._calls = self._calls, []
        for call in calls:
            call()


class Bench:
    """A resolver whose threads run when a test says so; ``answers`` are what ``getaddrinfo`` gives
    or raises, one after the other."""

    def __init__(self) -> None:
        self.threads: list[Callable[[], None]] = []
        self.answers: list[Any] = []
        self.asked: list[tuple[Any, ...]] = []
        self.heard: dict[str, list[str]] = {}
        self._reactor = DirectReactor()
        self.resolver = DaemonResolver(self._reactor, self.threads.append, self._answer)

    def _answer(self, *question: Any) -> Sequence[Any]:
        self.asked.append(question)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def ask(self, who: str, name: str = "a.example", types: Any = None) -> Resolution:
        collector = AddressCollector(lambda found: self.heard.setdefault(who, found))
        return self.resolver.resolveHostName(collector, name, 80, types)

    def answer(self, *found: Any, thread: int = 0) -> None:
        """Let one of the threads come back with what was ``found``, or with an exception."""
        self.answers.append(found[0] if found and isinstance(found[0], Exception) else found)
        self.threads.pop(thread)()
        self._reactor.make_calls()


def test_the_contracts_are_provided() -> None:
    """Twisted's interfaces, so that all of the reactor's users get it."""
    bench = Bench()
    assert verifyObject(IReactorFromThreads, DirectReactor())
    assert verifyObject(IHostnameResolver, bench.resolver)
    assert verifyObject(IHostResolution, bench.ask("one"))


def test_a_name_is_looked_up_in_a_thread() -> None:
    """Both families are asked for, and all addresses told in the order found."""
    bench = Bench()
    bench.ask("one")
    assert bench.heard == {}
    bench.answer(SIX, FOUR, FOUR)
    assert bench.heard == {"one": ["2001:db8::1", "192.0.2.1"]}
    assert bench.asked == [("a.example", 80, socket.AF_UNSPEC, TCP)]


def test_a_family_can_be_asked_for() -> None:
    """Twisted's older interfaces take IPv4 only."""
    bench = Bench()
    bench.ask("four", types=[IPv4Address])
    bench.ask("six", types=[IPv6Address])
    bench.answer(FOUR)
    bench.answer(SIX)
    assert [question[2] for question in bench.asked] == [socket.AF_INET, socket.AF_INET6]
    assert bench.heard == {"four": ["192.0.2.1"], "six": ["2001:db8::1"]}


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_needs_no_look_up(address: str) -> None:
    """It is its own answer, at once."""
    bench = Bench()
    bench.ask("one", address)
    assert (bench.heard, bench.threads) == ({"one": [address]}, [])


@pytest.mark.parametrize(
    "error", [socket.gaierror(-3, "again"), UnicodeError("label too long"), ValueError("defect")]
)
def test_a_name_without_an_address(error: Exception) -> None:
    """Whatever ``getaddrinfo`` raises, the asker hears that there is no address."""
    bench = Bench()
    bench.ask("one")
    bench.answer(error)
    assert bench.heard == {"one": []}


def test_a_second_question_is_not_held_up_by_a_stuck_one() -> None:
    """The network may have changed since the first was asked; who finds the addresses tells all."""
    bench = Bench()
    bench.ask("stuck")
    bench.ask("later")
    bench.answer(FOUR, thread=1)
    assert bench.heard == {"later": ["192.0.2.1"], "stuck": ["192.0.2.1"]}
    bench.answer(SIX)
    assert bench.heard["stuck"] == ["192.0.2.1"]


def test_a_failed_look_up_is_its_own_asker_s() -> None:
    """Others wait for those that still run; the last one to end answers everybody."""
    bench = Bench()
    bench.ask("first")
    bench.ask("second")
    bench.answer(socket.gaierror(-3, "again"), thread=1)
    assert bench.heard == {"second": []}
    bench.answer(FOUR)
    assert bench.heard["first"] == ["192.0.2.1"]


def test_threads_have_a_limit() -> None:
    """While no name server answers, a name has so many threads at most; the askers beyond them
    hear the answer of the others, and later ones get a thread again."""
    bench = Bench()
    for number in range(MAX_THREADS + 2):
        bench.ask(str(number))
    bench.ask("other", "b.example")
    assert len(bench.threads) == MAX_THREADS + 1
    for _ in range(MAX_THREADS):
        bench.answer(socket.gaierror(-3, "again"))
    assert bench.heard == {str(number): [] for number in range(MAX_THREADS + 2)}
    bench.ask("afterwards")
    bench.answer(FOUR, thread=1)
    assert bench.heard["afterwards"] == ["192.0.2.1"]


def test_a_cancelled_question_hears_nothing() -> None:
    """The answer comes all the same, and is nobody's."""
    bench = Bench()
    bench.ask("one").cancel()
    bench.answer(FOUR)
    assert bench.heard == {}


def test_no_thread_to_be_had() -> None:
    """A system that is out of threads is a name without an address, not a defect."""

    def refuse(work: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    heard: list[list[str]] = []
    resolver = DaemonResolver(DirectReactor(), refuse, lambda *_: [FOUR])
    resolver.resolveHostName(AddressCollector(heard.append), "a.example", 80)
    assert heard == [[]]


def test_an_answer_after_the_end_of_the_reactor() -> None:
    """Nobody can be told any more, and nothing is said of it."""

    class Ended:
        def callFromThread(self, call: Any, *arguments: Any) -> None:
            raise OSError(9, "Bad file descriptor")

    threads: list[Callable[[], None]] = []
    resolver = DaemonResolver(Ended(), threads.append, lambda *_: [FOUR])
    resolver.resolveHostName(AddressCollector(lambda _: None), "a.example", 80)
    threads[0]()


def test_the_threads_are_daemons() -> None:
    """The interpreter does not wait for a thread that is stuck in a look-up."""
    seen: list[bool] = []
    done = threading.Event()

    def work() -> None:
        seen.append(threading.current_thread().daemon)
        done.set()

    start_daemon(work)
    assert done.wait(10)
    assert seen == [True]


def test_it_takes_the_place_of_the_thread_pool() -> None:
    """A reactor that would use its thread pool gets it, once; a resolver of somebody else stays, as
    does one that can't be replaced."""
    reactor = SelectReactor()
    install_resolver(reactor)
    installed = reactor.nameResolver
    assert isinstance(installed, DaemonResolver)
    install_resolver(reactor)
    assert reactor.nameResolver is installed
    other = Bench().resolver
    reactor.installNameResolver(other)
    install_resolver(reactor)
    assert reactor.nameResolver is other
    install_resolver(MemoryReactorClock())
