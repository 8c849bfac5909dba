"""The laws of the splice: wherever it broke, no character comes twice and none is lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import assume, example, given
from hypothesis import strategies as st

from uniapi.demo import SIXTY
from uniapi.splice import SURE, TAIL, Splice

# Words and marks as texts have them; anything at all; and few letters, so that repeats abound.
TEXTS = (
    st.lists(st.sampled_from([*SIXTY.split(), "\n\n", "- ", "a", "ha", "の", "naïve"])).map(
        " ".join
    )
    | st.text()
    | st.text("ab \n")
)

LONG = st.lists(st.sampled_from(SIXTY.split()), min_size=SURE).map(" ".join)


def splice(said: str, second: str, cuts: list[int]) -> tuple[str, bool]:
    """What the client has in the end, and whether the second answer fitted."""
    joint = Splice(said)
    at = sorted({0, len(second), *(cut % (len(second) + 1) for cut in cuts)})
    sent = "".join(joint.feed(second[start:end]) for start, end in pairwise(at))
    return said + sent + joint.end(), not joint.diverged


CUTS = st.lists(st.integers(0, 1000), max_size=8)


@given(TEXTS, TEXTS, CUTS)
@example("I", " am", [])
@example("x" * (TAIL + 10), "y", [5000])
def test_an_answer_that_starts_over_gives_the_same_text(
    said: str, rest: str, cuts: list[int]
) -> None:
    assume(said)
    assert splice(said, said + rest, cuts) == (said + rest, True)


@given(TEXTS, TEXTS, CUTS)
def test_white_space_before_a_new_start_is_no_difference(
    said: str, rest: str, cuts: list[int]
) -> None:
    assume(said.strip())
    for second in ("\n " + said + rest, said.lstrip() + rest):
        assert splice(said, second, cuts) == (said + rest, True)


@given(TEXTS, TEXTS, st.integers(SURE, 200), CUTS)
def test_an_answer_that_repeats_the_tail_gives_the_same_text(
    said: str, rest: str, length: int, cuts: list[int]
) -> None:
    tail = said[-length:]
    assume(len(tail.lstrip()) >= SURE)
    assume(any(map(str.isalnum, tail)))
    second = tail + rest
    assume(not longer_repeat(said, second, len(tail)))
    assert splice(said, second, cuts) == (said + rest, True)


@given(TEXTS, TEXTS, CUTS)
@example("it waits", " no longer", [1])
@example("provi", "der", [])
@example("if x:\n    ", "    return", [2])
@example("word ", "", [])
def test_an_answer_that_goes_on_gives_the_same_text(said: str, rest: str, cuts: list[int]) -> None:
    assume(said)
    assume(not begins_alike(said, rest))
    assume(not longer_repeat(said, rest, 0))
    assert splice(said, rest, cuts) == (said + rest, True)


@given(LONG, TEXTS, st.integers(SURE, 1000), CUTS)
@example(SIXTY, " no", 20, [])
@example("ab" * TAIL, "no", 2 * TAIL - 5, [3000, 5000, 7000])
@example("ab" * TAIL, "", 2 * TAIL - 5, [3000, 5000, 7000])
def test_an_answer_that_starts_over_and_diverges_does_not_fit(
    said: str, other: str, at: int, cuts: list[int]
) -> None:
    at = min(at, len(said) - 1)
    second = said[:at] + other
    assume(not second.startswith(said))
    assume(not longer_repeat(said, second, 0))
    assert splice(said, second, cuts) == (said, False)


@given(TEXTS, TEXTS, CUTS, CUTS)
def test_the_pieces_it_comes_in_make_no_difference(
    said: str, second: str, some: list[int], others: list[int]
) -> None:
    assume(said)
    assert splice(said, second, some) == splice(said, second, others)


def longer_repeat(said: str, second: str, length: int) -> bool:
    """Whether the second answer begins with more of the tail than `length`."""
    heard = second.lstrip()
    return any(
        said.endswith(heard[:more])
        for more in range(4, min(len(said), len(heard)) + 1)
        if more > length - (len(second) - len(heard))
    )


def begins_alike(said: str, second: str) -> bool:
    """Whether the second answer begins as the first did, so that it would be a new start."""
    said = said.lstrip() or said
    heard = second if said.isspace() else second.lstrip()
    alike = min(SURE, (len(said) + 1) // 2)
    return len(heard) >= alike and said.startswith(heard[:alike])
