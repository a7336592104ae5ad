"""Every failure leads to something to do."""

from __future__ import annotations

import pytest
from twisted.internet.error import (
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    UnknownHostError,
)

from oda.connector.outcome import Outcome
from oda.diagnosis.advice import advise_tcp, advise_tls, advise_upgrade


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(), "check 'port'"),
        (NoRouteError(), "no route to that network"),
        (TCPTimedOutError(), "firewall"),
        (UnknownHostError(), "network settings"),
    ],
)
def test_tcp(error: Exception, words: str) -> None:
    """Refused, unreachable and silent are three different things to look at."""
    assert words in advise_tcp(error, "port")


def test_tcp_to_a_proxy_names_the_proxys_port() -> None:
    """The key to look at is that of the connection that failed."""
    assert "'proxyPort'" in advise_tcp(ConnectionRefusedError(), "proxyPort")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wrong version number", "secure=false"),
        ("tlsv13 alert certificate required", "certFile"),
        ("tlsv1 alert unknown ca", "doesn't accept the device's certificate"),
        ("unsupported protocol", "TLS 1.2"),
        ("the other side ended it", "'port'"),
    ],
)
def test_tls(text: str, words: str) -> None:
    """By what OpenSSL said."""
    assert words in advise_tls(text)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "API key"),
        (403, "deviceId"),
        (404, "'path'"),
        (429, "wait"),
        (503, "try again later"),
        (301, "another address"),
        (418, "without a WebSocket at this path"),
    ],
)
def test_a_refused_upgrade(status: int, words: str) -> None:
    """By the status it was refused with."""
    assert words in advise_upgrade(Outcome(reason="refused", http_status=status), secure=True)


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "let this device through"), (407, "proxyPasswordFile"), (502, "'proxyHost'")],
)
def test_a_refusing_proxy(status: int, words: str) -> None:
    """A status of the proxy's is not the platform's: another thing is to be looked at."""
    assert words in advise_upgrade(Outcome(reason="refused", proxy_status=status), secure=True)


def test_a_refusal_with_a_hint() -> None:
    """What the end of the attempt hints at is the advice where the status alone says little."""
    outcome = Outcome(reason="refused", http_status=301, hint=" (set secure=true)")
    assert advise_upgrade(outcome, secure=False) == "set secure=true"


def test_an_upgrade_that_got_no_http() -> None:
    """Without TLS, TLS is what may be missing; a TLS failure is advised on as such."""
    nothing = Outcome(reason="the other side closed the TCP connection")
    assert "secure=true" in advise_upgrade(nothing, secure=False)
    assert "secure=true" not in advise_upgrade(nothing, secure=True)
    late = Outcome(reason="TLS failed: tlsv13 alert certificate required")
    assert "certFile" in advise_upgrade(late, secure=True)
