"""TLS and proxies, over real sockets on the loopback interface."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from autobahn.websocket.compress import PerMessageDeflateOfferAccept
from twisted.internet import ssl
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.task import deferLater
from zope.interface import implementer

from oda import verification
from oda.settings import Secret
from tests.wire.certificates import Authority
from tests.wire.fakes import KEY
from tests.wire.loopback import Loopback, ProxyFactory, RecorderFactory
from tests.wire.platform import RawPlatform, say


@implementer(IHostnameResolver)
class EverythingIsHere:
    """Finds every name at 127.0.0.1: the system's resolver need not know 'localhost.'."""

    def resolveHostName(
        self, resolutionReceiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any
    ) -> Any:
        resolutionReceiver.resolutionBegan(None)
        resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        resolutionReceiver.resolutionComplete()


@pytest.fixture
def _every_name_is_here() -> Iterator[None]:
    from twisted.internet import reactor

    before = reactor.installNameResolver(EverythingIsHere())  # type: ignore[attr-defined]
    yield
    reactor.installNameResolver(before)  # type: ignore[attr-defined]


PASSPHRASE = "a passphrase of the tests"


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """Ports, connectors and log of one test; nothing may have failed unseen."""
    from twisted.internet import reactor

    made = Loopback(reactor)
    yield made
    for closing in made.close():
        pytest_twisted.blockon(closing)
    gc.collect()
    assert [failure.getTraceback() for failure in made.log.failures] == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def server_tls(cert_file: Path, key_file: Path, client_authority: Path | None = None) -> Any:
    """What a TLS server needs; with ``client_authority`` it asks for certificates of that."""
    pair = ssl.PrivateCertificate.loadPEM(cert_file.read_bytes() + key_file.read_bytes())
    if client_authority is None:
        return pair.options()
    return pair.options(ssl.Certificate.loadPEM(client_authority.read_bytes()))


@pytest_twisted.ensureDeferred
async def test_plain(loopback: Loopback) -> None:
    """Without TLS the connection works, and Nagle's algorithm is off."""
    service = loopback.start(port=loopback.listen(loopback.platform))
    await loopback.delivers(service)
    assert service._link._protocol is not None
    assert service._link._protocol.transport.getTcpNoDelay()


@pytest.fixture
def _no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collections")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest_twisted.ensureDeferred
async def test_a_connection_leaves_nothing_to_the_garbage_collector(
    loopback: Loopback, authority: Authority, secure: bool
) -> None:
    """When a connection has ended, everything of it is gone at once: its transport with the bytes
    it could not send, its compression, its session. With TLS, Twisted's tracebacks hold the
    transport until the next collection, and that the protocol, which has let go of the rest."""
    loopback.platform.setProtocolOptions(
        perMessageCompressionAccept=lambda offers: PerMessageDeflateOfferAccept(offers[0])
    )
    tls = server_tls(*authority.issue("good", "localhost", "127.0.0.1")) if secure else None
    port = loopback.listen(loopback.platform, tls)
    trust = {"secure": True, "ca_file": authority.file} if secure else {}
    service = loopback.start(port=port, compression=True, **trust)
    await loopback.delivers(service)
    protocol, session = service._link._protocol, service._link._session
    assert protocol is not None
    parts = {
        "protocol": protocol,
        "transport": protocol.transport,
        "compression": protocol._perMessageCompress,
        "session": session,
        "heartbeat": session._heartbeat,
    }
    assert None not in parts.values()
    left = {name: weakref.ref(part) for name, part in parts.items()}
    parts.clear()
    del protocol, session
    loopback.platform.peer.transport.abortConnection()
    await loopback.logged("connecting again in")
    await deferLater(loopback.reactor, 0.05)
    still_there = {name for name, ref in left.items() if ref() is not None}
    assert still_there <= ({"protocol", "transport"} if secure else set())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest_twisted.ensureDeferred
async def test_verified(loopback: Loopback, authority: Authority, host: str) -> None:
    """A certificate of the configured authority for this name or address is accepted."""
    tls = server_tls(*authority.issue("good", "localhost", "127.0.0.1"))
    port = loopback.listen(loopback.platform, tls)
    service = loopback.start(host=host, port=port, secure=True, ca_file=authority.file)
    await loopback.delivers(service)
    assert service._link._protocol is not None
    assert service._link._protocol.transport.getTcpNoDelay()


