"""Downloads from a real web server on the loopback interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from oda.errors import OperationFailed, OperationNotSupported
from oda.settings import ConnectorSettings, UpdateSettings
from oda.update import download
from oda.update.download import Downloader, Target, check_host
from tests.wire.certificates import Authority

DATA = bytes(range(256)) * 64
CONNECTOR = ConnectorSettings(host="127.0.0.1")


class Files(Resource):
    """Serves ``DATA``. ``breaks`` are the numbers of bytes after which an answer breaks off, one
    for each; ``answer`` takes the place of everything."""

    isLeaf = True

    def __init__(self, *breaks: int, answer: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.breaks = list(breaks)
        self.answer = answer
        self.tag = b'"1"'
        self.data = DATA
        self.asked: list[dict[str, str]] = []

    def render_GET(self, request: Any) -> Any:
        names = ("range", "if-range", "x-apikey", "accept-encoding")
        headers = {name: request.getHeader(name) for name in names}
        self.asked.append({name: value for name, value in headers.items() if value})
        if self.answer is not None:
            return self.answer(request)
        data, first = self.data, 0
        asked = request.getHeader("range")
        if asked and request.getHeader("if-range") == self.tag.decode():
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            request.setResponseCode(206)
            told = f"bytes {first}-{len(data) - 1}/{len(data)}"
            request.setHeader("Content-Range", told)
        request.setHeader("ETag", self.tag)
        request.setHeader("Content-Length", str(len(data) - first))
        if self.breaks:
            request.write(data[first : first + self.breaks.pop(0)])
            request.transport.loseConnection()
            return NOT_DONE_YET
        request.write(data[first:])
        request.finish()
        return NOT_DONE_YET


class Server:
    """Files on a port, and a downloader that may fetch them."""

    def __init__(self, files: Resource, directory: Path, tls: Any = None, **connector: Any) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.directory = directory
        site = Site(files)
        site.noisy = False
        if tls is None:
            self.port = self.reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            self.port = self.reactor.listenSSL(0, site, tls, interface="127.0.0.1")
        self.number = self.port.getHost().port
        self.scheme = "http" if tls is None else "https"
        self.connector = msgspec.structs.replace(CONNECTOR, **connector)

    async def fetch(
        self,
        update: UpdateSettings = UpdateSettings(),  # noqa: B008 - frozen
        host: str = "127.0.0.1",
        **target: Any,
    ) -> bytes:
        limits = {"max_bytes": 1_000_000, "size": None, "deadline_s": self.reactor.seconds() + 20}
        url = f"{self.scheme}://{host}:{self.number}/file?token=x"
        file = self.directory / "0" / "file"
        downloader = Downloader(self.reactor, self.connector, update, lambda: "the-key")
        await downloader.fetch(Target(url=url, file=file, **{**limits, **target}))
        return file.read_bytes()

    async def stop(self) -> None:
        await self.port.stopListening()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(download, "STALL_S", 1.0)


async def fetched(files: Files, directory: Path, **more: Any) -> bytes:
    server = Server(files, directory)
    try:
        return await server.fetch(**more)
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_file_arrives_as_it_is(tmp_path: Path) -> None:
    """The server is asked for no compression, and is not shown the key."""
    files = Files()
    assert await fetched(files, tmp_path, size=len(DATA)) == DATA
    assert files.asked == [{"accept-encoding": "identity"}]


@pytest_twisted.ensureDeferred
async def test_a_download_that_breaks_off_goes_on(tmp_path: Path) -> None:
    """Only the rest is fetched, as long as the file is the same."""
    files = Files(1000, 0, 2000)
    assert await fetched(files, tmp_path) == DATA
    ranges = [one.get("range") for one in files.asked]
    assert ranges == [None, "bytes=1000-", "bytes=1000-", "bytes=3000-"]
    assert {one.get("if-range") for one in files.asked[1:]} == {'"1"'}


@pytest_twisted.ensureDeferred
async def test_another_version_is_fetched_from_the_beginning(tmp_path: Path) -> None:
    """Halves of two files make none."""
    files = Files(1000)
    breaks = files.breaks

    class Changing(Files):
        def render_GET(self, request: Any) -> Any:
            if not breaks:
                self.tag, self.data = b'"2"', DATA[::-1]
            return super().render_GET(request)

    changing = Changing()
    changing.breaks = breaks
    assert await fetched(changing, tmp_path) == DATA[::-1]


@pytest_twisted.ensureDeferred
async def test_without_a_version_nothing_is_continued(tmp_path: Path) -> None:
    """A weak ETag says that two files are alike, not that they are the same."""
    files = Files(1000)
    files.tag = b'W/"1"'
    assert await fetched(files, tmp_path) == DATA
    assert [one.get("range") for one in files.asked] == [None, None]


class Liar(Files):
    """Answers a range with what ``lie(request, first)`` sends."""

    def __init__(self, lie: Callable[[Any, int], bytes]) -> None:
        super().__init__(1000)
        self.lie = lie

    def render_GET(self, request: Any) -> Any:
        asked = request.getHeader("range")
        if not asked or len(self.asked) > 1:
            return super().render_GET(request)
        self.asked.append({"range": asked})
        request.setResponseCode(206)
        request.setHeader("ETag", self.tag)
        return self.lie(request, int(asked.removeprefix("bytes=").removesuffix("-")))


def another_version(request: Any, first: int) -> bytes:
    request.setHeader("ETag", b'"2"')
    request.setHeader("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
    return DATA[::-1][first:]


def no_version(request: Any, first: int) -> bytes:
    request.responseHeaders.removeHeader(b"ETag")
    request.setHeader("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
    return DATA[::-1][first:]


def less_than_the_rest(request: Any, first: int) -> bytes:
    request.setHeader("Content-Range", f"bytes {first}-{first + 9}/{len(DATA)}")
    return DATA[first : first + 10]


def more_than_the_rest(request: Any, first: int) -> bytes:
    request.setHeader("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
    return DATA[first:] + b"more"


@pytest.mark.parametrize(
    "lie", [another_version, no_version, less_than_the_rest, more_than_the_rest]
)
@pytest_twisted.ensureDeferred
async def test_a_part_is_taken_only_as_what_was_asked_for(
    tmp_path: Path, lie: Callable[[Any, int], bytes]
) -> None:
    """A part of another version, or another part than the rest, makes no whole file; also where
    the request tells no size."""
    assert await fetched(Liar(lie), tmp_path) == DATA


@pytest_twisted.ensureDeferred
async def test_a_download_that_is_cancelled_asks_no_more(tmp_path: Path) -> None:
    """An update that is stopped while a server is silent asks it not again."""
    asked: Deferred[None] = Deferred()

    def held(request: Any) -> Any:
        if not asked.called:
            asked.callback(None)
        return NOT_DONE_YET

    files = Files(answer=held)
    server = Server(files, tmp_path)
    try:
        fetching = Deferred.fromCoroutine(server.fetch())
        await asked
        fetching.cancel()
        with pytest.raises(CancelledError):
            await fetching
    finally:
        await server.stop()
    assert len(files.asked) == 1


@pytest.mark.parametrize(
    ("limits", "is_taken"),
    [({}, False), ({"size": len(DATA)}, True), ({"is_judged": True}, True)],
    ids=["nothing", "size", "digest"],
)
@pytest_twisted.ensureDeferred
async def test_a_file_whose_end_is_not_known(
    tmp_path: Path, limits: dict[str, Any], is_taken: bool
) -> None:
    """A server that tells no length ends a whole file as a broken connection ends half of one:
    only size, or a digest, tells the difference."""

    def endless(request: Any) -> Any:
        request.channel.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + DATA)
        request.channel.loseConnection()
        return NOT_DONE_YET

    files = Files(answer=endless)
    if is_taken:
        assert await fetched(files, tmp_path, **limits) == DATA
        return
    with pytest.raises(OperationFailed, match="needs size, or a validator"):
        await fetched(files, tmp_path, **limits)


@pytest_twisted.ensureDeferred
async def test_the_key_goes_to_named_hosts_only(tmp_path: Path) -> None:
    """``updateKeyHosts`` names the host, or host and port."""
    files = Files()
    server = Server(files, tmp_path)
    try:
        named = UpdateSettings(key_hosts=(f"127.0.0.1:{server.number}",))
        await server.fetch(named)
        (tmp_path / "0" / "file").unlink()
        await server.fetch(UpdateSettings(key_hosts=("127.0.0.1:1", "example.org")))
    finally:
        await server.stop()
    assert [one.get("x-apikey") for one in files.asked] == ["the-key", None]


def code(number: int) -> Callable[[Any], Any]:
    def answer(request: Any) -> bytes:
        request.setResponseCode(number)
        request.setHeader("Location", "http://elsewhere.example/")
        return b"x" * 100

    return answer


def endless(request: Any) -> Any:
    request.setHeader("Transfer-Encoding", "chunked")
    for _ in range(100):
        request.write(b"x" * 1000)
    return NOT_DONE_YET


def silent(request: Any) -> Any:
    request.setHeader("Content-Length", "10")
    request.write(b"x")
    return NOT_DONE_YET


def mute(request: Any) -> Any:
    return NOT_DONE_YET


@pytest.mark.parametrize(
    ("files", "limits", "reason"),
    [
        (Files(answer=code(404)), {}, "answered 404"),
        (Files(answer=code(302)), {}, "redirects are not followed"),
        (Files(), {"max_bytes": 100}, "100 are allowed"),
        (Files(answer=endless), {"max_bytes": 5000}, "more than the allowed 5000"),
        (Files(), {"size": 7}, "size says 7"),
    ],
    ids=["404", "redirect", "announced", "endless", "size"],
)
@pytest_twisted.ensureDeferred
async def test_what_can_not_become_better_fails_at_once(
    tmp_path: Path, files: Files, limits: dict[str, Any], reason: str
) -> None:
    """One attempt is enough."""
    with pytest.raises(OperationFailed, match=reason):
        await fetched(files, tmp_path, **limits)
    assert len(files.asked) == 1


@pytest.mark.parametrize(
    "answer", [code(503), silent, mute], ids=["unavailable", "stalls", "never answers"]
)
@pytest_twisted.ensureDeferred
async def test_what_may_become_better_is_tried_until_the_time_is_over(
    tmp_path: Path, answer: Callable[[Any], Any]
) -> None:
    """No server holds an update up for longer than ``updateTimeout``."""
    from twisted.internet import reactor

    files = Files(answer=answer)
    begun_s = reactor.seconds()  # type: ignore[attr-defined]
    with pytest.raises(OperationFailed, match="not complete within updateTimeout"):
        await fetched(files, tmp_path, deadline_s=begun_s + 2.5)
    assert len(files.asked) > 1
    assert reactor.seconds() < begun_s + 6  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    """Nobody listens: the next attempt may find somebody."""
    server = Server(Files(), tmp_path)
    await server.stop()
    with pytest.raises(OperationFailed, match=r"[Rr]efused"):
        await server.fetch(deadline_s=server.reactor.seconds() + 1.0)


# -- TLS and proxies -------------------------------------------------------------------------------


def served(directory: Path, *names: str) -> tuple[Authority, Any]:
    authority = Authority(directory, "authority")
    cert_file, key_file = authority.issue("server", *names)
    pair = ssl.PrivateCertificate.loadPEM(cert_file.read_bytes() + key_file.read_bytes())
    return authority, pair.options()


@pytest_twisted.ensureDeferred
async def test_a_verified_server(tmp_path: Path) -> None:
    """The connection's ``caFile`` is what a download trusts."""
    authority, options = served(tmp_path, "localhost")
    server = Server(Files(), tmp_path, options, secure=True, ca_file=authority.file)
    try:
        assert await server.fetch(host="localhost") == DATA
    finally:
        await server.stop()


