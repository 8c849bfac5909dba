"""The ASGI application: a dict of routes, and one place where an error becomes an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import time
from typing import Final, TypeAlias

import structlog
import trio

from uniapi.errors import ApiError
from uniapi.frontend import (
    admin_routes,
    info_routes,
    metrics_route,
    relay_route,
    stats_routes,
    status,
)
from uniapi.frontend.answer import PREFLIGHT, Answer, Visit
from uniapi.frontend.asgi import ClientLeft, Message, Receive, Request, Send
from uniapi.frontend.chat_route import serve_chat
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.gauges import measure
from uniapi.relay import ENDPOINTS
from uniapi.stats.record import PROBES

Handler: TypeAlias = Callable[[Gateway, Request, Answer], Awaitable[None]]

# Without the `/v1`, which may be there or not.
ROUTES: Final[Mapping[str, Mapping[str, Handler]]] = {
    "/chat/completions": {"POST": serve_chat},
    **{path.removeprefix("/v1"): {"POST": relay_route.serve(path)} for path in ENDPOINTS},
    "/models": {"GET": info_routes.models},
    "/explain": {"GET": admin_routes.explained},
    "/generate-api-key": {"GET": admin_routes.generated_key},
    "/api_config": {"GET": admin_routes.effective_config},
    "/status": {"GET": status.status},
    "/metrics": {"GET": metrics_route.metrics},
    "/stats": {"GET": stats_routes.stats},
    "/token_usage": {"GET": stats_routes.token_usage},
    "/channel_key_rankings": {"GET": stats_routes.key_rankings},
    "/healthz": {"GET": info_routes.health},
    "/readyz": {"GET": info_routes.ready},
}
_MODEL: Final = "/models/"
_METHODS: Final = {"GET", "HEAD", "POST", "OPTIONS"}

log = structlog.get_logger()


class App:
    """What the server calls for every request."""

    def __init__(self, gateway: Gateway) -> None:
        """Everything the routes need is in `gateway`."""
        self.gateway = gateway
        measure(gateway)

    def stop(self) -> None:
        """End every request that is still under way, with an error that says why."""
        for answer, _ in list(self.gateway.live.values()):
            if answer.account is not None:
                answer.account.stop(
                    ApiError(503, "the gateway was stopped; ask again", code="stopped")
                )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request of type `http`; anything else is refused."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        request = Request.of(scope, receive)
        answer = Answer(request, send)
        begun = trio.current_time()
        outcome = "cancelled"  # by the server's end, when nothing below gets to say better
        live = self.gateway.live
        live[id(answer)] = (answer, begun)
        try:
            outcome = await self._serve(request, answer)
        finally:
            del live[id(answer)]
            self._done(answer, outcome, trio.current_time() - begun)

    def _done(self, answer: Answer, outcome: str, seconds: float) -> None:
        """Tell the log and the statistics."""
        account, answer.account = answer.account, None  # it holds the answer
        facts = answer.facts if account is None else {**answer.facts, **account.facts()}
        _log_done(answer, facts, outcome, seconds)
        visit = Visit(
            time(), _endpoint(answer.request), str(facts.get("outcome", outcome)), seconds
        )
        self.gateway.ledger.note(visit.record(answer) if account is None else account.record(visit))

    async def _serve(self, request: Request, answer: Answer) -> str:
        """Answer, whatever happens; says in a word what happened."""
        try:
            await self._route(request, answer)
        except ClientLeft:
            return "client_left"
        except ApiError as error:
            answer.facts["error"] = error.message
            if not answer.started:
                await answer.whole(error.status, error.body(), error.headers)
            return "error"
        except Exception:
            # The request that met the bug gets an answer; the others never notice.
            log.exception("request.crashed", request=request.id, path=request.path)
            if not answer.started:
                bug = ApiError(500, "the gateway met a bug; its log says more", "internal_error")
                await answer.whole(bug.status, bug.body())
            return "crashed"
        return "ok"

    async def _route(self, request: Request, answer: Answer) -> None:
        path = request.path.removeprefix("/v1")
        methods = ROUTES.get(path)
        if methods is None and path.startswith(_MODEL):
            methods = {"GET": _one_model(path.removeprefix(_MODEL))}
        if methods is None:
            raise ApiError(
                404,
                f"no such path: {request.path[:200]}; this gateway serves "
                + ", ".join(f"/v1{known}" for known in ROUTES),
                code="unknown_url",
            )
        if request.method == "OPTIONS":
            await answer.head(204, PREFLIGHT)
            await answer.last_word()
            return
        method = "GET" if request.method == "HEAD" else request.method
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join((*methods, "OPTIONS"))
            raise ApiError(
                405,
                f"{request.method[:20]} is not served at {request.path}; use {allowed}",
                code="method_not_allowed",
                headers=[(b"allow", allowed.encode())],
            )
        await handler(self.gateway, request, answer)


def _one_model(name: str) -> Handler:
    async def handler(gateway: Gateway, request: Request, answer: Answer) -> None:
        await info_routes.model(gateway, request, answer, name)

    return handler


def _endpoint(request: Request) -> str:
    """The route of a request; what is none of ours has one name, whatever strangers ask for."""
    path = request.path.removeprefix("/v1")
    if path in ROUTES:
        return f"{request.method} /v1{path}" if request.method in _METHODS else "other"
    return "GET /v1/models/{name}" if path.startswith(_MODEL) else "other"


def _log_done(answer: Answer, facts: Mapping[str, object], outcome: str, seconds: float) -> None:
    """The one line that tells the whole story of a request."""
    request = answer.request
    told: dict[str, object] = {
        "request": request.id,
        "method": request.method,
        "path": request.path[:200],
        "client": request.client or None,
        "outcome": outcome,
        "status": answer.status or None,
        "ms": round(seconds * 1000, 1),
        "bytes": answer.sent,
        **facts,
    }
    shown = {name: value for name, value in told.items() if value is not None}
    well = told["outcome"] in {"ok", "client_left"}
    if well and request.path.removeprefix("/v1") in PROBES:
        log.debug("request.done", **shown)
    elif well:
        log.info("request.done", **shown)
    else:
        log.warning("request.done", **shown)
