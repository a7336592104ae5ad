"""The way to the platform on a network in memory: what each step says, and that nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import txaio
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError

from oda.diagnosis.connection import ConnectionCheck
from oda.diagnosis.findings import Findings, Result
from oda.settings import Secret
from tests.wire.network import Network
from tests.wire.platform import Platform
from tests.wire.world import HOST, connector_settings

IDENTITY = ("dev-1", Secret("canary-key"))


class Bench:
    """A platform at ``HOST``, and checks of the way to it."""

    def __init__(self) -> None:
        self.network = Network()
        txaio.use_twisted()
        self._loop, txaio.config.loop = txaio.config.loop, self.network
        self.platform = Platform(self.network)
        self.network.platforms[HOST] = self.platform
        self.findings = Findings()

    def close(self) -> None:
        txaio.config.loop = self._loop

    def begin(self, identity: Any = IDENTITY, **settings: Any) -> Deferred[None]:
        check = ConnectionCheck(
            connector_settings(**settings),
            self.findings,
            self.network,
            lambda: 1_700_000_000_000,
            lambda count: b"\x07" * count,
        )
        done: Deferred[None] = check.run(identity)
        self.network.settle()
        return done

    def run(self, identity: Any = IDENTITY, **settings: Any) -> None:
        """A whole check; it ends by itself and leaves no timer and no connection."""
        done = self.begin(identity, **settings)
        self.network.pass_time(200.0)
        assert done.called
        assert done.result is None
        assert self.network.getDelayedCalls() == []
        assert not any(wire.is_up for wire in self.network.wires)

    @property
    def results(self) -> list[tuple[str, Result]]:
        return [(finding.step, finding.result) for finding in self.findings.all]

    @property
    def texts(self) -> str:
        return "\n".join(finding.text + finding.advice for finding in self.findings.all)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_the_whole_way(bench: Bench) -> None:
    """Name, TCP, upgrade with id and key, three pings with the barrier's payload, a close with code
    1000; the key is said nowhere."""
    bench.run()
    steps = ("name", "tcp", "upgrade", "ping", "acknowledgement")
    assert bench.results == [(step, Result.OK) for step in steps]
    peer = bench.platform.peer
    assert peer.request.path == "/south/v80/sessions/dev-1"
    assert peer.request.headers["x-apikey"] == "canary-key"
    assert len(peer.pings) == 3
    assert all(ping.startswith(b"ODA1-BwcHBwcHBwc-") for ping in peer.pings)
    assert peer.messages == []
    assert peer.closed == (True, 1000, "the check has ended")
    assert "canary-key" not in bench.texts


def test_without_an_identity_no_websocket_is_opened(bench: Bench) -> None:
    """As while the agent runs: TCP is made and dropped, nothing is sent on it."""
    bench.run(identity=None)
    assert bench.results == [("name", Result.OK), ("tcp", Result.OK)]
    assert bench.platform.peer.request is None


def test_a_dead_address_beside_a_living_one_is_a_warning(bench: Bench) -> None:
    """The agent tries the next address then; nobody listening anywhere is a failure."""
    bench.network.nameResolver.names["two.example"] = ["192.0.2.9", HOST]
    bench.network.platforms["192.0.2.9"] = ConnectionRefusedError()
    bench.run(host="two.example")
    assert ("tcp", Result.WARNING) in bench.results
    assert bench.results[-1] == ("acknowledgement", Result.OK)
    bench.findings.all.clear()
    bench.network.platforms[HOST] = ConnectionRefusedError()
    bench.run(host="two.example")
    assert bench.results == [("name", Result.OK), *[("tcp", Result.FAILED)] * 2]


@pytest.mark.parametrize(("name", "words"), [("no.example", "no address"), ("slow.example", "DNS")])
def test_a_name_that_leads_nowhere(bench: Bench, name: str, words: str) -> None:
    """Not found, and not answered within connectionTimeout."""
    bench.network.nameResolver.names["slow.example"] = None
    bench.run(host=name, connection_timeout_s=5.0)
    assert bench.results == [("name", Result.FAILED)]
    assert words in bench.texts


def test_a_proxy_is_what_is_looked_for(bench: Bench) -> None:
    """Its name and its port; the platform's name is the proxy's business."""
    bench.network.nameResolver.names["proxy.example"] = ["192.0.2.8"]
    bench.run(identity=None, host="inside.example", proxy_host="proxy.example", proxy_port=3128)
    assert bench.network.nameResolver.asked == ["proxy.example"]
    assert [connector.port for connector in bench.network.connectors] == [3128]
    assert "the proxy proxy.example" in bench.texts
    assert "'proxyPort'" in bench.texts


def test_silence_after_tcp_ends_with_the_time_limit(bench: Bench) -> None:
    """An upgrade that nobody answers is given up after connectionTimeout."""
    bench.platform.buildProtocol = lambda addr: _Silent()  # type: ignore[method-assign]
    bench.run(connection_timeout_s=5.0)
    assert bench.results[-1] == ("upgrade", Result.FAILED)
    assert "not open within 5 s" in bench.texts


def test_a_platform_that_ends_the_connection_before_the_pong(bench: Bench) -> None:
    """It is said what happened instead of the pong."""

    def leave(payload: bytes) -> None:
        bench.platform.peer.sendClose(4011, "oops")

    bench.platform.pong = leave
    bench.run()
    assert bench.results[-2:] == [("ping", Result.FAILED), ("acknowledgement", Result.FAILED)]
    assert "4011" in bench.texts


def test_messages_that_come_meanwhile_are_counted(bench: Bench) -> None:
    """They are lost for the agent: a warning."""
    pong = bench.platform.pong

    def with_message(payload: bytes) -> bytes | None:
        bench.platform.peer.sendMessage(b"{}")
        return pong(payload)

    bench.platform.pong = with_message
    bench.run()
    assert bench.results[-1] == ("upgrade", Result.WARNING)
    assert "messages that the platform sent during the check, unanswered: 3" in bench.texts


@pytest.mark.parametrize("stage", ["name", "tcp", "upgrade", "ping"])
def test_cancelling_leaves_nothing_behind(bench: Bench, stage: str) -> None:
    """Wherever it is: no timer, no connection."""
    host = HOST
    if stage == "name":
        host = "slow.example"
        bench.network.nameResolver.names[host] = None
    elif stage == "tcp":
        bench.network.platforms[HOST] = None
    elif stage == "upgrade":
        bench.platform.buildProtocol = lambda addr: _Silent()  # type: ignore[method-assign]
    else:
        bench.platform.pong = lambda payload: None
    done = bench.begin(host=host)
    assert not done.called
    done.cancel()
    bench.network.settle()
    bench.network.pass_time(6.0)
    done.addErrback(lambda failure: failure.trap(CancelledError))
    assert done.called
    assert bench.network.getDelayedCalls() == []
    assert not any(wire.is_up for wire in bench.network.wires)


class _Silent:
    """A server that says nothing."""

    def makeConnection(self, transport: Any) -> None:
        """Nothing to say."""

    def dataReceived(self, data: bytes) -> None:
        """Nothing to say."""

    def connectionLost(self, reason: Any) -> None:
        """Nothing to say."""
