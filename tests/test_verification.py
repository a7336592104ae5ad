"""What can't be verified is refused before a connection is made, and in the callback."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from oda.errors import ConnectorError
from oda.verification import CertificateRefused, _Verifier, unverified_client, verified_client


class FakeTls:
    """Takes the reason for which Twisted's TLS protocol ends its connection."""

    def __init__(self) -> None:
        self.reasons: list[Any] = []

    def failVerification(self, reason: Any) -> None:
        self.reasons.append(reason.value)


def passes(certificate: Any) -> None:
    """The certificate is for the host."""


def fails(certificate: Any) -> None:
    raise ValueError(certificate)


@pytest.mark.parametrize(
    ("is_valid", "depth", "verify", "passed"),
    [
        (1, 0, passes, True),
        (1, 0, fails, False),
        (1, 1, fails, True),  # an authority's certificate need not be for the host
        (0, 0, passes, False),
        (0, 1, passes, False),
    ],
)
def test_both_judgements_are_needed(is_valid: int, depth: int, verify: Any, passed: bool) -> None:
    """OpenSSL's of the chain, and ours of the names."""
    tls = FakeTls()
    assert _Verifier(tls, verify)(None, "certificate", 0, depth, is_valid) is passed
    if is_valid and not passed:
        assert [type(reason) for reason in tls.reasons] == [CertificateRefused]


def test_the_verifier_does_not_need_the_connection() -> None:
    """A connection that is gone meanwhile gets no certificate through."""
    tls = FakeTls()
    verifier = _Verifier(tls, fails)
    del tls
    gc.collect()
    assert verifier(None, "certificate", 0, 0, 1) is False


@pytest.mark.parametrize("host", ["1_0", "a" * 64 + "\xfc.example", "\xfc" * 64])
def test_a_host_that_no_certificate_can_be_for(host: str) -> None:
    """It is said with the host, when the configuration is used."""
    with pytest.raises(ConnectorError, match="no name that a certificate can have"):
        verified_client(host, None, {})


def test_an_international_name() -> None:
    """It is announced and verified in the form that certificates have."""
    assert verified_client("b\xfccher.example", None, {})._name == "xn--bcher-kva.example"
    assert unverified_client("b\xfccher.example.", {})._name == "xn--bcher-kva.example"
