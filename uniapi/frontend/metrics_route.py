"""`GET /metrics`: for an admin, and without a key for a scraper on the same machine.

What comes from loopback is not always from this machine: a proxy on it speaks for strangers, and a
page in a browser on it may ask whatever its author likes. So the address alone is not enough: no
header by which proxies say that they are one, no `Origin`, and a `Host` that is loopback too.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

from uniapi.frontend.answer import NO_STORE, Answer
from uniapi.frontend.asgi import Request
from uniapi.frontend.auth import authenticate_admin
from uniapi.frontend.gateway import Gateway
from uniapi.stats.metrics import CONTENT_TYPE

_STRANGERS: Final = ("origin", "forwarded", "via", "x-real-ip", "cf-connecting-ip")
_FORWARDED: Final = "x-forwarded-"


async def metrics(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /metrics`: Prometheus' text format 0.0.4.

    Raises:
        ApiError: 401 or 403, as `authenticate_admin`, for whom it is not meant.
    """
    if not from_here(request):
        answer.facts["key"] = authenticate_admin(gateway.config, request.headers).id
    text = gateway.metrics.render().encode("utf-8", "replace")
    await answer.whole(200, text, NO_STORE, CONTENT_TYPE)


def from_here(request: Request) -> bool:
    """Whether a program on this machine asks for itself."""
    headers = request.headers
    if any(name in headers for name in _STRANGERS):
        return False
    if any(name.startswith(_FORWARDED) for name in headers):
        return False
    return _loopback(request.client) and _local(headers.get("host", ""))


def _local(host: str) -> bool:
    """Whether a `Host` header is loopback; a page's own name, rebound to loopback, is not."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name.lower() == "localhost" or _loopback(name.strip("[]"))


def _loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    match found:
        case IPv6Address(ipv4_mapped=mapped) if mapped is not None:
            return mapped.is_loopback
        case _:
            return found.is_loopback
