"""The demo: three scripted providers on loopback and the config that puts a gateway before them."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from uniapi.demo.behaviour import Behaviour, error_body
from uniapi.demo.provider import Provider, serve
from uniapi.demo.seen import Request

CLIENT_KEY: Final = "sk-demo"
MODEL: Final = "demo"
_PROVIDER_KEY: Final = "demo-provider-key"
_FILE: Final = "api.demo.yaml"

_NEXT: Final = (
    "To use real ones, write an api.yaml with your providers and keys into the folder where it "
    "runs: it is taken up within seconds."
)
_FALLBACK: Final = (
    "Hello! This answer was written beforehand: no model was asked and nothing was paid. "
    "But the way it came to you is real. The gateway asked the provider named broken first and "
    "got a 503, so it went on to the one named steady, which is streaming you these words. "
    "You saw none of that, and that is the point. "
) + _NEXT
_STEADY: Final = (
    "Hello! This is the provider named steady, with an answer written beforehand. "
    "Ask for the model demo to see a failover, or for demo-slow to see patience. "
) + _NEXT
_SLOW: Final = (
    "Hello, at last. This is the provider named slow: it thinks for two seconds and then says "
    "five words in each. Answers stream to you as they come, however slowly they come. "
) + _NEXT
_BROKEN: Final = error_body(
    "This demo provider is broken on purpose.", type="server_error", code="demo_broken"
)


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo.

    Attributes:
        text: the config, as YAML with `${...}` in it.
        env: the variables that config asks for.
        key: the client key it defines.
        model: the model that shows a failover.
        providers: by the name they have in the config.
    """

    text: str
    env: Mapping[str, str]
    key: str
    model: str
    providers: Mapping[str, Provider]


def demo_config_text() -> str:
    """The demo's config: beside this module when installed, in `conf/` in a checkout.

    Raises:
        FileNotFoundError: when it is in neither, which means a broken installation.
    """
    shipped = importlib.resources.files("uniapi.demo") / _FILE
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    checkout = Path(__file__).resolve().parents[2] / "conf" / _FILE
    return checkout.read_text(encoding="utf-8")


async def start(nursery: trio.Nursery) -> Demo:
    """Start the providers on free loopback ports; they run until the nursery is cancelled.

    Raises:
        OSError: when loopback gives no port.
        FileNotFoundError: see `demo_config_text`.
    """
    providers = scripted()
    env: dict[str, str] = {}
    for name, provider in providers.items():
        port = await nursery.start(serve, provider)
        env[f"DEMO_{name.upper()}_URL"] = f"http://127.0.0.1:{port}/v1/chat/completions"
    return Demo(demo_config_text(), env, CLIENT_KEY, MODEL, providers)


def scripted() -> dict[str, Provider]:
    """The three providers by name, not yet listening."""
    keys = (_PROVIDER_KEY,)
    return {
        "broken": Provider(
            Behaviour(status=503, error=_BROKEN), models=("demo-broken",), keys=keys, record=False
        ),
        "steady": Provider(
            _steady, models=("demo-fallback", "demo-steady"), keys=keys, record=False
        ),
        "slow": Provider(
            Behaviour(text=_SLOW, ttft=2.0, gap=0.2),
            models=("demo-slow",),
            keys=keys,
            record=False,
        ),
    }


def _steady(request: Request) -> Behaviour:
    return Behaviour(text=_FALLBACK if request.model == "demo-fallback" else _STEADY, gap=0.02)