@pytest.mark.parametrize("names", [["other.example"], []])
@pytest_twisted.ensureDeferred
async def test_a_server_that_can_not_be_verified(tmp_path: Path, names: list[str]) -> None:
    """A certificate for another host ends the download, at once."""
    authority, options = served(tmp_path, *names)
    files = Files()
    server = Server(files, tmp_path, options, secure=True, ca_file=authority.file)
    try:
        with pytest.raises(OperationFailed, match="TLS"):
            await server.fetch(host="localhost")
    finally:
        await server.stop()
    assert files.asked == []


@pytest.mark.parametrize("secure", [False, True])
@pytest_twisted.ensureDeferred
async def test_through_the_connections_proxy(tmp_path: Path, secure: bool) -> None:
    """CONNECT with the proxy's user, then the same as without; TLS goes through it."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
    from twisted.internet.protocol import Factory, Protocol

    heads: list[bytes] = []

    class Other(Protocol):
        def __init__(self, client: Any) -> None:
            self.client = client

        def dataReceived(self, data: bytes) -> None:
            self.client.transport.write(data)

        def connectionLost(self, reason: Any = None) -> None:
            self.client.transport.loseConnection()

    class Proxy(Protocol):
        other: Any = None
        received = b""

        def dataReceived(self, data: bytes) -> None:
            if self.other is not None:
                self.other.transport.write(data)
                return
            self.received += data
            if b"\r\n\r\n" in self.received:
                heads.append(self.received)
                target = TCP4ClientEndpoint(reactor, "127.0.0.1", server.number)
                connectProtocol(target, Other(self)).addCallback(self.connected_to)

        def connected_to(self, other: Any) -> None:
            self.other = other
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")  # type: ignore[union-attr]

    proxy = reactor.listenTCP(  # type: ignore[attr-defined]
        0, Factory.forProtocol(Proxy), interface="127.0.0.1"
    )
    authority, options = served(tmp_path, "files.example")
    settings: dict[str, Any] = {
        "proxy_host": "127.0.0.1",
        "proxy_port": proxy.getHost().port,
        "proxy_user": "me",
    }
    if secure:
        settings |= {"secure": True, "ca_file": authority.file}
    server = Server(Files(), tmp_path, options if secure else None, **settings)
    try:
        assert await server.fetch(host="files.example") == DATA
    finally:
        await server.stop()
        await proxy.stopListening()
    assert heads[0].startswith(f"CONNECT files.example:{server.number} HTTP/1.1".encode())
    assert b"Proxy-Authorization: Basic bWU6" in heads[0]


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_refuses(tmp_path: Path) -> None:
    """The reason is the proxy's answer."""
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    class Refusing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 407 Who are you\r\n\r\n")  # type: ignore[union-attr]

    proxy = reactor.listenTCP(  # type: ignore[attr-defined]
        0, Factory.forProtocol(Refusing), interface="127.0.0.1"
    )
    server = Server(Files(), tmp_path, proxy_host="127.0.0.1", proxy_port=proxy.getHost().port)
    try:
        with pytest.raises(OperationFailed, match="407 Who are you"):
            await server.fetch()
    finally:
        await server.stop()
        await proxy.stopListening()


