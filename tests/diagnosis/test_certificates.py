"""Why a certificate was refused, found out from the certificate."""

from __future__ import annotations

import pytest

from oda.diagnosis.certificates import Certificate, day, days_left, explain_refusal, is_for

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS


def certificate(
    *names: str, begins_ms: int = NOW_MS - DAY_MS, ends_ms: int = NOW_MS + DAY_MS
) -> Certificate:
    return Certificate("device.example", "Test Authority", names, begins_ms, ends_ms)


@pytest.mark.parametrize(
    ("names", "host", "matches"),
    [
        (("a.example",), "a.example", True),
        (("A.Example",), "a.EXAMPLE.", True),
        (("*.example",), "a.example", True),
        (("*.example",), "a.b.example", False),
        (("*.example",), "example", False),
        (("192.0.2.1",), "192.0.2.1", True),
        (("2001:db8::1",), "2001:DB8:0::1", True),
        (("192.0.2.1",), "192.0.2.2", False),
        ((), "a.example", False),
    ],
)
def test_a_certificate_is_for_the_hosts_it_names(
    names: tuple[str, ...], host: str, matches: bool
) -> None:
    """RFC 6125: case doesn't count, a star is one label, addresses are compared as such."""
    assert is_for(certificate(*names), host) is matches


def test_the_first_thing_wrong_is_named_with_its_remedy() -> None:
    """Time first (the clock may be wrong, too), then the name, then the authority."""
    early = certificate("h", begins_ms=NOW_MS + DAY_MS)
    text, advice = explain_refusal(early, "h", NOW_MS, False)
    assert f"valid from {day(NOW_MS + DAY_MS)}" in text
    assert "clock" in advice
    ended = certificate("h", ends_ms=NOW_MS - DAY_MS)
    text, advice = explain_refusal(ended, "h", NOW_MS, False)
    assert f"expired on {day(NOW_MS - DAY_MS)}" in text
    assert "renew" in advice
    text, advice = explain_refusal(certificate("x", "y"), "h", NOW_MS, False)
    assert "for x, y, not for h" in text
    assert "'host'" in advice
    text, advice = explain_refusal(certificate("h"), "h", NOW_MS, False)
    assert "'Test Authority'" in text
    assert "caFile" in advice
    text, _ = explain_refusal(certificate("h"), "h", NOW_MS, True)
    assert "caFile doesn't hold" in text


def test_days_and_dates() -> None:
    """The day is UTC's; an ended certificate has less than no days left."""
    assert day(0) == "1970-01-01"
    assert days_left(NOW_MS + 3 * DAY_MS + 5, NOW_MS) == 3
    assert days_left(NOW_MS - 1, NOW_MS) == -1
