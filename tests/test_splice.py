"""What the splice makes of answers as models give them."""

from __future__ import annotations

import pytest

from uniapi.splice import Splice

SAID = "The cat sat on the mat, because every provi"

# What the second answer says; what the client gets after SAID, None when it does not fit.
SEAMS: dict[str, tuple[str, str | None]] = {
    "goes on": ("der of mats", "der of mats"),
    "begins the last word anew": ("provider of mats", "der of mats"),
    "begins with the last words, as it was asked": ("because every provider", "der"),
    "does so on a line of its own": ("\n\nbecause every provider", "der"),
    "starts over": (SAID + "der", "der"),
    "starts over after a blank": (" " + SAID + "der", "der"),
    "starts over and says something else": ("The cat sat on a dog", None),
    "starts over and stops early": ("The cat sat on the mat", None),
    "repeats the tail and has no more to say": ("because every provi", ""),
    "begins as chance has it": ("The ca", "The ca"),
    "has a word of the middle": ("cat, sat", "cat, sat"),
    "says nothing": ("", ""),
    "says white space": ("  ", "  "),
}


@pytest.mark.parametrize("name", SEAMS)
def test_the_seam_when_the_second_answer(name: str) -> None:
    second, expected = SEAMS[name]
    joint = Splice(SAID)
    sent = "".join(joint.feed(character) for character in second) + joint.end()
    assert (None if joint.diverged else sent) == expected


@pytest.mark.parametrize(
    ("said", "second", "sent"),
    [
        ("ha", "ha!", "!"),  # all that was said, again
        ("he said ha ", "ha!", "ha!"),
        ("1\n" + "-" * 40, "-" * 40 + "\n", "-" * 40 + "\n"),  # a ruler
        ("\n", "\nHello", "Hello"),
        ("\n", " Hello", " Hello"),
        ("Yes", "Yes, it is", ", it is"),
        ("a b", "b c", "b c"),
        ("it is unable", "able", "able"),  # no word that begins anew
        ("one more word", "words", "s"),
        ("one more wor", "word", "word"),  # three letters are chance
        ("x Qab cd ef ghi", "ab cd ef ghij", "j"),  # twelve characters are none
        ("x Qab cd ef gh", "ab cd ef ghi", "ab cd ef ghi"),
    ],
)
def test_short_texts(said: str, second: str, sent: str) -> None:
    joint = Splice(said)
    assert joint.feed(second) + joint.end() == sent


def test_what_goes_on_is_sent_as_soon_as_that_is_clear() -> None:
    joint = Splice("one two three four five six")
    assert joint.feed(" thr") == ""  # "three" again?
    assert joint.feed("ead") == " thread"
    assert joint.feed(" s") == " s"


def test_a_new_start_is_dropped_as_it_comes() -> None:
    joint = Splice("x y" * 10_000)
    assert all(joint.feed("x y") == "" for _ in range(10_000))
    assert joint.feed(" z") == " z"


LONG = "x y" * 10_000


@pytest.mark.parametrize(
    ("second", "sent"),
    [
        (LONG, ""),
        (LONG + " z", " z"),
        (LONG[:-1], None),
        (LONG[:20_000] + "no", None),
    ],
    ids=["all of it", "and more", "stops early", "diverges"],
)
def test_a_long_new_start(second: str, sent: str | None) -> None:
    joint = Splice(LONG)
    got = "".join(joint.feed(second[at : at + 5000]) for at in range(0, len(second), 5000))
    got += joint.end()
    assert (None if joint.diverged else got) == sent
    assert not (joint.diverged and got)
