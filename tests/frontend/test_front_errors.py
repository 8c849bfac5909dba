"""Whatever is wrong with a request, its answer is the OpenAI error object."""

from __future__ import annotations

import json
import time

import pytest
import trio
from trio.testing import MockClock

from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi.codec import Json, dumps

CHAT = "/v1/chat/completions"
GOOD: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def front(world: World) -> World:
    world.provider("a")
    return world.chain("a", top="preferences: {max_request_body_bytes: 100000}")


async def said(
    front: World,
    method: str,
    path: str,
    *lines: str,
    body: bytes = b"",
    key: str | None = KEY,
) -> Heard:
    wire = front.connect()
    head = [f"{method} {path} HTTP/1.1", "host: g", *lines]
    if key is not None:
        head.append(f"authorization: Bearer {key}")
    if body and not any(line.startswith(("content-length", "transfer")) for line in lines):
        head.append(f"content-length: {len(body)}")
    await wire.stream.send_all("\r\n".join([*head, "", ""]).encode("latin-1") + body)
    heard = await wire.hear(method)
    await wire.stream.aclose()
    return heard


def error_of(heard: Heard, status: int) -> dict[str, Json]:
    """The error object, with everything every error has checked."""
    assert heard.status == status, heard.body
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in heard.headers
    assert heard.headers["x-request-id"]
    match heard.json():
        case {"error": dict() as error, **rest} if not rest:
            assert set(error) == {"message", "type", "param", "code"}
            assert error["message"]
            assert isinstance(error["type"], str)
            assert KEY not in str(error["message"])
            return error
        case other:
            raise AssertionError(other)


# Who is asking


@pytest.mark.parametrize(
    "line",
    [
        None,
        "authorization: Bearer",
        "authorization: Bearer sk-wrong",
        f"authorization: {KEY}",
        f"authorization: Basic {KEY}",
        f"authorization: Bearer {KEY}x",
        f"authorization: Bearer {KEY[:-1]}",
        f"authorization: Bearer {KEY.upper()}",
        "authorization: Bearer \xff\xfe",
        "x-api-key: wrong",
        f"x-api-key: Bearer {KEY}",
        f"cookie: key={KEY}",
    ],
)
@pytest.mark.parametrize("ask", [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/models/m")])
async def test_a_missing_malformed_or_wrong_key_is_the_same_401(
    front: World, autojump_clock: MockClock, line: str | None, ask: tuple[str, str]
) -> None:
    lines = [line] if line else []
    body = dumps(GOOD) if ask[0] == "POST" else b""
    heard = await said(front, *ask, *lines, body=body, key=None)
    error = error_of(heard, 401)
    assert error["type"] == "authentication_error"
    assert error["code"] == "invalid_api_key"
    assert heard.headers["www-authenticate"] == "Bearer"
    assert error["message"] == (
        "no valid API key: send one of this gateway's api_keys as 'Authorization: Bearer …'"
    )
    assert not front.network.providers["a"].requests


@pytest.mark.parametrize(
    "line",
    [
        f"authorization: Bearer {KEY}",
        f"authorization: bearer   {KEY}  ",
        f"AUTHORIZATION: BEARER {KEY}",
        f"x-api-key: {KEY}",
        f"x-goog-api-key: {KEY}",
        f"api-key: {KEY}",
    ],
)
async def test_a_key_may_come_in_any_of_the_usual_headers(
    front: World, autojump_clock: MockClock, line: str
) -> None:
    assert (await said(front, "GET", "/v1/models", line, key=None)).status == 200


async def test_the_bearer_counts_before_the_others(front: World, autojump_clock: MockClock) -> None:
    wins = await said(front, "GET", "/v1/models", "x-api-key: sk-wrong", key=KEY)
    assert wins.status == 200
    loses = await said(front, "GET", "/v1/models", f"x-api-key: {KEY}", key="sk-wrong")
    assert loses.status == 401
    other = await said(
        front, "GET", "/v1/models", "authorization: Basic eDp5", f"x-api-key: {KEY}", key=None
    )
    assert other.status == 200, "another scheme is no bearer"


async def test_a_wrong_key_is_refused_before_the_body_is_waited_for(
    front: World, autojump_clock: MockClock
) -> None:
    heard = await said(front, "POST", CHAT, "content-length: 5000", key="sk-wrong")
    error_of(heard, 401)
    assert heard.ended_at == 0


# What is asked for


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v2/models", "/v1/v1/models", "/v1models"])
async def test_an_unknown_path_is_404_and_says_what_there_is(
    front: World, autojump_clock: MockClock, path: str
) -> None:
    error = error_of(await said(front, "GET", path, key=None), 404)
    assert error["code"] == "unknown_url"
    assert CHAT in str(error["message"])


async def test_an_unknown_model_is_404_with_its_code(
    front: World, autojump_clock: MockClock
) -> None:
    error = error_of(await front.ask(model="gpt-9"), 404)
    assert error["code"] == "model_not_found"
    assert "gpt-9" in str(error["message"])
    listed = error_of(await front.get("/v1/models/gpt-9"), 404)
    assert listed["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST, OPTIONS"),
        ("DELETE", CHAT, "POST, OPTIONS"),
        ("POST", "/v1/models", "GET, OPTIONS"),
        ("PUT", "/v1/models/m", "GET, OPTIONS"),
        ("POST", "/healthz", "GET, OPTIONS"),
        ("BREW", "/readyz", "GET, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_405_and_says_which_are_right(
    front: World, autojump_clock: MockClock, method: str, path: str, allowed: str
) -> None:
    heard = await said(front, method, path)
    error = error_of(heard, 405)
    assert heard.headers["allow"] == allowed
    assert error["code"] == "method_not_allowed"


# How it is sent


async def test_a_declared_size_above_the_limit_is_413_before_anybody_is_asked_who_they_are(
    front: World, autojump_clock: MockClock
) -> None:
    heard = await said(front, "POST", CHAT, "content-length: 100001", key="sk-wrong")
    error = error_of(heard, 413)
    assert error["code"] == "request_too_large"
    assert "100000" in str(error["message"])
    assert (heard.ended_at, heard.headers["connection"]) == (0, "close")
    absurd = await said(front, "POST", CHAT, "content-length: " + "9" * 19, key=None)
    error_of(absurd, 413)


async def test_chunks_above_the_limit_are_413_as_soon_as_they_are(
    front: World, autojump_clock: MockClock
) -> None:
    chunk = b"c350\r\n" + b" " * 50_000 + b"\r\n"  # three of them, and no end
    heard = await said(front, "POST", CHAT, "transfer-encoding: chunked", body=chunk * 3)
    error_of(heard, 413)
    assert heard.ended_at == 0


async def test_a_body_of_exactly_the_limit_is_read(front: World, autojump_clock: MockClock) -> None:
    body = dumps(GOOD).ljust(100_000)
    assert (await said(front, "POST", CHAT, body=body)).status == 200
    error_of(await said(front, "POST", CHAT, body=body + b" "), 413)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("content-encoding: gzip", "unsupported_content_encoding"),
        ("content-encoding: br, identity", "unsupported_content_encoding"),
        ("content-type: multipart/form-data; boundary=x", "unsupported_media_type"),
        ("content-type: application/x-www-form-urlencoded", "unsupported_media_type"),
        ("content-type: text/html", "unsupported_media_type"),
    ],
)
async def test_what_is_not_plain_json_by_its_headers_is_415(
    front: World, autojump_clock: MockClock, line: str, code: str
) -> None:
    heard = await said(front, "POST", CHAT, line, body=dumps(GOOD))
    assert error_of(heard, 415)["code"] == code


