"""A few seeds in every run of the suite, and proof that the promises can be broken."""

from __future__ import annotations

import pytest

from tests.kit.wire import Heard
from tests.sim.scenario import TEXT, Visit
from tests.sim.simulate import BrokenPromiseError, Outcome, honest, run


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_every_promise_is_kept_in_the_world_of_seed(seed: int) -> None:
    assert run(seed) is None


def streamed(text: str, end: bytes, finish: bytes = b"stop") -> Outcome:
    body = b'data: {"choices":[{"delta":{"content":"' + text.encode() + b'"}}]}\n\n'
    body += b'data: {"choices":[{"delta":{},"finish_reason":"' + finish + b'"}]}\n\n'
    return Outcome(Visit(0, stream=True), Heard(200, body=body + end, ended="whole"))


def test_a_whole_answer_is_taken_for_one() -> None:
    honest(streamed(TEXT, b"data: [DONE]\n\n"))


@pytest.mark.parametrize(
    "outcome",
    [
        streamed(TEXT[:20], b"data: [DONE]\n\n"),
        streamed(TEXT[:20] + TEXT, b"data: [DONE]\n\n"),
        streamed(TEXT[:20], b""),
        streamed("something else", b'data: {"error":{"message":"x","code":"y"}}\n\n'),
        Outcome(Visit(0, stream=True), Heard(200, body=b"", ended="cut")),
        Outcome(Visit(0, stream=False), Heard(502, body=b'{"error":"no"}', ended="whole")),
        Outcome(Visit(0, stream=True), None),
    ],
)
def test_a_dishonest_answer_is_noticed(outcome: Outcome) -> None:
    with pytest.raises(BrokenPromiseError):
        honest(outcome)
