"""When certificates end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from OpenSSL.crypto import FILETYPE_PEM, load_certificate

from oda.connector.status import file_certificate_ends_ms, platform_certificate_ends_ms
from tests.wire.certificates import Authority

DAY_MS = 86_400_000


class Transport:
    """A transport that was shown a certificate, or none."""

    def __init__(self, certificate: Any) -> None:
        self._certificate = certificate

    def getPeerCertificate(self) -> Any:
        return self._certificate


@pytest.mark.parametrize("days", [-3, 10])
def test_the_end_is_read_from_the_certificate(tmp_path: Path, days: int) -> None:
    """Of the client's file and of what the platform showed alike, also when it is over."""
    file, _ = Authority(tmp_path, "ca").issue("some", days=days)
    expected_ms = time.time() * 1000 + days * DAY_MS
    shown = Transport(load_certificate(FILETYPE_PEM, file.read_bytes()))
    for ends_ms in (file_certificate_ends_ms(file), platform_certificate_ends_ms(shown)):
        assert ends_ms is not None
        assert abs(ends_ms - expected_ms) < DAY_MS / 2


def test_without_a_certificate_there_is_no_end(tmp_path: Path) -> None:
    """No TLS, no certificate shown, no file, a file that is none: nothing, and no error."""
    (tmp_path / "rubbish").write_text("rubbish")
    assert platform_certificate_ends_ms(object()) is None
    assert platform_certificate_ends_ms(Transport(None)) is None
    for file in (None, tmp_path / "missing", tmp_path / "rubbish"):
        assert file_certificate_ends_ms(file) is None
