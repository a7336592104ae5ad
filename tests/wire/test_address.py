"""The address as the platform sees it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

import pytest

from oda.settings import Auth
from tests.wire.fakes import KEY, FakeDeviceInfo
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]

DEVICE_IDS = ["dev-1", "a/b", "a?b#c", "a&b=c", "a+b c", "100%", "Gerät-ñ-日本", "..", "\U0001f600"]


@pytest.mark.parametrize("device_id", DEVICE_IDS)
def test_device_id_arrives(make_world: MakeWorld, device_id: str) -> None:
    """The platform reads the id as the last segment of the path, whatever it holds."""
    world = make_world(device_info=FakeDeviceInfo(device_id)).start()
    raw_path = world.peer.http_request_uri
    assert raw_path.count("/") == 4
    assert unquote(raw_path.rpartition("/")[2], errors="strict") == device_id


@pytest.mark.parametrize("path", ["/a/b", "a/b", "a/b/", "/a/b/"])
def test_path_arrives(make_world: MakeWorld, path: str) -> None:
    """The path is the same with and without slashes at its ends."""
    world = make_world(settings=connector_settings(path=path)).start()
    assert world.peer.request.path == "/a/b/dev-1"


@pytest.mark.parametrize("key", ["simple", "a/b?c&d=e+f g%20", KEY])
def test_key_arrives_in_the_query(make_world: MakeWorld, key: str) -> None:
    """With auth=query the platform reads the key from X-ApiKey of the query, and no header."""
    world = make_world(
        settings=connector_settings(auth=Auth.QUERY), device_info=FakeDeviceInfo(key=key)
    ).start()
    assert world.peer.request.params == {"X-ApiKey": [key]}
    assert "x-apikey" not in world.peer.request.headers


@pytest.mark.parametrize("key", ["simple", "a/b?c&d=e+f g%20", KEY])
def test_key_arrives_in_the_header(make_world: MakeWorld, key: str) -> None:
    """With auth=header the platform reads the key from the header X-ApiKey, and no query."""
    world = make_world(device_info=FakeDeviceInfo(key=key)).start()
    header = world.peer.request.headers["x-apikey"]
    assert header.encode("latin-1").decode("utf-8") == key
    assert world.peer.request.params == {}


def test_ipv6_host(make_world: MakeWorld) -> None:
    """An IPv6 host is connected to as it is, and stands in brackets in the Host header."""
    world = make_world(settings=connector_settings(host="2001:db8::1", port=9955)).start()
    assert world.network.tcpClients[0][:2] == ("2001:db8::1", 9955)
    assert world.peer.http_headers["host"] == "[2001:db8::1]:9955"
    assert world.is_connected
    assert world.log.has("ws://[2001:db8::1]:9955/south/v80/sessions/dev-1")


def test_no_subprotocol_and_no_origin(world: World) -> None:
    """The agent asks for neither (OpenGate protocol, "Connection")."""
    world.start()
    assert "sec-websocket-protocol" not in world.peer.http_headers
    assert "origin" not in world.peer.http_headers
