"""The scripted provider on a port of its own: `python bench/provider.py --port 9000`.

Without `--behaviour` the model's name says how to behave (`uniapi.demo.names` has the table).
With one, every request gets it; with several, requests get them in turn.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import signal

import trio

from uniapi.demo import Provider, Request, behaviour_for, by_name, serve
from uniapi.demo.behaviour import Behaviour


def provider_for(names: list[str], *, keys: list[str] | None = None) -> Provider:
    """The provider that behaves as the names say, one request each in turn.

    Raises:
        LookupError: for a name that is none.
    """
    for name in names:
        behaviour_for(name)
    if not names:
        return Provider(by_name, models=("ok", "slow"), keys=keys, record=False)
    if len(names) == 1 and not names[0].startswith("fault-"):
        return Provider(behaviour_for(names[0]), models=names, keys=keys, record=False)
    turns = itertools.cycle(names)

    def in_turn(request: Request) -> Behaviour:
        return behaviour_for(next(turns), nth=request.nth, elapsed=request.elapsed)

    return Provider(in_turn, models=names, keys=keys, record=False)


async def run(provider: Provider, host: str, port: int) -> None:
    """Print the port and serve until SIGTERM or SIGINT."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            listen = functools.partial(serve, provider, host=host, port=port)
            print(await nursery.start(listen), flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A scripted OpenAI-format provider.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 lets the system choose")
    parser.add_argument("--behaviour", action="append", default=[], metavar="NAME")
    parser.add_argument("--key", action="append", metavar="KEY", help="take only these keys")
    args = parser.parse_args()
    try:
        provider = provider_for(args.behaviour, keys=args.key)
    except LookupError as problem:
        parser.error(f"no such behaviour: {problem}")
    trio.run(run, provider, args.host, args.port)


if __name__ == "__main__":
    main()
