"""Sixteen public ways in which a provider breaks, and what a gateway has to make of each.

The rules are those of a public harness for gateways (failoverbench, methodology v0.1, MIT). The
primary is faulty, the fallback is healthy, and the answer is sixty known words. Nothing here does
I/O: the same rules judge real sockets and a virtual clock.

    pass     the caller has the whole answer (for 13: a clean error), and every check holds
    partial  the same, but something that is advised did not hold
    safe     a clean error within its time, and everything required holds
    fail     a hang, half an answer passed off as whole, or something required did not hold
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.strict import KEY, Heard

NUMBERS: Final = tuple(f"{number:02}" for number in range(1, 17))


@dataclass(frozen=True, slots=True)
class Speed:
    """Full timings, or fast ones: seconds.

    Attributes:
        suffix: of the faulty models' names.
        first, idle, cooldown: what the gateway is configured with.
        outage: how long fault 15 lasts.
        requests: how many are made meanwhile.
        every: the time between two of them.
        recovery: within which the primary has to be used again.
        late: by when an answer is too late for fault 07.
        stalled: by when fault 09 has to be over.
        limit: the most any other request may take.
    """

    suffix: str
    first: float
    idle: float
    cooldown: float
    outage: float
    requests: int
    every: float
    recovery: float
    late: float
    stalled: float
    limit: float


FULL: Final = Speed("", 10, 30, 20, 60, 20, 4, 30, 15, 45, 100)
FAST: Final = Speed("-fast", 1, 1.5, 2, 6, 10, 1.2, 4, 2.9, 5, 14)


def config(speed: Speed) -> str:
    """The `api.yaml` that all sixteen are met with."""
    faulty = [
        f"fault-{n}" + (f"{speed.suffix}: fault-{n}" if speed.suffix else "") for n in NUMBERS
    ]
    primary = _rows(faulty)
    spare = [f"{'fallback-14' if n == '14' else 'fallback'}: fault-{n}" for n in NUMBERS]
    fallback = _rows([*spare, "fallback: healthy"])
    return f"""\
