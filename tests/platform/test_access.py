"""Who may connect: URIs, keys and key files."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.errors import ConfigurationError
from oda.platform.access import Denied, KeyRing, Request, normal_path, parse_keys, read_request

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


@given(device=TEXT, key=TEXT)
def test_device_and_key_come_back_from_the_uri(device: str, key: str) -> None:
    """Any text survives percent-encoding as one segment and one query value."""
    uri = f"/south/x/{quote(device, safe='')}?a=b&X-ApiKey={quote(key, safe='')}"
    assert read_request(uri, None, "south/x") == Request(device, key.encode())


def test_a_plus_is_a_plus() -> None:
    """A plus sign in the path or query is no space (RFC 3986)."""
    assert read_request("/p/a+b?X-ApiKey=c+d", None, "/p/") == Request("a+b", b"c+d")


def test_the_header_goes_before_the_query() -> None:
    """A key in the header is the one that counts; its bytes are those sent."""
    latin = "k-ü".encode().decode("latin-1")
    assert read_request("/p/d?X-ApiKey=q", latin, "p").key == "k-ü".encode()


@pytest.mark.parametrize("uri", ["/p", "/p/", "/px/d", "/p/a/b", "/", "", "/q/d", "/p//"])
def test_other_paths_are_404(uri: str) -> None:
    """Exactly one segment below the path is a device."""
    with pytest.raises(Denied) as denied:
        read_request(uri, None, "/p")
    assert denied.value.status == 404


def test_an_id_that_is_no_text_is_400() -> None:
    """Percent-encoded bytes that are no UTF-8 name no device."""
    with pytest.raises(Denied) as denied:
        read_request("/p/%ff", None, "/p")
    assert denied.value.status == 400


@pytest.mark.parametrize(("path", "normal"), [("a/b", "/a/b"), ("/a/", "/a"), ("/", ""), ("", "")])
def test_paths_are_taken_with_or_without_slashes(path: str, normal: str) -> None:
    """Slashes at either end don't matter; an empty path is the root."""
    assert normal_path(path) == normal
    assert read_request(f"{normal}/d", None, path).device == "d"


def test_keys() -> None:
    """A device's own key goes before the common one; without any, everything is let in."""
    ring = KeyRing("common", {"own": "secret"})
    ring.check(Request("other", b"common"))
    ring.check(Request("own", b"secret"))
    for request in (Request("own", b"common"), Request("other", None), Request("other", b"")):
        with pytest.raises(Denied) as denied:
            ring.check(request)
        assert denied.value.status == 401
    with pytest.raises(Denied):
        KeyRing(None, {"own": "secret"}).check(Request("other", b"secret"))
    KeyRing().check(Request("any", None))
    assert "secret" not in repr(ring)


def test_a_file_of_keys() -> None:
    """``device=key`` lines; a key may hold ``=``, a device id is percent-decoded."""
    text = "# keys\n\ndev-1 = abc==\n%23a%3Db=k\n"
    assert parse_keys(text, "f") == {"dev-1": "abc==", "#a=b": "k"}


def test_mistakes_in_a_file_of_keys_are_all_named() -> None:
    """Each bad line is named, with no word of a key."""
    with pytest.raises(ConfigurationError) as error:
        parse_keys("a=hunter2\nhunter3\n=hunter4\na=hunter5\nb=", "keys")
    assert [fault.line for fault in error.value.faults] == [2, 3, 4, 5]
    assert "hunter" not in str(error.value)