@pytest.mark.parametrize(
    ("host", "days", "trusted", "words"),
    [
        ("other.example", 2, True, "not for this host"),
        ("localhost", 2, False, "certificate verify failed"),
        ("localhost", -1, True, "certificate verify failed"),
    ],
    ids=["wrong host", "unknown authority", "expired"],
)
@pytest_twisted.ensureDeferred
async def test_refused(
    loopback: Loopback,
    authority: Authority,
    tmp_path: Path,
    host: str,
    days: int,
    trusted: bool,
    words: str,
) -> None:
    """A certificate that doesn't hold is a refusal in one line; nothing is sent, and nothing is
    tried without TLS."""
    tls = server_tls(*authority.issue("bad", host, days=days))
    port = loopback.listen(loopback.platform, tls)
    trust = authority if trusted else Authority(tmp_path, "stranger")
    loopback.start(host="localhost", port=port, secure=True, ca_file=trust.file)
    await loopback.logged("no connection", "TLS failed", words)
    assert all(peer.request is None for peer in loopback.platform.peers)


#: Names in a certificate that are not those of the tests' hosts, some of them malformed.
UNUSABLE_NAMES = [
    pytest.param([], id="none"),
    pytest.param(["name:*.other"], id="malformed wildcard"),
    pytest.param(["name:192.0.2.7"], id="address as a name"),
    pytest.param(["name:127.0.0.1"], id="own address as a name"),
    pytest.param(["other.example", "name:*.x"], id="other and malformed"),
    pytest.param(["name:localhost.example\0"], id="null byte"),
]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("names", UNUSABLE_NAMES)
@pytest_twisted.ensureDeferred
async def test_a_certificate_whose_names_cannot_be_used_is_refused(
    loopback: Loopback, authority: Authority, host: str, names: list[str]
) -> None:
    """A certificate of the trusted authority without any name, or with names that break the rules
    of certificates, is refused in one line like any other that is not for the host."""
    tls = server_tls(*authority.issue("unusable", *names))
    port = loopback.listen(loopback.platform, tls)
    loopback.start(host=host, port=port, secure=True, ca_file=authority.file)
    await loopback.logged("no connection", "TLS failed: the", "certificate")
    assert all(peer.request is None for peer in loopback.platform.peers)


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), SystemExit(1), None])
@pytest_twisted.ensureDeferred
async def test_whatever_happens_inside_the_verification_the_answer_is_refused(
    loopback: Loopback,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
) -> None:
    """An error of any kind in the check of a certificate refuses it, even a good one."""
    if error is not None:

        def fail(name: str) -> Any:
            def verify(certificate: Any) -> None:
                raise error

            return verify

        monkeypatch.setattr(verification, "_identity_check", fail)
    tls = server_tls(*authority.issue("good", "localhost"))
    port = loopback.listen(loopback.platform, tls)
    loopback.start(host="localhost", port=port, secure=True, ca_file=authority.file)
    if error is None:
        await loopback.logged("connected to")
        return
    await loopback.logged("no connection", "can't be checked", type(error).__name__)
    assert all(peer.request is None for peer in loopback.platform.peers)


@pytest.mark.usefixtures("_every_name_is_here")
@pytest_twisted.ensureDeferred
async def test_a_host_with_a_final_dot(loopback: Loopback, authority: Authority) -> None:
    """The final dot is for the resolver: the name is announced and verified without it (RFC 6066,
    section 3)."""
    tls = server_tls(*authority.issue("good", "localhost"))
    port = loopback.listen(loopback.platform, tls)
    service = loopback.start(host="localhost.", port=port, secure=True, ca_file=authority.file)
    await loopback.delivers(service)
    handle = loopback.platform.peer.transport.getHandle()
    assert handle.get_servername() == b"localhost"


@pytest.mark.usefixtures("_every_name_is_here")
@pytest_twisted.ensureDeferred
async def test_a_final_dot_without_verification(loopback: Loopback, tmp_path: Path) -> None:
    """skipVerify=true announces the same name."""
    tls = server_tls(*Authority(tmp_path, "stranger").issue("any"))
    port = loopback.listen(loopback.platform, tls)
    service = loopback.start(host="localhost.", port=port, secure=True, skip_verify=True)
    await loopback.delivers(service)
    handle = loopback.platform.peer.transport.getHandle()
    assert handle.get_servername() == b"localhost"


