"""The requests of a connection, and what is read of the answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.handshake import (
    as_ascii,
    connect_request,
    hint_at_scheme,
    read_head,
    upgrade_request,
    with_value,
)
from oda.settings import Secret


def upgrade(host: str = "h", port: int = 9955, secure: bool = False, **changes: object) -> bytes:
    arguments: dict[str, object] = {
        "headers": {"X-ApiKey": "k"},
        "key": b"a2V5",
        "origin": None,
        "extensions": [],
        "user_agent": "agent",
        **changes,
    }
    return upgrade_request("/p", host, port, secure=secure, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "port", "secure", "authority"),
    [
        ("h", 80, False, b"h"),
        ("h", 443, True, b"h"),
        ("h", 443, False, b"h:443"),
        ("h", 80, True, b"h:80"),
        ("h", 9955, False, b"h:9955"),
        ("[::1]", 443, True, b"[::1]"),
        ("[::1]", 9955, True, b"[::1]:9955"),
    ],
)
def test_host_leaves_out_the_default_port(
    host: str, port: int, secure: bool, authority: bytes
) -> None:
    """The port stands in Host only where it is not the scheme's own (RFC 6455, section 4.1)."""
    assert b"\r\nHost: " + authority + b"\r\n" in upgrade(host, port, secure)


def test_the_request_for_a_websocket() -> None:
    """All that RFC 6455 asks for, and the headers of the address; Origin and extensions only where
    there are any."""
    request = upgrade()
    assert request.startswith(b"GET /p HTTP/1.1\r\n")
    assert request.endswith(b"\r\nSec-WebSocket-Version: 13\r\n\r\n")
    for line in (b"X-ApiKey: k", b"Upgrade: websocket", b"Sec-WebSocket-Key: a2V5"):
        assert b"\r\n" + line + b"\r\n" in request
    assert b"Origin" not in request
    assert b"Extensions" not in request
    request = upgrade(origin="https://o", extensions=["a", "b"])
    assert b"\r\nOrigin: https://o\r\n" in request
    assert b"\r\nSec-WebSocket-Extensions: a, b\r\n" in request


def test_the_request_to_a_proxy() -> None:
    """The port stands there always; user and password go as the scheme Basic says (RFC 7617)."""
    assert connect_request("h", 443, None, None) == (
        b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"
    )
    assert connect_request("h", 1, "Aladdin", Secret("open sesame")) == (
        b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n"
        b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
    )


def test_a_head_is_read() -> None:
    """Status, phrase and headers, whatever bytes stand in them; of two headers the first counts."""
    head = read_head(
        b"HTTP/1.1 401 Non autoris\xe9\r\nRetry-After: 7\r\nx-SITE:Stra\xdfe\r\n"
        b"Retry-After: 9\r\nnonsense\r\n\r\n<html>"
    )
    assert head is not None
    assert (head.status, head.phrase) == (401, "Non autorisé")
    assert head.headers == {"retry-after": "7", "x-site": "Straße"}
    assert head.size == 86


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n"])
def test_half_a_head_is_none(data: bytes) -> None:
    """Until the empty line has come nothing is known."""
    assert read_head(data) is None


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 101 Switching Protocols", 101),
        (b"HTTP/1.0 503", 503),
        (b"HTTP/1.1 999999 Odd", None),
        (b"HTTP/1.1 \xb2\xb2\xb2 x", None),
        (b"SSH-2.0-OpenSSH_9.2", None),
        (b"", None),
    ],
)
def test_the_first_line(line: bytes, status: int | None) -> None:
    """Three digits behind the version, or it is no HTTP."""
    head = read_head(line + b"\r\n\r\n")
    assert head is not None
    assert head.status == status
    assert head.first_line == line.decode("latin-1")


@pytest.mark.parametrize(("status", "is_interim"), [(100, True), (103, True), (101, False)])
def test_interim_answers(status: int, is_interim: bool) -> None:
    """Of the answers from 100 to 199 only 101 is the last one."""
    head = read_head(b"HTTP/1.1 %d x\r\n\r\n" % status)
    assert head is not None
    assert head.is_interim is is_interim


@given(st.binary())
def test_whatever_bytes_come(data: bytes) -> None:
    """No bytes break the reader, and none that could be a line end is left for Autobahn."""
    head = read_head(data)
    assert head is None or head.size <= len(data)
    cleaned = as_ascii(data)
    assert len(cleaned) == len(data)
    assert cleaned.decode("ascii").splitlines() == cleaned.decode("utf-8").splitlines()
    assert not set(cleaned) - set(b"\r\n\t") - set(range(32, 127))


def test_a_header_with_another_value() -> None:
    """Only the header of that name changes."""
    head = b"HTTP/1.1 101 x\r\nA: 1\r\nB: 2\r\n\r\n"
    assert with_value(head, "a", "3") == b"HTTP/1.1 101 x\r\na: 3\r\nB: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("location", "hint"),
    [
        ("https://h:9955/p/d", "secure=true"),
        ("wss://H.:9955/p/d", "secure=true"),
        ("https://h/p/d?q", "secure=true and port=443"),
        ("https://h:9955/other", ""),
        ("https://other:9955/p/d", ""),
        ("http://h:9955/p/d", ""),
        ("/p/d", ""),
        ("https://[h/p/d", ""),
        ("https://h:x/p/d", ""),
        ("\xff", ""),
    ],
)
def test_a_redirect_to_the_same_place_with_tls(location: str, hint: str) -> None:
    """Where only the scheme differs, one setting is what is missing."""
    assert hint_at_scheme(location, False, "h", 9955, "/p/d?X-ApiKey=k") == hint


def test_a_redirect_of_a_secure_connection() -> None:
    """With TLS already there nothing can be hinted at."""
    assert hint_at_scheme("https://h:9955/p", True, "h", 9955, "/p") == ""
