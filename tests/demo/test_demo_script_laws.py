"""What holds for every behaviour, whatever its numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi.demo import SIXTY, Behaviour, Fault, behaviour_for
from uniapi.demo import names as names_module
from uniapi.demo.completions import Ask, spoken, tokens
from uniapi.demo.script import Then, answer

TEXTS = st.text(st.sampled_from("ab é\n\t\u2028"), max_size=30)
FINITE = st.sampled_from([fault for fault in Fault if fault is not Fault.DRIP_HEAD])
BEHAVIOURS = st.builds(
    Behaviour,
    text=TEXTS,
    tokens=st.none(),
    gap=st.sampled_from([0.0, 0.5]),
    ttft=st.sampled_from([0.0, 2.0]),
    fault=FINITE,
    at=st.integers(0, 12),
    pause=st.sampled_from([0.0, 3.0]),
    crlf=st.booleans(),
    gzip=st.booleans(),
)
ASKS = st.builds(Ask, model=st.just("m"), stream=st.booleans(), include_usage=st.booleans())


@given(ASKS, BEHAVIOURS)
def test_time_never_goes_back_and_only_the_last_step_ends_it(asked: Ask, how: Behaviour) -> None:
    steps = list(answer(asked, how))
    times = [step.at for step in steps]
    assert times == sorted(times)
    assert [step.then is Then.MORE for step in steps] == [True] * (len(steps) - 1) + [False]


@given(ASKS, BEHAVIOURS, st.integers(1, 50), st.sampled_from([0.0, 0.5]))
def test_pieces_change_no_byte(asked: Ask, how: Behaviour, size: int, gap: float) -> None:
    whole = b"".join(step.data for step in answer(asked, how))
    cut = list(answer(asked, replace(how, piece=size, piece_gap=gap)))
    assert b"".join(step.data for step in cut) == whole
    assert max((len(step.data) for step in cut), default=0) <= size


@given(TEXTS)
def test_the_tokens_join_to_the_text(text: str) -> None:
    said = tokens(Ask(), Behaviour(text=text))
    assert "".join(str(delta["content"]) for delta in said) == text


@given(st.integers(1, len(SIXTY)))
def test_any_beginning_of_the_text_is_continued(end: int) -> None:
    beginning = SIXTY[:end]
    assert beginning + spoken(Ask(prefill=beginning), Behaviour()) == SIXTY


def test_every_name_of_the_table_is_a_behaviour() -> None:
    table = (names_module.__doc__ or "").split("    ok slow", 1)[1]
    listed = set(re.findall(r"fault-\d\d", table))
    assert listed == {f"fault-{number:02}" for number in range(1, 17)}
    for name in [*listed, *(f"{name}-fast" for name in listed), *names_module._FIXED]:
        assert isinstance(behaviour_for(name), Behaviour)
        assert name.removesuffix("-fast") in f"ok slow{table}"


def test_names_take_settings() -> None:
    how = behaviour_for("ok;tokens=50;gap=0.02;ttft=1;crlf;gzip;close;prefill=refuse;model=x")
    assert (how.tokens, how.gap, how.ttft, how.model) == (50, 0.02, 1.0, "x")
    assert how.crlf
    assert how.gzip
    assert not how.keep_alive
    broken = behaviour_for("status-429;retry_after=3;at=1;pause=2;drip=3;piece=4;piece_gap=5")
    assert (broken.status, broken.headers) == (429, (("retry-after", "3"),))
    assert (broken.at, broken.pause, broken.drip) == (1, 2.0, 3.0)
    assert (broken.piece, broken.piece_gap) == (4, 5.0)
    assert behaviour_for("ok;status=500;delay=1") == Behaviour(status=500, delay=1)


@pytest.mark.parametrize(
    "name", ["", "nobody", "fault-17", "fault-", "status-", "ok;colour=red", "ok;gap=x", "ok;gap"]
)
def test_other_names_are_nobody(name: str) -> None:
    with pytest.raises(LookupError):
        behaviour_for(name)


@pytest.mark.parametrize("name", ["fault-01", "fault-03", "fault-05"])
def test_a_passing_fault_passes(name: str) -> None:
    healthy = behaviour_for("fallback")
    assert behaviour_for(name) != healthy
    assert behaviour_for(name, nth=2) == healthy


@pytest.mark.parametrize(("name", "end"), [("fault-15", 60), ("fault-15-fast", 6)])
def test_an_outage_ends_in_its_second(name: str, end: float) -> None:
    assert behaviour_for(name, nth=9, elapsed=end - 0.01).status == 503
    assert behaviour_for(name, nth=1, elapsed=end) == behaviour_for("fallback")