@pytest.mark.parametrize("trusted", ["intermediate", "own"])
@pytest_twisted.ensureDeferred
async def test_a_trusted_certificate_that_is_no_root(
    loopback: Loopback, authority: Authority, tmp_path: Path, trusted: str
) -> None:
    """caFile may hold the certificate of an intermediate authority, or the platform's own: whoever
    names a certificate trusts it."""
    intermediate = Authority(tmp_path, "intermediate", above=authority)
    cert_file, key_file = intermediate.issue("good", "localhost")
    port = loopback.listen(loopback.platform, server_tls(cert_file, key_file))
    ca_file = intermediate.file if trusted == "intermediate" else cert_file
    service = loopback.start(host="localhost", port=port, secure=True, ca_file=ca_file)
    await loopback.delivers(service)


@pytest_twisted.ensureDeferred
async def test_a_trusted_certificate_is_for_its_host_only(
    loopback: Loopback, authority: Authority
) -> None:
    """The platform's own certificate in caFile is no reason to leave its names unchecked."""
    cert_file, key_file = authority.issue("bad", "other.example")
    port = loopback.listen(loopback.platform, server_tls(cert_file, key_file))
    loopback.start(host="localhost", port=port, secure=True, ca_file=cert_file)
    await loopback.logged("no connection", "not for this host")


@pytest_twisted.ensureDeferred
async def test_default_trust(loopback: Loopback, authority: Authority) -> None:
    """Without caFile the system's authorities count, so a self-made one is refused."""
    tls = server_tls(*authority.issue("good", "localhost"))
    loopback.start(host="localhost", port=loopback.listen(loopback.platform, tls), secure=True)
    await loopback.logged("no connection", "TLS failed", "certificate verify failed")


@pytest_twisted.ensureDeferred
async def test_never_in_plaintext(loopback: Loopback, authority: Authority) -> None:
    """Against a server without TLS only the TLS handshake is sent: no request and no key."""
    recorder = RecorderFactory()
    loopback.start(port=loopback.listen(recorder), secure=True, ca_file=authority.file)
    await recorder.arrived
    assert recorder.received[:1] == b"\x16"
    assert b"GET /" not in recorder.received
    assert KEY.encode() not in recorder.received


@pytest_twisted.ensureDeferred
async def test_a_server_that_speaks_plain(loopback: Loopback, authority: Authority) -> None:
    """A plain WebSocket server behind secure=true is a refusal in one line."""
    port = loopback.listen(loopback.platform)
    loopback.start(port=port, secure=True, ca_file=authority.file, connection_timeout_s=0.3)
    await loopback.logged("no connection", "not open within 0.3 s")
    assert all(peer.request is None for peer in loopback.platform.peers)


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_is_never_answered(loopback: Loopback, authority: Authority) -> None:
    """A server that accepts TCP and leaves the TLS handshake unanswered costs connectionTimeout."""
    port = loopback.listen(RecorderFactory())
    loopback.start(port=port, secure=True, ca_file=authority.file, connection_timeout_s=0.3)
    await loopback.logged("no connection", "not open within 0.3 s")


@pytest_twisted.ensureDeferred
async def test_mutual_tls(loopback: Loopback, authority: Authority) -> None:
    """With certFile and keyFile the device shows its certificate."""
    tls = server_tls(*authority.issue("good", "127.0.0.1"), client_authority=authority.file)
    cert_file, key_file = authority.issue("device", client=True)
    service = loopback.start(
        port=loopback.listen(loopback.platform, tls),
        secure=True,
        ca_file=authority.file,
        cert_file=cert_file,
        key_file=key_file,
    )
    await loopback.delivers(service)
    shown = loopback.platform.peer.transport.getPeerCertificate()
    name = shown.to_cryptography().subject.rfc4514_string()
    assert name == "CN=device"


@pytest_twisted.ensureDeferred
async def test_mutual_tls_without_a_certificate(loopback: Loopback, authority: Authority) -> None:
    """A platform that insists on a certificate refuses a device without one."""
    tls = server_tls(*authority.issue("good", "127.0.0.1"), client_authority=authority.file)
    port = loopback.listen(loopback.platform, tls)
    loopback.start(port=port, secure=True, ca_file=authority.file)
    await loopback.logged("no connection", "TLS failed")