# -- where from ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "update", "connector", "key"),
    [
        ("http://127.0.0.1/x", {}, {}, ""),
        ("https://127.0.0.1:8443/x", {}, {"secure": True}, ""),
        ("http://127.0.0.1/x", {}, {"secure": True}, "secure=true"),
        ("https://other.example/x", {}, {}, "updateHosts"),
        ("https://Files.example/x", {"hosts": ("files.example",)}, {}, ""),
        ("https://files.example:1/x", {"hosts": ("files.example:443",)}, {}, "updateHosts"),
        ("https://files.example/x", {"hosts": ("files.example:443",)}, {}, ""),
        ("https://127.0.0.1/x", {"hosts": ("files.example",)}, {}, "updateHosts"),
        ("http://[::1]:80/x", {"hosts": ("[::1]:80",)}, {}, ""),
    ],
)
def test_only_named_hosts(
    url: str, update: dict[str, Any], connector: dict[str, Any], key: str
) -> None:
    """Without ``updateHosts`` it is the platform's host; http is for plaintext connections only."""
    settings = msgspec.structs.replace(CONNECTOR, **connector)
    if not key:
        check_host(url, UpdateSettings(**update), settings)
        return
    with pytest.raises(OperationNotSupported, match=key):
        check_host(url, UpdateSettings(**update), settings)
