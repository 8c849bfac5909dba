"""A provider of the OpenAI format whose every answer, good or broken, is scripted.

The bench, the tests and the demo talk to this one implementation. It serves any trio stream: a
socket on loopback and a pair of memory streams under a virtual clock run the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import trio

from uniapi.codec import dumps, loads
from uniapi.demo.behaviour import Behaviour, error_body
from uniapi.demo.completions import Ask
from uniapi.demo.http1 import BadRequestError, Connection, Message
from uniapi.demo.names import behaviour_for
from uniapi.demo.script import Step, Then, answer
from uniapi.demo.seen import Request, Seen


def by_name(request: Request) -> Behaviour:
    """The behaviour the request's model names (see `uniapi.demo.names`); 404 for other names."""
    try:
        return behaviour_for(request.model, nth=request.nth, elapsed=request.elapsed)
    except LookupError:
        error = error_body(
            f"the model {request.model!r} does not exist",
            type="invalid_request_error",
            code="model_not_found",
        )
        return Behaviour(status=404, error=error)


@dataclass(slots=True)
class Provider:
    """One scripted provider, shared by all its connections.

    Attributes:
        behaviour: what every chat request gets, or what decides it.
        models: what GET /models lists; a request may name any model.
        keys: the API keys it takes; None takes everybody.
        catalogue: how GET /models behaves.
        record: whether `requests` grows; off where nobody reads it.
        requests: every request, in order.
        connections: how many have been made.
        open_connections: how many are open.
        active: how many answers are being given.
    """

    behaviour: Behaviour | Callable[[Request], Behaviour] = by_name
    models: Sequence[str] = ()
    keys: Sequence[str] | None = None
    catalogue: Behaviour = field(default_factory=Behaviour)
    record: bool = True
    requests: list[Seen] = field(default_factory=list, init=False)
    connections: int = field(default=0, init=False)
    open_connections: int = field(default=0, init=False)
    active: int = field(default=0, init=False)
    _asked: dict[str, tuple[int, float]] = field(default_factory=dict, init=False)

    @property
    def refuses(self) -> bool:
        """Whether a listener should refuse every connection in this provider's name."""
        return isinstance(self.behaviour, Behaviour) and self.behaviour.fault == "refuse"

    def see(self, message: Message, nth_on_connection: int) -> Seen:
        """Take note of a request."""
        try:
            body = loads(message.body) if message.body else None
        except ValueError:
            body = None
        now = trio.current_time()
        request = Request(
            now, message.method, message.path, message.headers, body, 1, 0.0, nth_on_connection
        )
        if request.path.endswith("/chat/completions"):
            nth, since = self._asked.get(request.model, (0, now))
            self._asked[request.model] = (nth + 1, since)
            request = replace(request, nth=nth + 1, elapsed=now - since)
        seen = Seen(request)
        if self.record:
            self.requests.append(seen)
        return seen

    def steps(self, request: Request) -> Iterable[Step]:
        """What to write in answer."""
        if request.path.endswith("/healthz"):
            return answer(Ask(fixed=b'{"status":"ok"}'), Behaviour())
        if self.keys is not None and _key(request.headers) not in self.keys:
            error = error_body(
                "Incorrect API key provided",
                type="authentication_error",
                code="invalid_api_key",
            )
            return answer(Ask(), Behaviour(status=401, error=error))
        match request.method, request.path.rpartition("/")[2]:
            case "GET", "models":
                return answer(Ask(fixed=self._listing()), self.catalogue)
            case "POST", "completions" if request.path.endswith("/chat/completions"):
                how = self.behaviour
                behaviour = how if isinstance(how, Behaviour) else how(request)
                return answer(request.ask(), behaviour)
            case _:
                error = error_body("no such path", type="invalid_request_error")
                return answer(Ask(), Behaviour(status=404, error=error))

    def _listing(self) -> bytes:
        return dumps(
            {
                "object": "list",
                "data": [
                    {"id": model, "object": "model", "created": 0, "owned_by": "scripted"}
                    for model in self.models
                ],
            }
        )


def _key(headers: dict[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key") or headers.get("api-key", "")


async def serve_stream(stream: trio.abc.Stream, provider: Provider) -> None:
    """Serve one connection until either side ends it, and close it."""
    connection = Connection(stream)
    provider.connections += 1
    provider.open_connections += 1
    try:
        await _serve(connection, provider)
    except trio.BrokenResourceError:
        pass  # the peer reset an idle connection
    except BadRequestError as problem:
        error = error_body(str(problem), type="invalid_request_error")
        steps = answer(Ask(), Behaviour(status=400, error=error, keep_alive=False))
        await _write(connection, steps, trio.current_time())
    finally:
        provider.open_connections -= 1
        await trio.aclose_forcefully(stream)


async def _serve(connection: Connection, provider: Provider) -> None:
    nth = 0
    while (message := await connection.request()) is not None:
        nth += 1
        seen = provider.see(message, nth)
        provider.active += 1
        try:
            ending = await _answer(connection, seen, provider.steps(seen.request))
        finally:
            provider.active -= 1
            seen.closed_at = trio.current_time()
        if ending is Then.RESET:
            connection.reset()
        if ending is not Then.KEEP or not message.keep_alive:
            return


async def _answer(connection: Connection, seen: Seen, steps: Iterable[Step]) -> Then:
    """Play the steps, and know at once when nobody listens any more."""
    ending = Then.CLOSE

    async def watch() -> None:
        await connection.gone()
        seen.disconnected_at = trio.current_time()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        last = await _write(connection, steps, seen.time)
        if last is None:
            seen.disconnected_at = trio.current_time()
        else:
            ending = last
            seen.finished = True
            seen.disconnected_at = None  # it left while the last bytes were on their way
        nursery.cancel_scope.cancel()
    return ending


async def _write(connection: Connection, steps: Iterable[Step], begun: float) -> Then | None:
    """Write each step in its second; what follows the last, or None when the peer is gone."""
    try:
        for step in steps:
            due = begun + step.at
            if due > trio.current_time():
                await trio.sleep_until(due)
            if step.data:
                await connection.stream.send_all(step.data)
            if step.then is not Then.MORE:
                return step.then
    except trio.BrokenResourceError:
        return None
    return Then.CLOSE


async def serve(
    provider: Provider,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen, and serve until cancelled; `task_status` gets the port.

    A provider that refuses holds the port without listening, so that nobody else answers there.

    Raises:
        OSError: when the address is taken.
    """
    if provider.refuses:
        with trio.socket.socket() as held:
            await held.bind((host, port))
            task_status.started(held.getsockname()[1])
            await trio.sleep_forever()

    async def handle(stream: trio.SocketStream) -> None:
        await serve_stream(stream, provider)

    listeners = await trio.open_tcp_listeners(port, host=host)
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(handle, listeners)