@pytest_twisted.ensureDeferred
async def test_skip_verify(loopback: Loopback, tmp_path: Path) -> None:
    """skipVerify=true accepts anything, and says loudly what that means."""
    tls = server_tls(*Authority(tmp_path, "stranger").issue("any", "other.example", days=-1))
    port = loopback.listen(loopback.platform, tls)
    service = loopback.start(port=port, secure=True, skip_verify=True)
    await loopback.delivers(service)
    assert loopback.log.has("skipVerify=true", "does NOT check")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't read"),
        (b"", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read"),
    ],
    ids=["missing", "empty", "broken"],
)
@pytest_twisted.ensureDeferred
async def test_unusable_files(
    loopback: Loopback, tmp_path: Path, content: bytes | None, words: str
) -> None:
    """A file that can't be used is named in one line, and the agent tries again later."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    loopback.start(port=1, secure=True, ca_file=file)
    await loopback.logged("can't connect", "caFile", str(file), words, "trying again")


@pytest_twisted.ensureDeferred
async def test_a_key_that_does_not_fit(loopback: Loopback, authority: Authority) -> None:
    """A certificate with another's key is refused, with both files named."""
    cert_file, _ = authority.issue("one", client=True)
    _, key_file = authority.issue("two", client=True)
    loopback.start(
        port=1, secure=True, ca_file=authority.file, cert_file=cert_file, key_file=key_file
    )
    await loopback.logged("can't connect", str(cert_file), str(key_file))


@pytest.mark.parametrize("traditional", [False, True], ids=["PKCS #8", "traditional"])
@pytest_twisted.ensureDeferred
async def test_an_encrypted_key(
    loopback: Loopback, authority: Authority, traditional: bool
) -> None:
    """A key that is encrypted is read with its passphrase."""
    tls = server_tls(*authority.issue("good", "127.0.0.1"), client_authority=authority.file)
    cert_file, key_file = authority.issue(
        "device", client=True, passphrase=PASSPHRASE, traditional=traditional
    )
    service = loopback.start(
        port=loopback.listen(loopback.platform, tls),
        secure=True,
        ca_file=authority.file,
        cert_file=cert_file,
        key_file=key_file,
        key_passphrase=Secret(PASSPHRASE),
    )
    await loopback.delivers(service)


@pytest.mark.parametrize("traditional", [False, True], ids=["PKCS #8", "traditional"])
@pytest.mark.parametrize(
    ("passphrase", "words"),
    [(None, ["is encrypted", "keyPassphraseFile"]), ("wrong", ["can't be decrypted"])],
)
@pytest_twisted.ensureDeferred
async def test_an_encrypted_key_without_its_passphrase(
    loopback: Loopback,
    authority: Authority,
    passphrase: str | None,
    words: list[str],
    traditional: bool,
) -> None:
    """Without the passphrase, or with a wrong one, one line says so; nobody is asked at the
    terminal."""
    cert_file, key_file = authority.issue(
        "device", client=True, passphrase=PASSPHRASE, traditional=traditional
    )
    loopback.start(
        port=1,
        secure=True,
        ca_file=authority.file,
        cert_file=cert_file,
        key_file=key_file,
        key_passphrase=None if passphrase is None else Secret(passphrase),
    )
    await loopback.logged("can't connect", "keyFile", str(key_file), *words)


@pytest_twisted.ensureDeferred
async def test_a_file_without_a_key(loopback: Loopback, authority: Authority) -> None:
    """keyFile without a private key is named, and nothing else is blamed."""
    cert_file, _ = authority.issue("device", client=True)
    loopback.start(
        port=1, secure=True, ca_file=authority.file, cert_file=cert_file, key_file=cert_file
    )
    await loopback.logged("can't connect", "keyFile", "holds no private key")


# -- proxies ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_proxy(loopback: Loopback) -> None:
    """Through a proxy the agent asks for the platform with CONNECT, without the key, and the
    connection works like any other."""
    proxy = ProxyFactory(loopback.reactor)
    port = loopback.listen(loopback.platform)
    service = loopback.start(port=port, proxy_host="127.0.0.1", proxy_port=loopback.listen(proxy))
    await loopback.delivers(service)
    assert proxy.requests[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % port)
    assert KEY.encode() not in proxy.requests[0]


@pytest_twisted.ensureDeferred
async def test_proxy_with_a_user(loopback: Loopback) -> None:
    """The proxy is told who the agent is (Basic, RFC 7617), the platform is not, and the log shows
    neither the password nor how it travels."""
    proxy = ProxyFactory(loopback.reactor)
    port = loopback.listen(loopback.platform)
    service = loopback.start(
        port=port,
        proxy_host="127.0.0.1",
        proxy_port=loopback.listen(proxy),
        proxy_user="Aladdin",
        proxy_password=Secret("open sesame"),
    )
    await loopback.delivers(service)
    travelling = "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert f"\r\nProxy-Authorization: Basic {travelling}\r\n".encode() in proxy.requests[0]
    assert "proxy-authorization" not in loopback.platform.peer.http_headers
    assert not any("sesame" in line or travelling in line for line in loopback.log.lines)


