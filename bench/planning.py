"""What planning one request costs, in this process: `python bench/planning.py` prints JSON.

The configuration is 100 providers of 50 models for 200 clients; a tenth of each shows whether the
time grows with what a request does not use; and every provider with 200 keys instead of two, what
it does use.
"""

from __future__ import annotations

import json
import time
from random import Random
from typing import Final

from uniapi.config.types import ClientKey, Config, ModelName, Provider, Secret
from uniapi.routing.ask import Ask
from uniapi.routing.plan import make_plan
from uniapi.state import State

_CALLS: Final = 1000
_BATCHES: Final = 9


def config(providers: int, models: int, clients: int, keys: int) -> Config:
    """Providers in pairs that have the same models; clients that may use everything."""
    return Config(
        providers=tuple(
            Provider(
                name=f"provider-{number}",
                base_url=f"https://provider-{number}.example/v1/chat/completions",
                keys=tuple(Secret(f"sk-{number}-{key}") for key in range(keys)),
                models=tuple(
                    ModelName(f"model-{number // 2}-{model}", f"model-{number // 2}-{model}")
                    for model in range(models)
                ),
            )
            for number in range(providers)
        ),
        keys=tuple(ClientKey(Secret(f"sk-client-{number:020}")) for number in range(clients)),
    )


def seconds(made: Config) -> float:
    """CPU of a plan for one model of two providers: the mean of the least disturbed batch."""
    state, rng = State(), Random(1)  # noqa: S311 - a measurement's dice
    listed = made.providers[-1].models or ()
    key, ask = made.keys[-1], Ask(listed[-1].name)
    if len(make_plan(made, state, key, ask, 1000.0, rng).slots) != 2:
        raise RuntimeError("the plan is not what was meant to be measured")
    batches = []
    for _ in range(_BATCHES):
        begun = time.process_time()
        for _ in range(_CALLS):
            make_plan(made, state, key, ask, 1000.0, rng)
        batches.append((time.process_time() - begun) / _CALLS)
    return min(batches)


def main() -> None:
    """Print seconds by size."""
    sizes = {
        "full": config(100, 50, 200, 2),
        "tenth": config(10, 5, 20, 2),
        "many keys": config(100, 50, 200, 200),
    }
    print(json.dumps({name: seconds(made) for name, made in sizes.items()}))


if __name__ == "__main__":
    main()