providers:
  - provider: primary
    base_url: ${{PRIMARY_URL}}
    model: # the name the provider knows: the name clients use
{primary}
  - provider: fallback
    base_url: ${{FALLBACK_URL}}
    model:
{fallback}
api_keys:
  - api: {KEY}
    model: [primary/*, fallback/*] # in this order

preferences:
  model_timeout: {{default: {{first: {speed.first:g}, idle: {speed.idle:g}}}}}
  cooldown_period: {speed.cooldown:g}
"""


def _rows(models: Sequence[str]) -> str:
    """A YAML list, four entries a line."""
    lines = [", ".join(models[start : start + 4]) for start in range(0, len(models), 4)]
    return "      [\n" + "".join(f"        {line},\n" for line in lines) + "      ]\n"


@dataclass(slots=True)
class Observed:
    """What happened.

    Attributes:
        speed: the timings it happened in.
        answers: what the caller heard, in order.
        primary: when the primary was asked, in order; seconds from the first request.
        healthy: the call after it.
    """

    speed: Speed
    answers: list[Heard]
    primary: list[float] = field(default_factory=list)
    healthy: bool = False

    @property
    def answer(self) -> Heard:
        """The one answer."""
        return self.answers[-1]

    def asked(self, within: float) -> int:
        """How often the primary was asked in so many seconds from its first attempt."""
        return sum(at <= self.primary[0] + within for at in self.primary) if self.primary else 0


Check = tuple[str, Callable[[Observed], bool]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One of the sixteen.

    Attributes:
        number: two digits.
        what: the provider does.
        required, advised: checks by name.
        limit: seconds after which it is a hang, in full timings.
        rescued: whether the caller got what they should.
    """

    number: str
    what: str
    limit: float
    required: tuple[Check, ...] = ()
    advised: tuple[Check, ...] = ()
    rescued: Callable[[Observed], bool] = lambda seen: all(a.complete for a in seen.answers)


def _most(attempts: int, within: float) -> Check:
    return (
        f"primary asked at most {attempts} times in {within:g} s",
        lambda seen: seen.asked(within) <= attempts,
    )


def _recovered(seen: Observed) -> bool:
    start = seen.primary[0] + seen.speed.outage
    return any(start <= at <= start + seen.speed.recovery for at in seen.primary)


_AGAIN: Final[Check] = ("primary asked again", lambda seen: len(seen.primary) > 1)
_ONCE: Final[Check] = ("primary asked once", lambda seen: len(seen.primary) == 1)
_USAGE: Final[Check] = ("usage told", lambda seen: seen.answer.usage)
_SIX: Final = _most(6, 1000)

FAULTS: Final = (
    Fault(
        "01",
        "429 with Retry-After: 2, then healthy",
        20,
        (_most(2, 1.5),),
        (
            (
                "primary asked again, 1.8 s after the first or later",
                lambda seen: len(seen.primary) > 1 and seen.primary[1] - seen.primary[0] >= 1.8,
            ),
        ),
    ),
    Fault("02", "always 429", 40, (_most(4, 3), _SIX)),
    Fault("03", "500 once, then healthy", 20, (), (_AGAIN,)),
    Fault("04", "always 503", 40, (_SIX,)),
    Fault("05", "resets the connection once", 20),
    Fault("06", "never answers", 130, (), (_ONCE,)),
    Fault(
        "07",
        "slow first token",
        60,
        (),
        (("answered in time", lambda seen: seen.answer.seconds <= seen.speed.late),),
    ),
    Fault("08", "dies after 40 of 60 tokens", 40),
    Fault(
        "09",
        "20 tokens, then silence",
        70,
        (("over in time", lambda seen: seen.answer.seconds <= seen.speed.stalled),),
    ),
    Fault("10", "the tenth event is broken JSON", 30),
    Fault(
        "11",
        "no [DONE]",
        30,
        (("over within 8 s", lambda seen: seen.answer.seconds <= 8),),
        (_USAGE,),
    ),
    Fault("12", "400 context_length_exceeded", 20, (_ONCE,)),
    Fault(
        "13",
        "400 content_policy_violation",
        20,
        (_ONCE,),
        (("a clean error", lambda seen: seen.answer.status == 400 and seen.answer.error),),
        lambda seen: seen.answer.complete or (seen.answer.status == 400 and seen.answer.error),
    ),
    Fault(
        "14",
        "dies as 08, and the fallback refuses a prefill",
        40,
        (("its 400 is not shown", lambda seen: seen.answer.status != 400),),
    ),
    Fault(
        "15",
        "503 for a time, while requests go on",
        200,
        (
            ("every request answered", lambda seen: all(a.complete for a in seen.answers)),
            ("primary used again after", _recovered),
        ),
    ),
    Fault(
        "16",
        "always 503: whose answer is it?",
        40,
        (("the fallback is named", lambda seen: seen.answer.model == "fallback"), _SIX),
        (_USAGE,),
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a fault.

    Attributes:
        word: pass, partial, safe or fail.
        why: the checks that did not hold.
    """

    word: str
    why: tuple[str, ...] = ()


def judge(fault: Fault, seen: Observed) -> Verdict:
    """Apply the rules."""
    limit = min(fault.limit, seen.speed.limit)
    wrong = [name for name, holds in fault.required if not holds(seen)]
    wrong += [f"a hang: {a.seconds:.1f} s" for a in seen.answers if a.seconds >= limit]
    wrong += ["half an answer as if whole" for a in seen.answers if not a.clean]
    wrong += [] if seen.healthy else ["the healthy call after it failed"]
    if wrong:
        return Verdict("fail", tuple(wrong))
    if not fault.rescued(seen):
        return Verdict("safe", ("not rescued",))
    unmet = tuple(name for name, holds in fault.advised if not holds(seen))
    return Verdict("partial" if unmet else "pass", unmet)


def plan(fault: Fault, speed: Speed) -> Sequence[float]:
    """When its requests are made: seconds from the first."""
    if fault.number != "15":
        return (0.0,)
    return tuple(number * speed.every for number in range(speed.requests))
