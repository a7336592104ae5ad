"""The REST API over a real socket, with a real device behind it."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from oda.platform.api import Api
from oda.platform.orders import MEMBERS as ORDER_MEMBERS
from oda.platform.schemas import REPLIES
from oda.platform.web import MAX_BODY_BYTES

from .conftest import call
from .device import telemetry


async def with_datapoints(platform: Any, connect: Any, *documents: Any) -> Any:
    device = connect(platform)
    await device.next("open")
    for document in documents:
        device.send(document)
    device.ping()
    await device.next("pong")
    return device


@pytest_twisted.ensureDeferred
async def test_devices_and_their_state(start: Any, connect: Any) -> None:
    """Every device seen is listed with its connection; one has counters besides."""
    platform = start()
    assert await call(platform, "GET", "/devices") == (200, [])
    await with_datapoints(
        platform, connect, telemetry(1), telemetry(1), telemetry(2), telemetry(3, device="child")
    )
    status, devices = await call(platform, "GET", "/devices")
    assert status == 200
    child, host = devices
    assert (host["id"], host["connected"], host["via"]) == ("dev-1", True, None)
    assert (child["id"], child["connected"], child["via"]) == ("child", False, "dev-1")
    _, one = await call(platform, "GET", "/devices/dev-1")
    assert (one["datapoints"], one["copies"], one["conflicts"]) == (1, 2, 1)
    assert one["connection"]["messagesIn"] == 4
    assert one["connection"]["pongsOut"] == 1
    status, error = await call(platform, "GET", "/devices/a%2Fb")
    assert (status, error) == (404, {"error": "no device 'a/b' was ever seen"})


@pytest_twisted.ensureDeferred
async def test_latest_values_and_datapoints_by_time(start: Any, connect: Any) -> None:
    """The latest value is the newest by its own time; a period includes its start, not its end."""
    platform = start()
    values = [telemetry(at * 10, "t/1", at) for at in (1, 2, 4, 3)]
    await with_datapoints(platform, connect, *values)
    _, latest = await call(platform, "GET", "/devices/dev-1/datastreams")
    assert [(one["datastream"], one["at"], one["value"]) for one in latest] == [("t/1", 4, 40)]
    path = "/devices/dev-1/datastreams/t%2F1/datapoints"
    _, datapoints = await call(platform, "GET", f"{path}?from=2&to=4")
    assert [(one["at"], one["value"]) for one in datapoints] == [(2, 20), (3, 30)]
    _, newest = await call(platform, "GET", f"{path}?limit=2")
    assert [one["at"] for one in newest] == [3, 4]
    _, of_all = await call(platform, "GET", "/devices/dev-1/datapoints?feed=none")
    assert of_all == []


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/devices/dev-1/datapoints?from=x", "from"),
        ("/devices/dev-1/datapoints?limit=0", "limit"),
        ("/messages?limit=10001", "limit"),
        ("/messages?direction=up", "direction"),
        ("/messages?decode=1", "decode"),
        ("/messages?nonsense=1", "nonsense"),
        ("/operations/x?wait=-1", "wait"),
        ("/events?after=x", "after"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_query_parameters_are_named(
    start: Any, connect: Any, path: str, parameter: str
) -> None:
    """A wrong or unknown query parameter gives 400 with its name."""
    platform = start()
    await with_datapoints(platform, connect)
    platform.send_operation("dev-1", "A").addErrback(lambda _: None)
    if path.startswith("/operations"):
        operation = platform.ledger.of_device(None, 1)[0]
        path = path.replace("/x", "/" + json.loads(operation)["id"])
    status, error = await call(platform, "GET", path)
    assert status == 400
    assert error["parameter"] == parameter
    assert error["error"].startswith(f"{parameter}: ")


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": 1}, "name"),
        ({"name": "A", "parameters": "x"}, "parameters"),
        ({"name": "A", "timeout": 0}, "timeout"),
        ({"name": "A", "timeout": True}, "timeout"),
        ({"name": "A", "timeout": 1e9}, "timeout"),
        ({"name": "A", "format": "XML"}, "format"),
        ({"name": "A", "dialect": "x"}, "dialect"),
        ({"name": "A", "parameters": {"b": True}, "dialect": "list"}, "parameters.b"),
        ({"name": "A", "deviceId": 1}, "deviceId"),
        ({"name": "A", "path": "x"}, "path"),
        ({"name": "A", "id": 1}, "id"),
        ({"name": "A", "binary": 1}, "binary"),
        ({"name": "A", "what": 1}, "what"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_operations_are_named(start: Any, body: Any, parameter: str) -> None:
    """What is wrong with a posted operation is said with the member's name; nothing is sent."""
    platform = start()
    status, error = await call(platform, "POST", "/devices/dev-1/operations", body)
    assert (status, error["parameter"]) == (400, parameter)
    assert platform.ledger.of_device(None, 10) == []


