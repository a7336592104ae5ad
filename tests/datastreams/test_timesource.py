"""Time sources, on a network in memory."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers
from zope.interface.verify import verifyObject

from oda.datastreams.timesource import (
    ATTEMPT_TIMEOUT_S,
    HttpTimeSource,
    SntpTimeSource,
    open_time_source,
)
from oda.errors import ReadingFailed
from oda.interfaces import ITimeSource
from tests.datastreams.test_sntp import NONCE, NOVEMBER_2023, packet


class Socket:
    """A UDP socket that keeps what is written."""

    def __init__(self) -> None:
        self.peer: tuple[str, int] | None = None
        self.written: list[bytes] = []
        self.is_open = True

    def connect(self, host: str, port: int) -> None:
        self.peer = (host, port)

    def write(self, datagram: bytes) -> None:
        assert self.is_open
        self.written.append(datagram)

    def stopListening(self) -> None:
        self.is_open = False


class Network(Clock):
    """A reactor with UDP sockets and names in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[Socket] = []
        self.protocols: list[Any] = []
        self.interfaces: list[str] = []
        self.names: dict[str, str] = {"time.example": "192.0.2.7"}

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> Socket:
        assert port == 0
        socket = Socket()
        self.sockets.append(socket)
        self.protocols.append(protocol)
        self.interfaces.append(interface)
        protocol.makeConnection(socket)
        return socket

    def resolve(self, name: str) -> Deferred[str]:
        return succeed(self.names[name]) if name in self.names else fail(DNSLookupError(name))

    def answer(self, datagram: bytes) -> None:
        self.protocols[-1].datagramReceived(datagram, ("192.0.2.7", 123))


def ask(network: Network, host: str = "time.example") -> tuple[list[Any], Deferred[int]]:
    source = SntpTimeSource(host, network, nonce=lambda: NONCE)
    assert verifyObject(ITimeSource, source)
    outcome: list[Any] = []
    asking = source.now_ms()
    asking.addBoth(outcome.append)
    return outcome, asking


def assert_clean(network: Network) -> None:
    assert all(not socket.is_open for socket in network.sockets)
    assert network.getDelayedCalls() == []


def test_the_round_trip_is_compensated() -> None:
    """Half of the travel counts: the time since the question less what the server needed."""
    network = Network()
    outcome, _ = ask(network)
    assert network.sockets[0].peer == ("192.0.2.7", 123)
    assert [len(datagram) for datagram in network.sockets[0].written] == [48]
    network.advance(0.9)
    network.answer(packet(received=(NOVEMBER_2023 - 1, 3 << 30), sent=(NOVEMBER_2023, 0)))
    # 0.9 s under way, of which 0.25 s in the server: 0.325 s since the answer was sent.
    assert outcome == [1_700_000_000_325]
    assert_clean(network)


def test_foreign_packets_are_ignored() -> None:
    """A packet without our nonce changes nothing; the true answer still counts."""
    network = Network()
    outcome, _ = ask(network)
    network.answer(packet(nonce=bytes(8), sent=(NOVEMBER_2023 + 9999, 0)))
    assert outcome == []
    network.answer(packet())
    assert outcome == [1_700_000_000_000]


def test_a_lost_packet_is_sent_again() -> None:
    """UDP loses packets: the question is repeated, and timed from its last sending."""
    network = Network()
    network.advance(100)
    outcome, _ = ask(network)
    network.advance(3)
    assert len(network.sockets[0].written) == 2
    network.advance(0.5)
    network.answer(packet())
    assert outcome == [1_700_000_000_250]
    assert_clean(network)


def test_nobody_answers() -> None:
    """After three attempts of three seconds it fails and leaves nothing open."""
    network = Network()
    outcome, _ = ask(network)
    network.pump([3, 3, 2.9])
    assert outcome == []
    network.advance(0.1)
    assert isinstance(outcome[0].value, ReadingFailed)
    assert str(outcome[0].value) == "time source time.example: no answer within 9 s"
    assert_clean(network)


def test_a_refusal_is_final() -> None:
    """A kiss of death is not asked again."""
    network = Network()
    outcome, _ = ask(network)
    network.answer(packet(stratum=0, reference=b"DENY"))
    assert "DENY" in str(outcome[0].value)
    network.answer(packet())
    assert len(outcome) == 1
    assert_clean(network)


def test_nothing_listens() -> None:
    """An ICMP refusal is a reason at once."""
    network = Network()
    outcome, _ = ask(network)
    network.protocols[0].connectionRefused()
    assert "nothing listens" in str(outcome[0].value)
    assert_clean(network)


