"""A connection to the provider: what it records, when it notices, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from uniapi.demo import SIXTY, Behaviour, Fault, Provider, Request, serve

Connect = Callable[[Provider], Any]


@pytest.mark.parametrize(
    ("how", "stream"),
    [
        (Behaviour(fault=Fault.HANG), True),
        (Behaviour(fault=Fault.SILENT), True),
        (Behaviour(ttft=60), True),
        (Behaviour(gap=60), True),
        (Behaviour(gap=60), False),
        (Behaviour(fault=Fault.STALL, at=3), True),
        (Behaviour(fault=Fault.COMMENTS), True),
        (Behaviour(fault=Fault.DRIP_HEAD), True),
    ],
)
async def test_it_notices_at_once_that_the_client_left(
    autojump_clock: MockClock, connect: Connect, how: Behaviour, stream: bool
) -> None:
    provider = Provider(how)
    wire = connect(provider)
    await wire.send({"model": "m", "stream": stream})
    await trio.sleep(5.5)
    (seen,) = provider.requests
    assert (provider.open_connections, provider.active, seen.closed_at) == (1, 1, None)
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert (provider.open_connections, provider.active) == (0, 0)
    assert (seen.time, seen.disconnected_at, seen.closed_at) == (0, 5.5, 5.5)
    assert not seen.finished


async def test_bytes_sent_meanwhile_do_not_hide_that_the_client_left(
    autojump_clock: MockClock, connect: Connect
) -> None:
    provider = Provider(Behaviour(fault=Fault.HANG))
    wire = connect(provider)
    await wire.send({"model": "m"})
    await wire.send({"model": "m"})
    await trio.sleep(1)
    await wire.stream.aclose()
    await trio.sleep(1)
    assert [seen.disconnected_at for seen in provider.requests] == [1]


async def test_a_whole_answer_is_no_disconnect(autojump_clock: MockClock, connect: Connect) -> None:
    provider = Provider(Behaviour(gap=0.1))
    wire = connect(provider)
    await wire.send({"model": "m", "stream": True})
    heard = await wire.hear()
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    (seen,) = provider.requests
    assert seen.finished
    assert (seen.closed_at, seen.disconnected_at) == (heard.ended_at, None)
    assert (provider.open_connections, provider.connections) == (0, 1)


async def test_a_request_is_recorded_as_it_came(
    autojump_clock: MockClock, connect: Connect
) -> None:
    provider = Provider(Behaviour())
    wire = connect(provider)
    await trio.sleep(2)
    await wire.send({"model": "m", "n": 1}, path="/openai/chat/completions?x=1", X_Name="v")
    await wire.hear()
    (seen,) = provider.requests
    assert (seen.method, seen.path, seen.model) == ("POST", "/openai/chat/completions", "m")
    assert (seen.time, seen.headers["x-name"]) == (2, "v")
    assert seen.body == {"model": "m", "n": 1}


async def test_a_connection_is_kept_and_pipelined_requests_wait_their_turn(
    autojump_clock: MockClock, connect: Connect
) -> None:
    provider = Provider(Behaviour(text="one two", gap=1))
    wire = connect(provider)
    await wire.send({"model": "m", "stream": True})
    await wire.send({"model": "m", "stream": True})
    assert [(await wire.hear()).text() for _ in range(2)] == ["one two", "one two"]
    await trio.testing.wait_all_tasks_blocked()
    assert [seen.request.nth_on_connection for seen in provider.requests] == [1, 2]
    assert [seen.closed_at for seen in provider.requests] == [1, 2]
    assert (provider.connections, provider.open_connections) == (1, 1)


@pytest.mark.parametrize(
    ("how", "headers", "told"),
    [
        (Behaviour(keep_alive=False), {}, "close"),
        (Behaviour(fault=Fault.HANG_UP), {}, None),
        (Behaviour(), {"connection": "close"}, None),
    ],
)
async def test_a_connection_is_closed_after_the_answer(
    autojump_clock: MockClock, connect: Connect, how: Behaviour, headers: Any, told: str | None
) -> None:
    wire = connect(Provider(how))
    await wire.send({"model": "m"}, **headers)
    heard = await wire.hear()
    assert (heard.ended, heard.headers.get("connection")) == ("whole", told)
    assert await wire.stream.receive_some() == b""


async def test_a_chunked_request_body_is_read(autojump_clock: MockClock, connect: Connect) -> None:
    provider = Provider(Behaviour())
    wire = connect(provider)
    await wire.stream.send_all(
        b"POST /chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        b'8;x=y\r\n{"model"\r\n5\r\n:"m"}\r\n0\r\ntrailer: 1\r\n\r\n'
    )
    assert (await wire.hear()).status == 200
    assert provider.requests[0].body == {"model": "m"}


async def test_the_behaviour_may_depend_on_the_request(
    autojump_clock: MockClock, connect: Connect
) -> None:
    def second_time_lucky(request: Request) -> Behaviour:
        return Behaviour(status=503 if request.nth == 1 else 200)

    wire = connect(Provider(second_time_lucky))
    statuses = []
    for model in ("a", "b", "a", "b"):
        await wire.send({"model": model})
        statuses.append((await wire.hear()).status)
    assert statuses == [503, 503, 200, 200]


async def test_by_name_an_outage_ends_in_its_second(
    autojump_clock: MockClock, connect: Connect
) -> None:
    wire = connect(Provider())
    statuses = []
    for second in (0, 59, 60):
        await trio.sleep_until(second)
        await wire.send({"model": "fault-15"})
        statuses.append((await wire.hear()).status)
    assert statuses == [503, 503, 200]


async def test_by_name_a_name_that_is_none_is_not_found(
    autojump_clock: MockClock, connect: Connect
) -> None:
    wire = connect(Provider())
    await wire.send({"model": "gpt-9"})
    heard = await wire.hear()
    assert (heard.status, heard.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer no"}, 401),
        ({"authorization": "Bearer yes"}, 200),
        ({"x_api_key": "yes"}, 200),
        ({"api_key": "yes"}, 200),
    ],
)
async def test_keys_are_asked_for(
    autojump_clock: MockClock, connect: Connect, headers: Any, status: int
) -> None:
    provider = Provider(Behaviour(), keys=("yes",))
    wire = connect(provider)
    await wire.send({"model": "m"}, **headers)
    assert (await wire.hear()).status == status


async def get(wire: Any, path: str) -> Any:
    await wire.stream.send_all(f"GET {path} HTTP/1.1\r\nhost: p\r\n\r\n".encode())
    return await wire.hear("GET")


async def test_models_are_listed_however_chat_fails(
    autojump_clock: MockClock, connect: Connect
) -> None:
    wire = connect(Provider(Behaviour(status=500), models=("a", "b")))
    listed = (await get(wire, "/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["a", "b"]
    assert (await get(wire, "/healthz")).json() == {"status": "ok"}
    assert (await get(wire, "/v1/chat/completions")).status == 404


async def test_the_catalogue_has_a_behaviour_of_its_own(
    autojump_clock: MockClock, connect: Connect
) -> None:
    failing = connect(Provider(catalogue=Behaviour(status=500)))
    assert (await get(failing, "/v1/models")).status == 500
    late = connect(Provider(catalogue=Behaviour(delay=7)))
    assert (await get(late, "/v1/models")).head_at == 7


@pytest.mark.parametrize(
    "data",
    [
        b"HELO\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 64000001\r\n\r\n",
        b"POST / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"x" * 70_000,
    ],
)
async def test_what_is_no_request_gets_400_and_the_door(
    autojump_clock: MockClock, connect: Connect, data: bytes
) -> None:
    provider = Provider()
    wire = connect(provider)
    await wire.stream.send_all(data)
    assert (await wire.hear()).status == 400
    assert await wire.stream.receive_some() == b""
    assert (provider.open_connections, provider.requests) == (0, [])


async def test_a_cut_request_is_no_request(autojump_clock: MockClock, connect: Connect) -> None:
    provider = Provider()
    wire = connect(provider)
    await wire.stream.send_all(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n{")
    await wire.stream.aclose()
    await trio.sleep(1)
    assert (provider.open_connections, provider.requests) == (0, [])


async def test_nothing_is_kept_when_nobody_reads_the_record(
    autojump_clock: MockClock, connect: Connect
) -> None:
    provider = Provider(Behaviour(), record=False)
    wire = connect(provider)
    await wire.send({"model": "m"})
    assert (await wire.hear()).status == 200
    assert provider.requests == []


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()


ASK = b"POST /chat/completions HTTP/1.1\r\ncontent-length: 15\r\n\r\n" + b'{"stream":true}'


async def test_on_a_socket_a_reset_is_a_reset(nursery: trio.Nursery) -> None:
    port = await nursery.start(serve, Provider(Behaviour(fault=Fault.RESET)))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(ASK)
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    await stream.aclose()


async def test_on_a_socket_a_reset_in_the_head_is_one_too(nursery: trio.Nursery) -> None:
    how = Behaviour(fault=Fault.RESET_IN_HEAD, at=9)
    port = await nursery.start(serve, Provider(how))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(ASK)
    with pytest.raises(trio.BrokenResourceError):  # the bytes before it may or may not arrive
        [data async for data in stream]
    await stream.aclose()


async def test_on_a_socket_a_refusal_is_a_refusal(nursery: trio.Nursery) -> None:
    port = await nursery.start(serve, Provider(Behaviour(fault=Fault.REFUSE)))
    with pytest.raises(OSError, match=r"all attempts to connect|refused"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_on_a_socket_it_answers_and_notices_a_client_that_left(
    nursery: trio.Nursery,
) -> None:
    provider = Provider(lambda r: Behaviour(fault=Fault.STALL, at=2 if r.nth > 1 else 60, pause=0))
    port = await nursery.start(partial(serve, provider, host="127.0.0.1", port=0))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(ASK)
    said = b"".join([data async for data in stream])
    assert SIXTY.split()[-1].encode() in said
    await stream.aclose()

    provider.behaviour = Behaviour(fault=Fault.HANG)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(ASK)
    await until(lambda: provider.active == 1)
    await stream.aclose()
    left = trio.current_time()
    await until(lambda: provider.open_connections == 0)
    at = provider.requests[-1].disconnected_at
    assert at is not None
    assert at - left < 0.1
