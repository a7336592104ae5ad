"""What a page of a foreign site, open in the browser of whoever runs the stand-in, can do to it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from oda.platform.web import Call, Guard, HttpError
from tests.platform.conftest import connect, start

__all__ = ["connect", "start"]


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_site_is_no_device(start: Any, connect: Any) -> None:
    """An Origin that is not the stand-in's own is refused at the device port, so a page neither
    evicts the real device nor reads its orders; the device stays connected."""
    platform = start()
    device = connect(platform, "dev-1")
    await device.next("open")
    for origin in ("https://evil.example", "null", "http://127.0.0.1"):
        foreign = connect(platform, "dev-1", headers={"Origin": origin})
        await foreign.next("close")
        assert foreign.pending("open") == []
    assert device.pending("close") == []
    assert len(platform.sessions.all()) == 1


@pytest_twisted.ensureDeferred
async def test_its_own_pages_and_allowed_ones_are_let_in(start: Any, connect: Any) -> None:
    """``--http-origin`` allows a further one, at this port like at the other."""
    platform = start(http_origins=["https://shop.example"])
    for origin in (f"http://127.0.0.1:{platform.port}", "https://shop.example"):
        device = connect(platform, "dev-1", headers={"Origin": origin})
        await device.next("open")


@pytest.mark.parametrize(
    ("origin", "site", "allowed"),
    [
        (None, None, True),
        (None, "none", True),
        (None, "same-origin", True),
        (None, "cross-site", False),
        (None, "Cross-Site ", False),
        ("https://evil.example", "cross-site", False),
        ("https://evil.example", None, False),
        ("https://shop.example", "cross-site", True),
    ],
)
def test_requests_of_another_site_are_refused(
    origin: str | None, site: str | None, allowed: bool
) -> None:
    """Browsers send no Origin with some requests, for instance of an image: there Sec-Fetch-Site
    says where they come from. An origin that was allowed by name stays so."""
    guard = Guard(origins=["https://shop.example"])
    if allowed:
        guard.check("127.0.0.1:9956", origin, site)
        return
    with pytest.raises(HttpError) as caught:
        guard.check("127.0.0.1:9956", origin, site)
    assert caught.value.status == 403


def test_a_body_nested_ten_thousand_deep_is_refused() -> None:
    """It is the caller's fault (400), not a defect of the stand-in (500)."""
    request: Any = None
    for raw in (b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        with pytest.raises(HttpError) as caught:
            Call({}, {}, request, raw).body()
        assert caught.value.status == 400
