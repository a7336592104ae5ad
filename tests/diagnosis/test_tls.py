"""What ``oda check`` says of the platform's certificate, over real sockets on the loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from oda.diagnosis.connection import ConnectionCheck
from oda.diagnosis.findings import Findings, Result
from oda.settings import Secret
from tests.wire.certificates import Authority
from tests.wire.loopback import Loopback
from tests.wire.test_loopback import UNUSABLE_NAMES, server_tls
from tests.wire.world import connector_settings


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    from twisted.internet import reactor

    made = Loopback(reactor)
    yield made
    for closing in made.close():
        pytest_twisted.blockon(closing)
    assert [failure.getTraceback() for failure in made.log.failures] == []


async def _check(loopback: Loopback, port: int, ca_file: Path, **settings: Any) -> Findings:
    findings = Findings()
    check = ConnectionCheck(
        connector_settings(
            **{"host": "localhost", "port": port, "secure": True, "ca_file": ca_file, **settings}
        ),
        findings,
        loopback.reactor,
        lambda: int(time.time() * 1000),
        os.urandom,
    )
    await check.run(("dev-1", Secret("canary-key")))
    return findings


@pytest.mark.parametrize("names", UNUSABLE_NAMES)
@pytest_twisted.ensureDeferred
async def test_a_certificate_whose_names_cannot_be_used_is_refused(
    loopback: Loopback, tmp_path: Path, names: list[str]
) -> None:
    """The check fails at such a certificate, in one readable line, and sends nothing: it never
    calls a certificate verified that the agent would refuse."""
    authority = Authority(tmp_path, "authority")
    port = loopback.listen(loopback.platform, server_tls(*authority.issue("unusable", *names)))
    findings = await _check(loopback, port, authority.file)
    (failed,) = [one for one in findings.all if one.result is Result.FAILED]
    assert failed.step == "tls"
    assert "certificate" in failed.text
    assert failed.text.isprintable()
    assert not any("verified" in one.text for one in findings.all)
    assert not any(one.step == "upgrade" for one in findings.all)
    assert all(peer.request is None for peer in loopback.platform.peers)


@pytest_twisted.ensureDeferred
async def test_the_host_beside_a_malformed_name(loopback: Loopback, tmp_path: Path) -> None:
    """A certificate that names the host beside a malformed name is refused by the agent: the check
    says that it is the names, and not the authority."""
    authority = Authority(tmp_path, "authority")
    tls = server_tls(*authority.issue("unusable", "localhost", "name:*.x"))
    findings = await _check(loopback, loopback.listen(loopback.platform, tls), authority.file)
    (failed,) = [one for one in findings.all if one.result is Result.FAILED]
    assert "names in the certificate" in failed.text
    assert "reissued" in failed.advice


@pytest_twisted.ensureDeferred
async def test_an_encrypted_key(loopback: Loopback, tmp_path: Path) -> None:
    """An encrypted key without its passphrase is said to be encrypted, and nobody is asked."""
    authority = Authority(tmp_path, "authority")
    port = loopback.listen(loopback.platform, server_tls(*authority.issue("good", "localhost")))
    cert_file, key_file = authority.issue("device", client=True, passphrase="a passphrase")
    findings = await _check(loopback, port, authority.file, cert_file=cert_file, key_file=key_file)
    (failed,) = [one for one in findings.all if one.result is Result.FAILED]
    assert "is encrypted; set keyPassphraseFile" in failed.text
