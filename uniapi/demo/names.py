"""Behaviours by the model's name, for whoever can only choose a model.

A name may be followed by settings: `ok;tokens=50;gap=0.02;ttft=1`, `cut;at=3;crlf`. A setting is
any number of `Behaviour` with its value, a switch (`crlf`, `gzip`) alone, `prefill=refuse`,
`model=` (the name the answer reports), `close` (not kept alive) or `retry_after=` seconds.

    ok slow                   healthy; 0.5 s to the first token and 0.1 s between tokens
    tools reasoning           two parallel tool calls; thoughts before the text
    crlf gzip bytewise huge   healthy in an awkward form; `huge` is one line of a megabyte
    wrong-type slow-body      healthy as text/plain; healthy in pieces of 200 bytes, 0.1 s apart
    status-NNN                always this status; 429 without Retry-After
    refuse reset reset-head hang silent stall cut abort broken-json no-done error-object
    error-event empty only-done html comments empty-deltas drip-head swapped hang-up
                              the faults of `behaviour.Fault`; where one needs `at`, it is 10
                              (`error-event`: 0); `no-words` is whole and has no text

Sixteen public faults, all with sixty tokens 15 ms apart; add `-fast` for the bracketed times:

    fault-01  first 429 with Retry-After 2, then healthy   fault-02  always 429
    fault-03  first 500, then healthy                      fault-04  always 503
    fault-05  first reset before any byte, then healthy    fault-06  silent for 120 s [15]
    fault-07  first token after 20 s [3]                   fault-08  dies after 40 tokens
    fault-09  20 tokens, 30 s [4] of silence, close        fault-10  tenth event broken
    fault-11  no [DONE], clean end                         fault-12  400 context_length_exceeded
    fault-13  400 content_policy_violation                 fault-14  as 08
    fault-15  503 for 60 s [6] from first use, then healthy
    fault-16  always 503
    fallback  healthy                                      fallback-14  and refuses a prefill
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from uniapi.demo.behaviour import Behaviour, Fault, Prefill, error_body

_SIXTEEN: Final = Behaviour(gap=0.015)
_NEEDS_AT: Final = (
    Fault.RESET_IN_HEAD,
    Fault.STALL,
    Fault.CUT,
    Fault.ABORT,
    Fault.BROKEN_JSON,
)
_WEATHER: Final = (
    ("get_weather", '{"city":"Oslo","days":3}'),
    ("get_weather", '{"city":"Bergen","days":3}'),
)

_FIXED: Final[Mapping[str, Behaviour]] = MappingProxyType(
    {
        **{
            str(f): Behaviour(fault=f, at=10 if f in _NEEDS_AT else 0)
            for f in Fault
            if f is not Fault.NONE
        },
        "ok": Behaviour(),
        "slow": Behaviour(ttft=0.5, gap=0.1),
        "tools": Behaviour(tools=_WEATHER),
        "reasoning": Behaviour(reasoning="First I count the words, then I say them."),
        "no-words": Behaviour(text=""),
        "crlf": Behaviour(crlf=True),
        "gzip": Behaviour(gzip=True),
        "bytewise": Behaviour(piece=1),
        "huge": Behaviour(text="x" * 1_000_000),
        "wrong-type": Behaviour(content_type="text/plain"),
        "slow-body": Behaviour(piece=200, piece_gap=0.1),
        "fallback": _SIXTEEN,
        "fallback-14": dataclasses.replace(_SIXTEEN, prefill=Prefill.REFUSE),
    }
)


def _status(status: int, code: str | None = None, *, retry_after: str | None = None) -> Behaviour:
    headers = () if retry_after is None else (("retry-after", retry_after),)
    kinds = {429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = error_body(f"scripted failure {code or status}", type=kind, code=code)
    return dataclasses.replace(_SIXTEEN, status=status, error=error, headers=headers)


def _dies(fault: Fault, *, at: int = 0, pause: float = math.inf) -> Behaviour:
    return dataclasses.replace(_SIXTEEN, fault=fault, at=at, pause=pause)


_PUBLIC: Final[Mapping[str, Behaviour]] = MappingProxyType(
    {
        "fault-01": _status(429, retry_after="2"),
        "fault-02": _status(429),
        "fault-03": _status(500),
        "fault-04": _status(503),
        "fault-05": _dies(Fault.RESET),
        "fault-06": _dies(Fault.HANG, pause=120.0),
        "fault-06-fast": _dies(Fault.HANG, pause=15.0),
        "fault-07": dataclasses.replace(_SIXTEEN, ttft=20.0),
        "fault-07-fast": dataclasses.replace(_SIXTEEN, ttft=3.0),
        "fault-08": _dies(Fault.ABORT, at=40),
        "fault-09": _dies(Fault.STALL, at=20, pause=30.0),
        "fault-09-fast": _dies(Fault.STALL, at=20, pause=4.0),
        "fault-10": _dies(Fault.BROKEN_JSON, at=10),
        "fault-11": _dies(Fault.NO_DONE),
        "fault-12": _status(400, "context_length_exceeded"),
        "fault-13": _status(400, "content_policy_violation"),
        "fault-14": _dies(Fault.ABORT, at=40),
        "fault-15": _status(503),
        "fault-16": _status(503),
    }
)
_FIRST_ONLY: Final = frozenset({"fault-01", "fault-03", "fault-05"})
_OUTAGES: Final = MappingProxyType({"fault-15": 60.0, "fault-15-fast": 6.0})  # seconds


def _public_fault(name: str, nth: int, elapsed: float) -> Behaviour:
    """One of the sixteen; a fault that passes is healthy afterwards."""
    slow = name.removesuffix("-fast")
    passed = nth > 1 if slow in _FIRST_ONLY else elapsed >= _OUTAGES.get(name, math.inf)
    return _SIXTEEN if passed else _PUBLIC.get(name) or _PUBLIC[slow]


def behaviour_for(model: str, *, nth: int = 1, elapsed: float = 0.0) -> Behaviour:
    """The behaviour a model's name asks for.

    Args:
        model: a name of the table above, with or without settings.
        nth: which request for this model it is, from 1.
        elapsed: seconds since the first request for this model.

    Raises:
        LookupError: for a name or a setting that is not in the table.
    """
    name, *settings = model.split(";")
    if name.startswith("fault-"):
        behaviour = _public_fault(name, nth, elapsed)
    elif name.startswith("status-") and name[7:].isdecimal():
        behaviour = dataclasses.replace(_status(int(name[7:])), gap=0.0)
    else:
        behaviour = _FIXED[name]
    for setting in settings:
        behaviour = _with(behaviour, setting)
    return behaviour


def _with(behaviour: Behaviour, setting: str) -> Behaviour:
    name, _, value = setting.partition("=")
    try:
        return _SETTINGS[name](behaviour, value)
    except ValueError:
        raise LookupError(f"{setting!r} is not a setting") from None


_SETTINGS: Final[Mapping[str, Callable[[Behaviour, str], Behaviour]]] = MappingProxyType(
    {
        "tokens": lambda b, v: dataclasses.replace(b, tokens=int(v)),
        "delay": lambda b, v: dataclasses.replace(b, delay=float(v)),
        "ttft": lambda b, v: dataclasses.replace(b, ttft=float(v)),
        "gap": lambda b, v: dataclasses.replace(b, gap=float(v)),
        "status": lambda b, v: dataclasses.replace(b, status=int(v)),
        "at": lambda b, v: dataclasses.replace(b, at=int(v)),
        "pause": lambda b, v: dataclasses.replace(b, pause=float(v)),
        "drip": lambda b, v: dataclasses.replace(b, drip=float(v)),
        "piece": lambda b, v: dataclasses.replace(b, piece=int(v)),
        "piece_gap": lambda b, v: dataclasses.replace(b, piece_gap=float(v)),
        "prefill": lambda b, v: dataclasses.replace(b, prefill=Prefill(v)),
        "model": lambda b, v: dataclasses.replace(b, model=v),
        "retry_after": lambda b, v: dataclasses.replace(
            b, headers=(*b.headers, ("retry-after", v))
        ),
        "crlf": lambda b, _: dataclasses.replace(b, crlf=True),
        "gzip": lambda b, _: dataclasses.replace(b, gzip=True),
        "close": lambda b, _: dataclasses.replace(b, keep_alive=False),
    }
)
