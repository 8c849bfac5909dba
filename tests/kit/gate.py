"""Requests of clients with rate limits, through plans and walks by hand."""

from __future__ import annotations

from random import Random

from uniapi.config.bounds import ByModel, RateLimit, RateLimits
from uniapi.config.limits import parse_rate
from uniapi.config.targets import Everything, Rule
from uniapi.config.types import (
    AutoRetry,
    ClientKey,
    Config,
    KeyPreferences,
    KeySchedule,
    ModelName,
    Preferences,
    Provider,
    ProviderPreferences,
    Secret,
)
from uniapi.errors import Failure, Kind
from uniapi.routing import limits
from uniapi.routing.ask import Ask
from uniapi.routing.limits import LimitReached
from uniapi.routing.plan import Plan, make_plan
from uniapi.routing.walk import Walk
from uniapi.state import State

MODELS = tuple(ModelName(name, name) for name in ("m", "gpt-4o", "gpt-4o-mini", "o1"))


def rule(text: str) -> RateLimit:
    parsed = parse_rate(text)
    assert parsed is not None, text
    return parsed


def scalar(text: str) -> RateLimits:
    return RateLimits(per_model=False, rules=ByModel((), rule(text)))


def by_model(default: str | None = None, **entries: str) -> RateLimits:
    named = tuple((name.replace("_", "-"), rule(text)) for name, text in entries.items())
    return RateLimits(per_model=True, rules=ByModel(named, rule(default) if default else None))


def client(
    limit: RateLimits | None = None, *rules: Rule, name: str = "client", retry: int | None = None
) -> ClientKey:
    return ClientKey(
        Secret(name),
        rules or (Rule(Everything()),),
        preferences=KeyPreferences(rate_limit=limit, auto_retry=AutoRetry(count=retry)),
    )


def provider(
    name: str,
    limit: RateLimits | None = None,
    keys: str = "",
    models: tuple[ModelName, ...] = MODELS,
    schedule: KeySchedule = KeySchedule.ROUND_ROBIN,
) -> Provider:
    return Provider(
        name,
        keys=tuple(Secret(key) for key in keys.split()),
        models=models,
        preferences=ProviderPreferences(
            api_key_rate_limit=limit, api_key_schedule_algorithm=schedule
        ),
    )


class Gate:
    """Requests of one client, one after another, up to the plan and beyond."""

    def __init__(
        self,
        *providers: Provider,
        keys: tuple[ClientKey, ...] = (),
        everyone: RateLimits | None = None,
    ) -> None:
        providers = providers or (provider("p"),)
        self.config = Config(providers, keys or (client(),), Preferences(rate_limit=everyone))
        self.state = State()
        self.rng = Random(3)  # noqa: S311 - a test's dice
        self.now = 1000.0

    def admit(self, model: str = "m", tokens: int = 0, key: int = 0) -> LimitReached | None:
        ask = Ask(model, tokens=tokens)
        denial = limits.admit(self.config, self.state, self.config.keys[key], ask, self.now)
        return None if denial is None else denial.error()

    def admitted(self, *models: str, key: int = 0) -> str:
        return "".join("-+"[self.admit(model, key=key) is None] for model in models)

    def plan(self, ask: Ask | None = None, key: int = 0) -> Plan:
        chosen = self.config.keys[key]
        return make_plan(self.config, self.state, chosen, ask or Ask("m"), self.now, self.rng)

    def walk(self) -> Walk:
        return Walk(self.plan(), self.config, self.state, self.rng)

    def asked(self, *kinds: Kind, walk: Walk | None = None) -> str:
        """Walk to the end, or to the first attempt that is not to fail; who was asked."""
        walk = walk or self.walk()
        script, found = list(kinds), list[str]()
        while (step := walk.next(self.now)) is not None:
            attempt = step.attempt
            self.now += step.delay
            name = attempt.channel.provider.name
            found.append(name if attempt.key is None else f"{name}:{attempt.key.reveal()}")
            if not script:
                walk.succeeded(attempt, self.now)
                break
            walk.failed(attempt, Failure(script.pop(0), "no", 500), self.now)
        return " ".join(found)
