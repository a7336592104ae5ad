"""The address: OpenGate protocol, "Connection"."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.address import Address, build_address
from oda.errors import ConnectorError
from oda.settings import Auth, ConnectorSettings, Secret

#: Any text that UTF-8 can carry, not empty.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
UNRESERVED = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")


def address(device_id: str = "dev", key: str = "k", **settings: Any) -> Address:
    settings = {"host": "platform.example", "path": "/p", **settings}
    return build_address(ConnectorSettings(**settings), device_id, Secret(key))


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/south/v80/sessions", "/south/v80/sessions/dev"),
        ("south/v80/sessions", "/south/v80/sessions/dev"),
        ("south/v80/sessions/", "/south/v80/sessions/dev"),
        ("//south/v80/sessions//", "/south/v80/sessions/dev"),
        ("", "/dev"),
        ("/", "/dev"),
        ("a b/ü", "/a%20b/%C3%BC/dev"),
        ("a%20b", "/a%20b/dev"),
        ("a?b#c", "/a%3Fb%23c/dev"),
    ],
)
def test_path_takes_slashes_anywhere(path: str, resource: str) -> None:
    """The path may be written with or without slashes at either end; what a path can't hold is
    escaped, and an escape that was written stays."""
    assert address(path=path).resource == resource


@given(TEXT)
def test_device_id_is_one_segment(device_id: str) -> None:
    """Whatever the id holds, it is one path segment in RFC 3986's unreserved characters and
    escapes, and gives the id when it is decoded as UTF-8."""
    segment = address(device_id).resource.removeprefix("/p/")
    assert set(segment) <= UNRESERVED
    assert unquote(segment, errors="strict") == device_id


@given(KEYS)
def test_key_in_the_query(key: str) -> None:
    """With auth=query the key is one query value and is in no header."""
    target = address(key=key, auth=Auth.QUERY)
    query = urlsplit(target.resource).query
    assert set(query.removeprefix("X-ApiKey=")) <= UNRESERVED
    assert parse_qs(query, strict_parsing=True, keep_blank_values=True) == {"X-ApiKey": [key]}
    assert target.headers == {}


@given(KEYS)
def test_key_in_the_header(key: str) -> None:
    """With auth=header the key is in its header, as it is, and not in the resource."""
    target = address(key=key)
    assert target.headers == {"X-ApiKey": key}
    assert target.resource == "/p/dev"


def test_a_plus_is_escaped() -> None:
    """A plus would be read as a space by many servers."""
    assert address("a+b", key="k+l&m", auth=Auth.QUERY).resource == "/p/a%2Bb?X-ApiKey=k%2Bl%26m"


@pytest.mark.parametrize(
    ("settings", "display"),
    [
        ({"port": 9955}, "ws://platform.example:9955/p/dev"),
        ({"secure": True, "port": 443}, "wss://platform.example:443/p/dev"),
        ({"host": "2001:db8::1"}, "ws://[2001:db8::1]:80/p/dev"),
    ],
)
def test_display(settings: dict[str, Any], display: str) -> None:
    """What people get to see is the URL, an IPv6 host in brackets."""
    assert address(**settings).display == display


@pytest.mark.parametrize(
    ("device_id", "key", "problem"),
    [
        ("", "k", "device id is empty"),
        ("\ud800", "k", "device id is not valid Unicode"),
        ("d", "secret\r\nX-Other: 1", "control character"),
        ("d", "secret\ud800", "API key is not valid Unicode"),
    ],
)
def test_unusable_values_are_refused(device_id: str, key: str, problem: str) -> None:
    """An empty id, a key that could break out of its header, and text without UTF-8 are refused,
    and neither the error nor what it carries shows the key."""
    with pytest.raises(ConnectorError, match=problem) as caught:
        address(device_id, key)
    assert "secret" not in repr(caught.value)
    assert caught.value.__context__ is None


@given(KEYS.filter(lambda key: len(key) > 3))
def test_repr_hides_the_key(key: str) -> None:
    """No form of the address that people see holds the key."""
    for auth in Auth:
        shown = repr(address("device", key, auth=auth))
        assert shown == "<Address ws://platform.example:80/p/device>"


@given(KEYS.filter(lambda key: len(key) > 3))
def test_key_is_taken_out_of_texts(key: str) -> None:
    """A platform that repeats the key, in any usual encoding, doesn't get it into our log."""
    forms = [key, quote(key), quote(key, safe=""), b64encode(key.encode()).decode()]
    cleaned = address(key=key).without_key(" | ".join(forms))
    assert cleaned.count("***") == len(forms)
    assert not any(form in cleaned for form in forms)