@pytest_twisted.ensureDeferred
async def test_proxy_with_interim_answers(loopback: Loopback) -> None:
    """A proxy may announce its answer as well."""
    proxy = ProxyFactory(loopback.reactor, before=b"HTTP/1.1 103 Early Hints\r\n\r\n")
    port = loopback.listen(loopback.platform)
    service = loopback.start(port=port, proxy_host="127.0.0.1", proxy_port=loopback.listen(proxy))
    await loopback.delivers(service)


@pytest.mark.parametrize("has_certificate", [False, True])
@pytest.mark.parametrize("status", [400, 496])
@pytest_twisted.ensureDeferred
async def test_a_refusal_that_may_be_for_a_missing_certificate(
    loopback: Loopback, authority: Authority, status: int, has_certificate: bool
) -> None:
    """Servers that want a certificate of the device, and say so over HTTP, mostly say 400: the line
    hints at certFile where there is none."""
    tls = server_tls(*authority.issue("good", "127.0.0.1"))
    platform = RawPlatform(say(b"HTTP/1.1 %d Bad Request\r\n\r\nNo certificate" % status))
    cert_file, key_file = authority.issue("device", client=True)
    shown = {"cert_file": cert_file, "key_file": key_file} if has_certificate else {}
    port = loopback.listen(platform, tls)
    loopback.start(port=port, secure=True, ca_file=authority.file, **shown)
    await loopback.logged("no connection", f"status {status}")
    assert loopback.log.has(f"status {status}", "see certFile") is not has_certificate


@pytest_twisted.ensureDeferred
async def test_proxy_and_tls(loopback: Loopback, authority: Authority) -> None:
    """TLS goes through the proxy end to end: the proxy sees CONNECT and no request, and the
    certificate is verified for the platform's name."""
    proxy = ProxyFactory(loopback.reactor)
    tls = server_tls(*authority.issue("good", "localhost"))
    service = loopback.start(
        host="localhost",
        port=loopback.listen(loopback.platform, tls),
        secure=True,
        ca_file=authority.file,
        proxy_host="127.0.0.1",
        proxy_port=loopback.listen(proxy),
    )
    await loopback.delivers(service)
    assert b"GET /" not in proxy.seen
    assert KEY.encode() not in proxy.seen


@pytest_twisted.ensureDeferred
async def test_proxy_and_wrong_certificate(loopback: Loopback, authority: Authority) -> None:
    """Behind a proxy certificates are checked as strictly."""
    proxy = ProxyFactory(loopback.reactor)
    tls = server_tls(*authority.issue("bad", "other.example"))
    loopback.start(
        host="localhost",
        port=loopback.listen(loopback.platform, tls),
        secure=True,
        ca_file=authority.file,
        proxy_host="127.0.0.1",
        proxy_port=loopback.listen(proxy),
    )
    await loopback.logged("no connection", "TLS failed", "not for this host")
    assert all(peer.request is None for peer in loopback.platform.peers)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ["407"]),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ["502"]),
        (
            b"HTTP/1.1 407 Anmeldung n\xf6tig\r\nContent-Length: 4\r\n\r\npage",
            ["refused CONNECT with HTTP status 407 ('Anmeldung n\xf6tig')", "see proxyUser"],
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n" + b"x" * 100_000, ["403 ('Forbidden')"]),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 Bad\r\n\r\npage", ["502 ('Bad')"]),
        (b"garbage\r\n\r\n", ["garbage"]),
        (bytes(range(128, 256)) + b"\r\n\r\n", ["no connection"]),
        (b"\r\n\r\n", ["no connection"]),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n", ["more than"]),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, ["endless"]),
    ],
    ids=[
        "407",
        "502",
        "page",
        "long page",
        "after 100",
        "garbage",
        "binary",
        "nothing",
        "more",
        "endless",
    ],
)
@pytest_twisted.ensureDeferred
async def test_proxy_that_refuses(
    loopback: Loopback, authority: Authority, answer: bytes, words: list[str], secure: bool
) -> None:
    """A proxy that refuses, talks nonsense or puts words into the platform's mouth is a refusal in
    one line; the key is never sent."""
    proxy = ProxyFactory(loopback.reactor, answer)
    loopback.start(
        host="localhost",
        port=1,
        secure=secure,
        ca_file=authority.file,
        proxy_host="127.0.0.1",
        proxy_port=loopback.listen(proxy),
    )
    await loopback.logged("no connection", *words)
    assert b"GET /" not in proxy.seen
    assert KEY.encode() not in proxy.seen