def test_the_socket_is_dropped() -> None:
    """A refusal that epoll reports as an error of the socket drops the port: that is the same
    reason, at once, and nothing is asked of a transport that is gone."""
    network = Network()
    outcome, _ = ask(network)
    network.sockets[0].is_open = False
    network.protocols[0].doStop()
    assert "nothing listens" in str(outcome[0].value)
    assert_clean(network)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_of_this_machine(host: str) -> None:
    """On the real reactor the refusal is an answer at once: one attempt waits three seconds."""
    from twisted.internet import reactor

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as taken:
        taken.bind((host, 0))
        port = taken.getsockname()[1]
    waiting: Any = reactor
    asking = SntpTimeSource(host, reactor, port).now_ms().addTimeout(ATTEMPT_TIMEOUT_S, waiting)
    with pytest.raises(ReadingFailed, match="nothing listens at that port"):
        await asking


def test_an_unknown_name() -> None:
    """A name that isn't found is a reason."""
    network = Network()
    outcome, _ = ask(network, "nowhere.example")
    assert str(outcome[0].value) == "time source nowhere.example: the name was not found"


def test_cancelling_closes_the_socket() -> None:
    """Cancelled, it fails with CancelledError, and late answers do no harm."""
    network = Network()
    outcome, asking = ask(network)
    asking.cancel()
    assert isinstance(outcome[0].value, CancelledError)
    network.answer(packet())
    assert_clean(network)


def test_addresses_are_not_resolved() -> None:
    """An address is used as it is, also of IPv6."""
    network = Network()
    ask(network, "198.51.100.1")
    ask(network, "2001:db8::1")
    assert [socket.peer for socket in network.sockets] == [
        ("198.51.100.1", 123),
        ("2001:db8::1", 123),
    ]
    assert network.interfaces == ["", "::"]


class WebResponse:
    def __init__(self, **headers: str) -> None:
        self.headers = Headers({name: [value] for name, value in headers.items()})


class WebAgent:
    """An IAgent that answers with one Deferred."""

    def __init__(self, answer: Deferred[Any]) -> None:
        self.answer = answer
        self.requests: list[tuple[bytes, bytes]] = []

    def request(self, method: bytes, uri: bytes) -> Deferred[Any]:
        self.requests.append((method, uri))
        return self.answer


def ask_web(network: Clock, answer: Deferred[Any]) -> list[Any]:
    agent = WebAgent(answer)
    source = HttpTimeSource("https://time.example/", network, agent)
    assert verifyObject(ITimeSource, source)
    outcome: list[Any] = []
    source.now_ms().addBoth(outcome.append)
    assert agent.requests == [(b"HEAD", b"https://time.example/")]
    return outcome


def test_the_date_of_a_web_server() -> None:
    """The Date header and half of the round trip."""
    network, answer = Clock(), Deferred[Any]()
    outcome = ask_web(network, answer)
    network.advance(0.5)
    answer.callback(WebResponse(date="Tue, 14 Nov 2023 22:13:20 GMT"))
    assert outcome == [1_700_000_000_250]
    assert network.getDelayedCalls() == []


@pytest.mark.parametrize("headers", [{}, {"date": "today"}])
def test_a_web_server_without_date(headers: dict[str, str]) -> None:
    """No Date, or one that can't be read, is a reason."""
    outcome = ask_web(Clock(), succeed(WebResponse(**headers)))
    assert "no Date" in str(outcome[0].value)


def test_a_web_server_out_of_reach() -> None:
    """A failed or endless request is a ReadingFailed; a cancelled one stays cancelled."""
    failed = ask_web(Clock(), fail(DNSLookupError("no such name")))
    assert isinstance(failed[0].value, ReadingFailed)
    assert "no such name" in str(failed[0].value)
    clock = Clock()
    endless = ask_web(clock, Deferred())
    clock.advance(15)
    assert isinstance(endless[0].value, ReadingFailed)
    cancelled = ask_web(Clock(), fail(CancelledError()))
    assert isinstance(cancelled[0].value, CancelledError)


def test_what_a_source_may_be() -> None:
    """The scheme chooses; NTP has its own port unless another is named."""
    network = Network()
    open_time_source("ntp://192.0.2.1", network).now_ms().addErrback(lambda _: None)
    open_time_source("ntp://192.0.2.1:1123", network).now_ms().addErrback(lambda _: None)
    assert [socket.peer for socket in network.sockets] == [("192.0.2.1", 123), ("192.0.2.1", 1123)]
    assert isinstance(open_time_source("https://time.example", network), HttpTimeSource)


@pytest.mark.parametrize(
    "text", ["", "time.example", "ftp://time.example", "ntp://", "ntp://h:port", "ntp://h:99999"]
)
def test_what_a_source_may_not_be(text: str) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(ValueError, match=r"not a time source.*allowed: ntp://host"):
        open_time_source(text, Network())
