"""HTTPS to web servers, over real sockets on the loopback interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from oda.datastreams.timesource import HttpTimeSource
from oda.datastreams.web_client import verified_agent
from oda.errors import ReadingFailed
from tests.wire.certificates import Authority


async def _ask(directory: Path, *names: str) -> int:
    """The time of a web server whose certificate has these names."""
    from twisted.internet import reactor

    authority = Authority(directory, "authority")
    cert_file, key_file = authority.issue("server", *names)
    pair = ssl.PrivateCertificate.loadPEM(cert_file.read_bytes() + key_file.read_bytes())
    trusted = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.file.read_bytes())])
    site = Site(Resource())
    site.noisy = False
    port = reactor.listenSSL(  # type: ignore[attr-defined]
        0, site, pair.options(), interface="127.0.0.1"
    )
    try:
        url = f"https://localhost:{port.getHost().port}/"
        asked: Deferred[int] = HttpTimeSource(
            url, reactor, verified_agent(reactor, trusted)
        ).now_ms()
        return await asked
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_time_of_a_verified_server(tmp_path: Path) -> None:
    """A certificate for the host is accepted."""
    assert await _ask(tmp_path, "localhost") > 0


@pytest.mark.parametrize("names", [[], ["name:*.x"], ["name:127.0.0.1"], ["other.example"]])
@pytest_twisted.ensureDeferred
async def test_a_server_that_cannot_be_verified(tmp_path: Path, names: list[str]) -> None:
    """A time source with a certificate for another host, or for none, sets no clock."""
    with pytest.raises(ReadingFailed):
        await _ask(tmp_path, *names)