@pytest_twisted.ensureDeferred
async def test_an_operation_by_post(start: Any, connect: Any) -> None:
    """With ``wait`` the answer comes back in one call; the transcript tells its life."""
    platform = start()
    device = await with_datapoints(platform, connect)
    order = {"name": "A", "parameters": [], "id": "op/1", "deviceId": None, "path": ["gw"]}
    posted = call(platform, "POST", "/devices/dev-1/operations?wait=10", order)
    posting = ensureDeferred(posted)
    request = await device.request()
    assert "deviceId" not in request
    assert (request["id"], request["path"], request["parameters"]) == ("op/1", ["gw"], [])
    device.send(
        {"operation": {"response": {"id": "op/1", "steps": [{"name": "S1"}]}}},
    )
    device.answer(request)
    status, operation = await posting
    assert (status, operation["state"]) == (200, "answered")
    assert operation["answer"]["resultCode"] == "SUCCESSFUL"
    assert operation["partials"][0]["steps"] == [{"name": "S1"}]
    _, found = await call(platform, "GET", "/operations/op%2F1")
    events = [line["event"] for line in found["transcript"]]
    assert events == ["queued", "sent", "partial", "answered"]
    _, listed = await call(platform, "GET", "/devices/dev-1/operations")
    assert [one["id"] for one in listed] == ["op/1"]
    assert await call(platform, "GET", "/devices/dev-2/operations") == (200, [])
    status, error = await call(platform, "POST", "/devices/dev-1/operations", order)
    assert (status, error["parameter"]) == (400, "id")


