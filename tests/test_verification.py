"""What can't be verified is refused before a connection is made, and in the callback."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from OpenSSL import SSL

from oda.errors import ConnectorError
from oda.verification import (
    CertificateRefused,
    _Verifier,
    describe_tls,
    unverified_client,
    verified_client,
)


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
    with pytest.raises(ConnectorError, match="not a name that a certificate can have"):
        verified_client(host, None, {})


def test_an_international_name() -> None:
    """It is announced and verified in the form that certificates have."""
    assert verified_client("b\xfccher.example", None, {})._name == "xn--bcher-kva.example"
    assert unverified_client("b\xfccher.example.", {})._name == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CertificateRefused("the certificate is not for this host"), "the certificate is not for"),
        (SSL.Error([("SSL routines", "", "certificate verify failed")]), "certificate verify fail"),
        (SSL.Error([("", "", "one"), ("", "", ""), ("", "", "two")]), "one, two"),
        (SSL.Error(-1, "Unexpected EOF"), "the other side ended it"),
        (SSL.Error(), "the other side ended it"),
    ],
)
def test_what_a_failure_of_tls_means(error: Exception, text: str) -> None:
    """One short sentence for each."""
    assert (describe_tls(error) or "").startswith(text)


def test_any_other_failure_is_none_of_tls() -> None:
    """It is described elsewhere."""
    assert describe_tls(ConnectionResetError()) is None
