"""What one seed means: providers and how they break, keys and how they route, clients and when.

Everything is drawn from one `random.Random`, in one order, so a seed is a whole scenario.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random

from uniapi.demo import Behaviour, Fault
from uniapi.demo.behaviour import Prefill, error_body

TEXT = "The quick brown fox jumps over the lazy dog and comes home late in the rain"
KEY = "sk-simulated-0000"
WORDS = len(TEXT.split())


@dataclass(frozen=True)
class Visit:
    """One client's request.

    Attributes:
        at: seconds until it comes.
        stream: as asked.
        leaves: seconds after asking at which it hangs up, or None.
        deadline: seconds it gives the gateway, or None.
    """

    at: float
    stream: bool
    leaves: float | None = None
    deadline: float | None = None


@dataclass
class Scenario:
    """Everything one seed says."""

    seed: int
    hosts: tuple[str, ...]
    config: str
    first: float
    idle: float
    visits: tuple[Visit, ...]
    windows: dict[str, tuple[int, float]] = field(default_factory=dict)

    def behaviour(self, rng: Random) -> Behaviour:
        """How a provider takes one request: well, more often than not."""
        return draw_behaviour(rng)


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = Random(seed)  # noqa: S311 - a scenario, not a secret
    hosts = tuple("abcd"[: rng.randint(1, 4)])
    first, idle = rng.choice([2.0, 5.0, 20.0]), rng.choice([2.0, 5.0])
    windows: dict[str, tuple[int, float]] = {}
    for host in hosts:
        if rng.random() < 0.15:
            windows[host] = (rng.randint(1, 5), 60.0)
    visits = tuple(draw_visit(rng) for _ in range(rng.randint(1, 6)))
    config = draw_config(rng, hosts, windows, first, idle)
    return Scenario(seed, hosts, config, first, idle, visits, windows)


def draw_visit(rng: Random) -> Visit:
    return Visit(
        at=rng.choice([0.0, 0.0, rng.uniform(0, 30)]),
        stream=rng.random() < 0.7,
        leaves=rng.choice([0.0, rng.uniform(0, 10)]) if rng.random() < 0.2 else None,
        deadline=rng.choice([1.0, 8.0]) if rng.random() < 0.2 else None,
    )


def draw_config(
    rng: Random,
    hosts: tuple[str, ...],
    windows: dict[str, tuple[int, float]],
    first: float,
    idle: float,
) -> str:
    algorithm = rng.choice(
        ["fixed_priority", "round_robin", "random", "weighted_round_robin", "lottery"]
    )
    retry = rng.choice(["true", "true", "true", "false", "0", "1", "3"])
    cooldown = rng.choice([0, 5, 300])
    rescue = rng.choice(["true", "true", "false"])
    hedge = rng.choice(["", "", "    hedge: 1s\n", "    hedge: {after: 500ms, budget: 100%}\n"])
    lines = ["providers:\n"]
    for host in hosts:
        keys = ", ".join(f"sk-up-{host}-{n}" for n in range(rng.randint(1, 3)))
        own = f"cooldown_period: {rng.choice([0, 5, 60])}"
        if host in windows:
            own += f", api_key_rate_limit: {windows[host][0]}/min"
        lines.append(
            f"  - {{provider: {host}, base_url: 'http://{host}/v1/chat/completions', "
            f"api: [{keys}], model: [m], preferences: {{{own}}}}}\n"
        )
    lines.append(f"api_keys:\n  - api: {KEY}\n    model:\n")
    for host in rng.sample(hosts, len(hosts)):
        weight = f": {rng.randint(1, 5)}" if rng.random() < 0.5 else ""
        lines.append(f"      - {host}/m{weight}\n")
    lines.append(f"    preferences:\n      SCHEDULING_ALGORITHM: {algorithm}\n")
    lines.append(f"      AUTO_RETRY: {retry}\n")
    lines.append(hedge.replace("    hedge", "      hedge"))
    lines.append(
        f"preferences:\n  cooldown_period: {cooldown}\n  rescue: {rescue}\n"
        f"  model_timeout: {{m: {{first: {first:g}, idle: {idle:g}}}}}\n"
        "  error_triggers: [fatal overload]\n"
    )
    return "".join(lines)


def draw_behaviour(rng: Random) -> Behaviour:
    """Half of the requests go well; the others meet one of everything that can go wrong."""
    well = Behaviour(
        text=TEXT,
        gap=rng.choice([0.0, 0.1, 0.5]),
        ttft=rng.choice([0.0, 0.3, 3.0]),
        prefill=rng.choice(list(Prefill)),
        piece=rng.choice([0, 0, 7]),
    )
    if rng.random() < 0.5:
        return well
    match rng.choice(["fault", "fault", "status", "said"]):
        case "fault":
            return replace(
                well,
                fault=rng.choice([fault for fault in Fault if fault is not Fault.NONE]),
                at=rng.randint(0, WORDS),
                pause=rng.choice([1.0, 10.0, math.inf]),
            )
        case "status":
            status = rng.choice([307, 400, 401, 402, 403, 404, 413, 422, 429, 500, 502, 503, 529])
            wait = rng.choice(["", "0", "1", "2", "30"])
            return Behaviour(status=status, headers=(("retry-after", wait),) if wait else ())
        case _:
            return rng.choice(
                [
                    replace(well, text="We are at fatal overload, come back later"),
                    replace(well, tokens=0),
                    refusal("context_length_exceeded"),
                    refusal("content_filter"),
                    replace(well, crlf=True, gzip=True),
                    replace(well, delay=rng.choice([1.0, 30.0])),
                ]
            )


def refusal(code: str) -> Behaviour:
    return Behaviour(status=400, error=error_body("no", type="invalid_request_error", code=code))
