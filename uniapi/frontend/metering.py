"""A request against the limits of its key and of the server: let in at first, settled at last.

Tokens are what the provider says they were. Of an answer that has no such word, because the
provider never says or the client left before it did, the request itself is counted: a client does
not get round a limit by hanging up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import trio

from uniapi.codec import Json
from uniapi.config.types import ClientKey, Config
from uniapi.frontend.exchange import Exchange, Respond, told
from uniapi.frontend.gateway import Gateway
from uniapi.race import Leg
from uniapi.routing import credit, limits
from uniapi.routing.ask import Ask
from uniapi.state import State

_LETTERS: Final = 4  # of a token, about; what `N/tpr` goes by
_TEXTS: Final = ("messages", "input", "prompt")  # request fields that hold what a model reads


def estimated(fields: Mapping[str, Json]) -> int:
    """How many tokens a request has, about: the letters of its texts by four, rounded up."""
    return -(-sum(_letters(fields.get(name)) for name in _TEXTS) // _LETTERS)


def _letters(value: Json) -> int:
    match value:
        case str():
            return len(value)
        case list():
            return sum(_letters(item) for item in value)
        case {"content": content}:
            return _letters(content)
        case {"text": text}:
            return _letters(text)
        case _:
            return 0


def metered(gateway: Gateway, config: Config, exchange: Exchange, respond: Respond) -> Respond:
    """The same answer, within the limits of the client's key and of the server.

    It raises LimitReached, 429 or 413, for a request that they refuse; then it was not counted.
    So it is for a key whose budget is gone.
    """

    async def within(nursery: trio.Nursery) -> bytes:
        key, ask = exchange.key, exchange.ask
        assert key is not None  # noqa: S101 - nobody comes here unknown
        assert ask is not None  # noqa: S101 - nor without a question
        balance = credit.balance(gateway.state, key)
        if balance is not None and balance.gone:
            raise balance.error()
        denial = limits.admit(config, gateway.state, key, ask, trio.current_time())
        if denial is not None:
            raise denial.error()
        try:
            return await respond(nursery)
        finally:
            _settle(config, gateway.state, key, ask, exchange.legs)

    return within


def _settle(config: Config, state: State, key: ClientKey, ask: Ask, legs: Sequence[Leg]) -> None:
    """Count the tokens of a request that is over, for its client and for every provider.

    The client pays for what it was told; when that was nothing yet, for the one it left.
    """
    now = trio.current_time()
    served = [leg for leg in legs if leg.failure is None]
    paid = told(legs)
    client = limits.of_client(config, state, key, ask.model)
    for leg in served:
        attempt, spent = leg.attempt, _spent(leg, ask)
        limits.spend(state, limits.of_channel(attempt.channel, attempt.key), spent, now)
        if leg in paid:
            inner = (config.keys_by_id[digest] for digest in attempt.via)
            nested = (claim for one in inner for claim in limits.of_nested(one, ask.model))
            limits.spend(state, (*client, *nested), spent, now)


def _spent(leg: Leg, ask: Ask) -> int:
    usage = leg.tally.usage
    return ask.tokens if usage is None else usage.total