@pytest_twisted.ensureDeferred
async def test_an_operation_without_answer_gives_202(start: Any) -> None:
    """Without ``wait``, or when it is over, the id comes back with 202 and can be asked for."""
    platform = start()
    order = {"name": "A", "timeout": 30}
    status, queued = await call(platform, "POST", "/devices/dev-1/operations", order)
    assert (status, queued["state"]) == (202, "queued")
    status, queued = await call(platform, "POST", "/devices/dev-1/operations?wait=0.02", order)
    assert (status, queued["state"]) == (202, "queued")
    order["timeout"] = 0.02
    status, over = await call(platform, "POST", "/devices/dev-1/operations?wait=10", order)
    assert (status, over["state"]) == (202, "timed_out")
    assert (await call(platform, "GET", "/operations/none"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_raw_messages_and_connections(start: Any, connect: Any) -> None:
    """Messages come as they were: text where they are UTF-8, base64 otherwise; decoded on
    request."""
    platform = start()
    device = await with_datapoints(platform, connect, telemetry("ü"))
    packed = msgpack.packb(telemetry(2.5, at=-1))
    device.send_bytes(packed)
    device.send_bytes(b"\x80\xff")
    device.ping()
    await device.next("pong")
    _, messages = await call(platform, "GET", "/messages?device=dev-1&decode=true")
    text, binary, broken = messages
    assert json.loads(text["payload"]) == text["document"] == telemetry("ü")
    assert (text["encoding"], text["format"], text["text"]) == ("utf-8", "JSON", False)
    assert base64.b64decode(binary["payload"]) == packed
    assert (binary["document"], binary["size"]) == (telemetry(2.5, at=-1), len(packed))
    assert "problem" in broken
    _, page = await call(platform, "GET", "/messages?after=1&limit=1&direction=in&connection=1")
    assert [message["number"] for message in page] == [2]
    _, connections = await call(platform, "GET", "/connections?device=dev-1")
    assert [connection["number"] for connection in connections] == [1]
    assert await call(platform, "GET", "/connections?device=x") == (200, [])


@pytest_twisted.ensureDeferred
async def test_faults_by_api(start: Any, connect: Any) -> None:
    """Faults are set, shown and cleared, for all and for one; wrong members are named."""
    platform = start()
    put = await call(platform, "PUT", "/faults", {"pong": "late", "pongDelay": 2.5})
    assert put == (200, {"pong": "late", "pongDelay": 2.5})
    await call(platform, "PUT", "/devices/d%201/faults", {"freeze": True})
    _, faults = await call(platform, "GET", "/faults")
    assert faults == {
        "all": {"pong": "late", "pongDelay": 2.5},
        "devices": {"d 1": {"freeze": True}},
    }
    _, own = await call(platform, "GET", "/devices/d%201/faults")
    assert own["effective"] == {"pong": "late", "pongDelay": 2.5, "freeze": True}
    await call(platform, "DELETE", "/faults")
    await call(platform, "DELETE", "/devices/d%201/faults")
    assert await call(platform, "GET", "/faults") == (200, {"all": {}, "devices": {}})
    for body, parameter in (
        ({"pong": "x"}, "pong"),
        ({"close": 65536}, "close"),
        ({"slow": 0}, "slow"),
        ({"freeze": 1}, "freeze"),
        ({"wat": 1}, "wat"),
    ):
        status, error = await call(platform, "PUT", "/faults", body)
        assert (status, error["parameter"]) == (400, parameter)
    device = connect(platform)
    await device.next("open")
    hit = await call(platform, "POST", "/devices/dev-1/incidents", {"close": 4001, "reason": "x"})
    assert hit == (200, {"connections": 1})
    assert await device.next("close") == (4001, "x")
    for body in ({}, {"reset": True, "close": 1000}, {"wat": 1}):
        assert (await call(platform, "POST", "/incidents", body))[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:9956"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "named.example"}, 200),
        ({"Origin": "https://friend.example"}, 200),
    ],
)
@pytest_twisted.ensureDeferred
async def test_foreign_hosts_and_origins_are_refused(
    start: Any, headers: dict[str, str], status: int
) -> None:
    """A page of another origin, or a name that resolves here, gets nothing unless allowed."""
    platform = start(http_hosts=["named.example"], http_origins=["https://friend.example/"])
    got, answer = await call(platform, "GET", "/devices", headers=headers)
    assert got == status
    assert (status == 200) == (answer == [])


@pytest_twisted.ensureDeferred
async def test_the_own_origin_is_let_in(start: Any) -> None:
    """Pages that this server itself serves may use it."""
    platform = start()
    headers = {"Origin": platform.http_url}
    assert (await call(platform, "GET", "/devices", headers=headers))[0] == 200


@pytest_twisted.ensureDeferred
async def test_unknown_paths_methods_and_long_bodies(start: Any) -> None:
    """404, 405 with what is allowed, and 413, each with a JSON error."""
    platform = start()
    assert (await call(platform, "GET", "/nowhere"))[0] == 404
    status, error = await call(platform, "DELETE", "/devices")
    assert (status, error) == (405, {"error": "this path takes GET"})
    long = b"x" * (MAX_BODY_BYTES + 1)
    status, error = await call(platform, "PUT", "/faults", long)
    assert (status, error["parameter"]) == (413, "body")


def event_lines(url: str, headers: str, stop_after: int) -> list[bytes]:
    """The lines of an event stream until so many ``data`` lines have come; blocks."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    lines: list[bytes] = []
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode())
        for line in raw.makefile("rb"):
            lines.append(line.rstrip())
            if sum(line.startswith(b"data:") for line in lines) >= stop_after:
                break
    return lines


def events_of(lines: list[bytes]) -> Iterator[tuple[int, str, Any]]:
    number, kind = 0, ""
    for line in lines:
        name, _, value = line.partition(b": ")
        if name == b"id":
            number = int(value)
        elif name == b"event":
            kind = value.decode()
        elif name == b"data":
            yield number, kind, json.loads(value)


@pytest_twisted.ensureDeferred
async def test_live_events_resume_where_they_stopped(start: Any, connect: Any) -> None:
    """Last-Event-ID gives everything after that event, and what is new as it happens."""
    platform = start()
    device = await with_datapoints(platform, connect, telemetry(1, at=1), telemetry(2, at=2))
    reading = deferToThread(event_lines, platform.http_url, "Last-Event-ID: 2\r\n", 2)
    while not platform.events.has_readers:
        await deferLater(platform.reactor, 0.001)
    device.datapoint("x" * 5000, at=3)
    lines = await reading
    assert b"Content-Type: text/event-stream; charset=utf-8" in lines
    second, third = events_of(lines)
    assert second == (
        3,
        "datapoints",
        {
            "device": "dev-1",
            "message": 2,
            "datapoints": [{"datastream": "t", "feed": "", "at": 2, "value": 2}],
        },
    )
    assert third[2]["datapoints"][0]["omitted"] == 5002


@pytest_twisted.ensureDeferred
async def test_stopping_ends_the_streams(start: Any) -> None:
    """Whoever follows the events is cut off when the platform stops."""
    platform = start()
    reading = deferToThread(event_lines, platform.http_url, "", 1)
    while not platform.events.has_readers:
        await deferLater(platform.reactor, 0.001)
    await platform.stopService()
    with pytest.raises(ConnectionResetError):
        await reading
    assert not platform.events.has_readers


@pytest_twisted.ensureDeferred
async def test_events_that_are_lost_are_counted(start: Any) -> None:
    """A reader that resumes too late is told how many events it has missed."""
    platform = start()
    platform.events.publish("fault", {"device": "first"})
    for _ in range(10_000):
        platform.events.publish("fault", {"device": None})
    lines = await deferToThread(event_lines, platform.http_url, "Last-Event-ID: 0\r\n", 2)
    lost, oldest = events_of(lines)
    assert lost == (1, "lost", {"events": 1})
    assert oldest[0] == 2


@pytest_twisted.ensureDeferred
async def test_the_description_knows_exactly_the_routes(start: Any) -> None:
    """/openapi.json lists every path and method there is, with all of its parameters, and every
    schema it refers to."""
    platform = start()
    _, document = await call(platform, "GET", "/openapi.json")
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    routes = Api(platform).routes()
    assert described == {(route.method, route.pattern) for route in routes}
    for route in routes:
        operation = document["paths"][route.pattern][route.method.lower()]
        assert operation["summary"]
        named = {(one["in"], one["name"]) for one in operation.get("parameters", ())}
        in_path = {part[1:-1] for part in route.pattern.split("/") if part.startswith("{")}
        assert named == {("path", name) for name in in_path} | {
            ("query", name) for name in route.query
        }
        assert ("requestBody" in operation) == (route.method in ("POST", "PUT"))
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"]


def mismatches(value: Any, schema: Any, schemas: Any, place: str = "$") -> list[str]:
    """Where ``value`` is not what ``schema`` (of those used here) says."""
    if "$ref" in schema:
        return mismatches(value, schemas[schema["$ref"].rpartition("/")[2]], schemas, place)
    if "anyOf" in schema:
        found = [mismatches(value, one, schemas, place) for one in schema["anyOf"]]
        return [] if [] in found else found[0]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{place}: {value!r}"]
    kinds = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    kind = schema.get("type")
    if kind is not None and not isinstance(value, kinds[kind]):
        return [f"{place}: {value!r} is no {kind}"]
    if kind == "array":
        return [
            problem
            for number, item in enumerate(value)
            for problem in mismatches(item, schema.get("items", {}), schemas, f"{place}[{number}]")
        ]
    if kind != "object" or "properties" not in schema:
        return []
    wrong = [f"{place}.{name} is missing" for name in schema["required"] if name not in value]
    for name, item in value.items():
        if name not in schema["properties"]:
            wrong.append(f"{place}.{name} is not described")
        else:
            wrong += mismatches(item, schema["properties"][name], schemas, f"{place}.{name}")
    return wrong


@pytest_twisted.ensureDeferred
async def test_what_the_api_gives_is_what_it_describes(start: Any, connect: Any) -> None:
    """Every answer (of every path but the endless one) fits its schema, and has something in it."""
    platform = start()
    _, document = await call(platform, "GET", "/openapi.json")
    schemas = document["components"]["schemas"]
    device = await with_datapoints(platform, connect, telemetry(1, "t"))
    body = {"name": "A", "id": "op", "timeout": 30}
    ordered = ensureDeferred(call(platform, "POST", "/devices/dev-1/operations", body))
    device.answer(await device.request(), steps=[])
    device.ping()
    await device.next("pong")
    await ordered
    bodies = {
        "/devices/{device}/operations": {"name": "B", "deviceId": None},
        "/faults": {"pong": "late", "pongDelay": 0},
        "/devices/{device}/faults": {"pong": "empty"},
        "/incidents": {"close": 4000},
        "/devices/{device}/incidents": {"reset": True},
    }
    checked = 0
    # answers first, then what changes something, then what ends it
    for method, pattern in sorted(
        REPLIES, key=lambda key: ["PUT", "GET", "POST", "DELETE"].index(key[0])
    ):
        if pattern == "/events":
            continue
        path = pattern.replace("{device}", "dev-1").replace("{datastream}", "t")
        path = path.replace("{operation}", "op")
        sent = bodies[pattern] if method in ("PUT", "POST") else None
        status, answer = await call(platform, method, path, sent)
        assert status in (200, 202), (method, path, answer)
        described = document["paths"][pattern][method.lower()]["responses"]["2XX"]
        schema = described["content"]["application/json"]["schema"]
        assert mismatches(answer, schema, schemas) == [], (method, path)
        assert answer != [] or method != "GET", path
        checked += 1
    assert checked == len(REPLIES) - 1


@pytest_twisted.ensureDeferred
async def test_the_order_schema_allows_what_the_api_reads(start: Any) -> None:
    """The described members of an order are those that the API accepts, no more and no less."""
    platform = start()
    _, document = await call(platform, "GET", "/openapi.json")
    order = document["components"]["schemas"]["Order"]
    assert set(order["properties"]) == set(ORDER_MEMBERS)


@pytest_twisted.ensureDeferred
async def test_no_rest_api_unless_wanted(start: Any) -> None:
    """``http_port=None`` opens no second port."""
    platform = start(http_port=None)
    assert platform.http_url is None
    assert len(platform.listening) == 1
