"""All sixteen faults in full timings on a virtual clock, by the rules of `bench.sixteen`."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bench import faults
from bench.sixteen import FAST, FAULTS, FULL, Fault, Observed, Speed, Verdict, config, judge, plan
from bench.strict import Heard
from tests.kit.world import World
from uniapi.codec import JsonObject, dumps
from uniapi.demo import SIXTY, Provider

URLS = {
    "PRIMARY_URL": "http://primary/v1/chat/completions",
    "FALLBACK_URL": "http://fallback/v1/chat/completions",
}


async def met(fault: Fault, speed: Speed, world: World, text: str) -> Observed:
    primary = world.network.providers["primary"] = Provider()
    world.network.providers["fallback"] = Provider()
    world.start(text, URLS)

    async def connect() -> trio.abc.Stream:
        return world.connect().stream

    return await faults.meet(fault, speed, connect, primary)


@pytest.mark.parametrize("speed", [FULL, FAST], ids=["full", "fast"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.number}: {fault.what}")
async def test_a_fault_is_met(
    fault: Fault, speed: Speed, world: World, autojump_clock: MockClock
) -> None:
    seen = await met(fault, speed, world, config(speed))
    assert judge(fault, seen) == Verdict("pass")


@pytest.mark.parametrize("number", ["01", "02", "15"])
async def test_a_provider_with_a_key_of_its_own_is_no_different(
    number: str, world: World, autojump_clock: MockClock
) -> None:
    text = config(FULL).replace("{PRIMARY_URL}\n", "{PRIMARY_URL}\n    api: sk-primary\n")
    fault = next(fault for fault in FAULTS if fault.number == number)
    assert judge(fault, await met(fault, FULL, world, text)) == Verdict("pass")


async def test_without_rescue_a_stream_that_dies_is_an_honest_error(
    world: World, autojump_clock: MockClock
) -> None:
    text = config(FULL) + "  rescue: false\n"
    fault = next(fault for fault in FAULTS if fault.number == "08")
    assert judge(fault, await met(fault, FULL, world, text)).word == "safe"


# That the rules can tell.


def heard(text: str = SIXTY, *, error: bool = False, **how: float) -> Heard:
    events: list[JsonObject] = [
        {"model": "fallback", "choices": [{"delta": {"content": text}}]},
        {"choices": [], "usage": {"total_tokens": 1}},
    ]
    if error:
        events.append({"error": {"message": "no"}})
    body = b"".join(b"data: " + dumps(event) + b"\n\n" for event in events)
    return Heard(0.0, how.get("seconds", 1.0), 200, body, how.get("whole", True) is True)


def verdict(number: str, answer: Heard, primary: list[float], *, healthy: bool = True) -> str:
    fault = next(fault for fault in FAULTS if fault.number == number)
    return judge(fault, Observed(FULL, [answer], primary, healthy)).word


@pytest.mark.parametrize(
    ("number", "answer", "primary", "word"),
    [
        ("08", heard(), [0.0], "pass"),
        ("08", heard("half"), [0.0], "fail"),
        ("08", heard("half", error=True), [0.0], "safe"),
        ("08", heard(SIXTY + SIXTY), [0.0], "fail"),
        ("08", heard(whole=False), [0.0], "fail"),
        ("08", heard(seconds=40.0), [0.0], "fail"),
        ("01", heard(), [0.0, 2.0], "pass"),
        ("01", heard(), [0.0, 1.6], "partial"),
        ("01", heard(), [0.0], "partial"),
        ("01", heard(), [0.0, 0.5, 1.0], "fail"),
        ("02", heard(), [0.0, 1.0, 2.0, 2.5, 2.9], "fail"),
        ("04", heard(), [float(n) for n in range(7)], "fail"),
        ("06", heard(), [0.0, 1.0], "partial"),
        ("07", heard(seconds=16.0), [0.0], "partial"),
        ("12", heard(), [0.0, 1.0], "fail"),
        ("13", heard(), [0.0], "partial"),
        ("15", heard(), [0.0, 60.0], "pass"),
        ("15", heard(), [0.0, 91.0], "fail"),
    ],
)
def test_the_rules_tell(number: str, answer: Heard, primary: list[float], word: str) -> None:
    assert verdict(number, answer, primary) == word
    assert verdict(number, answer, primary, healthy=False) == "fail"


def test_the_readme_has_the_configuration_and_the_verdicts() -> None:
    readme = Path("README.md").read_text(encoding="utf-8")
    assert f"```yaml\n{config(FULL)}```" in readme
    for fault in FAULTS:
        assert f"| {fault.number} | {fault.what} | pass |" in readme


def test_fault_fifteen_is_many_requests() -> None:
    assert [len(plan(fault, FULL)) for fault in FAULTS] == [1] * 14 + [20, 1]