@pytest.mark.parametrize(
    "line",
    [
        "content-type: application/json",
        "content-type: Application/JSON; charset=utf-8",
        "content-type: application/vnd.api+json",
        "content-encoding: identity",
        "accept: nothing/at-all",
    ],
)
async def test_json_under_its_usual_names_is_read(
    front: World, autojump_clock: MockClock, line: str
) -> None:
    assert (await said(front, "POST", CHAT, line, body=dumps(GOOD))).status == 200


# What it says


def without(name: str) -> dict[str, Json]:
    return {key: value for key, value in GOOD.items() if key != name}


WRONG: list[tuple[dict[str, Json], str]] = [
    (without("model"), "model"),
    ({**GOOD, "model": ""}, "model"),
    ({**GOOD, "model": "  "}, "model"),
    ({**GOOD, "model": "m" * 1_001}, "model"),
    ({**GOOD, "model": 4}, "model"),
    ({**GOOD, "model": ["m"]}, "model"),
    (without("messages"), "messages"),
    ({**GOOD, "messages": []}, "messages"),
    ({**GOOD, "messages": "Hello"}, "messages"),
    ({**GOOD, "messages": ["Hello"]}, "messages[0]"),
    ({**GOOD, "messages": [{"content": "x"}]}, "messages[0].role"),
    ({**GOOD, "messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
    ({**GOOD, "messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({**GOOD, "stream": "yes"}, "stream"),
    ({**GOOD, "stream": 1}, "stream"),
    ({**GOOD, "stream": True, "stream_options": True}, "stream_options"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG)
async def test_a_field_of_the_wrong_shape_is_422_and_named(
    front: World, autojump_clock: MockClock, fields: dict[str, Json], param: str
) -> None:
    error = error_of(await said(front, "POST", CHAT, body=dumps(fields)), 422)
    assert error["param"] == param
    assert str(error["message"]).startswith(f"{param}:")
    assert error["type"] == "invalid_request_error"
    assert not front.network.providers["a"].requests


def _padded(value: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"x"}],"x":' + value + b"}"


MALFORMED: dict[str, bytes] = {
    "empty": b"   ",
    "not JSON": b"Hello",
    "cut": dumps(GOOD)[:-1],
    "two values": dumps(GOOD) * 2,
    "trailing comma": b'{"model":"m",}',
    "NaN": _padded(b"NaN"),
    "Infinity": _padded(b"-Infinity"),
    "a 5000-digit integer": _padded(b"9" * 5000),
    "a number no float can hold": _padded(b"1e400"),
    "a list": b"[]",
    "a string": b'"m"',
    "null": b"null",
    "deep lists": _padded(b"[" * 40_000 + b"]" * 40_000),
    "deep objects": _padded(b'{"a":' * 15_000 + b"1" + b"}" * 15_000),
    "deeper than sense": _padded(b"[" * 200 + b"]" * 200),
    "open for ever": b"[" * 90_000,
    "an escaped lone surrogate": _padded(rb'"\ud800"'),
    "a lone surrogate as a key": _padded(rb'{"\udfff":1}'),
    "an encoded lone surrogate": _padded(b'"\xed\xa0\x80"'),
    "invalid UTF-8": _padded(b'"\xff\xfe"'),
    "UTF-16": dumps(GOOD).decode().encode("utf-16"),
    "a raw control character": _padded(b'"\x00"'),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_a_json_object_is_400_and_quickly(
    front: World, autojump_clock: MockClock, body: bytes
) -> None:
    begun = time.perf_counter()
    heard = await said(front, "POST", CHAT, body=body)
    took = time.perf_counter() - begun
    error = error_of(heard, 400)
    assert error["code"] in {"invalid_json", "empty_body"}
    assert len(str(error["message"])) < 400
    assert took < 0.5, "a body of 100 KB must not cost more than it took to send"
    assert not front.network.providers["a"].requests


@pytest.mark.parametrize(
    "content", ["\u2028 \x7f \u0085", "\U0001f600", "é" * 1000, r"\n", "\ufeff"]
)
async def test_any_text_is_passed_on_as_it_is(
    front: World, autojump_clock: MockClock, content: str
) -> None:
    body = json.dumps({**GOOD, "messages": [{"role": "user", "content": content}]}).encode()
    assert (await said(front, "POST", CHAT, body=body)).status == 200
    match front.network.providers["a"].requests[0].body:
        case {"messages": [{"content": passed}]}:
            assert passed == content
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize(
    "name",
    [
        "base_url",
        "api_base",
        "api_key",
        "api_version",
        "proxy",
        "proxies",
        "extra_headers",
        "default_headers",
        "headers",
        "callback_url",
        "custom_llm_provider",
    ],
)
async def test_no_field_of_a_request_steers_the_call(
    front: World, autojump_clock: MockClock, name: str
) -> None:
    elsewhere = front.provider("elsewhere")
    value: Json = {"authorization": "Bearer stolen", "host": "elsewhere"}
    for steer in ("http://elsewhere/v1", value):
        body = dumps({**GOOD, name: steer})
        assert (await said(front, "POST", CHAT, body=body)).status == 200
    assert not elsewhere.requests
    for seen in front.network.providers["a"].requests:
        assert seen.headers["authorization"] == "Bearer sk-up-a"
        assert seen.headers["host"] == "a"


@pytest.mark.parametrize(
    "name", ["base_url", "api_base", "api_key", "proxy", "extra_headers", "callback_url"]
)
async def test_a_routing_field_never_reaches_the_provider(
    front: World, autojump_clock: MockClock, name: str
) -> None:
    body = dumps({**GOOD, name: "http://elsewhere/v1", "other_field": 1})
    assert (await said(front, "POST", CHAT, body=body)).status == 200
    match front.network.providers["a"].requests[0].body:
        case dict() as passed:
            assert name not in passed
            assert passed["other_field"] == 1
        case other:
            raise AssertionError(other)


async def test_the_clients_own_headers_do_not_reach_the_provider(
    front: World, autojump_clock: MockClock
) -> None:
    lines = ["cookie: a=b", "x-forwarded-for: 1.2.3.4", "openai-organization: org", "x-api-key: q"]
    await said(front, "POST", CHAT, *lines, body=dumps(GOOD))
    seen = front.network.providers["a"].requests[0].headers
    assert not {"cookie", "x-forwarded-for", "openai-organization", "x-api-key"} & set(seen)
    assert KEY not in str(seen)


# How long it may take to find out


async def test_a_slow_body_counts_as_a_whole(front: World, autojump_clock: MockClock) -> None:
    wire = front.connect()
    body = dumps(GOOD)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
    await wire.stream.send_all(f"{head}content-length: {len(body)}\r\n\r\n".encode())
    for byte in body[:59]:
        await trio.sleep(1)
        await wire.stream.send_all(bytes([byte]))
    heard = await wire.hear()
    error = error_of(heard, 408)
    assert trio.current_time() == 60
    assert error["code"] == "request_timeout"
    await wire.stream.aclose()
