"""Joining a broken answer and the one that goes on with it, so that a reader sees no seam.

A stream dies, and another model is asked to go on where it stopped. What comes is one of three
things: it starts over, it repeats the tail and goes on from there, or it simply goes on. The
first two are one: its beginning is the ending of what the client has, wholly or in part. So it is
held back until the longest such overlap is known, the overlap is dropped, and the rest is sent.

What is chance and what is a repeat cannot be told with certainty: "ha" after "ha" may be either.
The rules, from the surest to the least sure:

- An answer that begins with all that was said starts over.
- An overlap of `SURE` characters is a repeat; a shorter one only when it is the last word, begun
  anew where that word begins ("provi", then "provider").
- An answer that begins as the first one did, for `SURE` characters (or half of what was said, when
  that was less), and then says something else has started over and diverged: it does not fit.
- Anything else goes on.

Whitespace before a repeat does not hide it: models add it and drop it. At the seam of an answer
that goes on nothing is added and nothing dropped. Nobody can know whether a cut fell between two
words or inside one, so the model is asked to begin with the last words it sees (`upstream.resume`):
then there is a repeat, and the space after it is the model's own.
"""

from __future__ import annotations

from typing import Final

SURE: Final = 12  # characters, two or three words: fewer are repeated by chance
TAIL: Final = 4096  # characters at the end of what was said in which a repeat may begin
_WORD: Final = 4  # characters of a last word that are no chance


class Splice:
    """Takes the pieces of the second answer; gives what of them the client does not have yet.

    Attributes:
        diverged: it started over and said something else, or less: nothing of it fits.
    """

    def __init__(self, said: str) -> None:
        """`said` is the text the client has."""
        self.diverged = False
        self._said = said.lstrip() or said
        self._tail = said[-TAIL:]
        self._lead = ""  # white space before its first word
        self._held = ""  # its beginning, from its first word on
        self._same: int | None = None  # how much of `said` it repeated, once that is all it can be
        self._through = False

    def feed(self, piece: str) -> str:
        """One more piece; what is to be sent now."""
        if self._through:
            return piece
        if self.diverged or not piece:
            return ""
        if self._same is not None:
            return self._repeating(piece, self._same)
        if not self._held and not self._said.isspace():
            word = piece.lstrip()
            self._lead += piece[: len(piece) - len(word)]
            piece = word
        self._held += piece
        return self._decide(last=False)

    def end(self) -> str:
        """Nothing more comes; what is still to be sent."""
        if self._through or self.diverged:
            return ""
        if self._same is not None:
            self.diverged = True
            return ""
        return self._decide(last=True)

    def _repeating(self, piece: str, same: int) -> str:
        """It starts over, and nothing else: only how far it came is kept."""
        left = len(self._said) - same
        if not self._said.startswith(piece[:left], same):
            self.diverged = True
            return ""
        self._same = same + len(piece)
        return self._pass(piece[left:]) if len(piece) >= left else ""

    def _decide(self, *, last: bool) -> str:
        held, said = self._held, self._said
        if held.startswith(said):
            return self._pass(held[len(said) :])
        starts_over = said.startswith(held)
        if not last:
            if starts_over and len(held) > TAIL:
                self._same, self._held = len(held), ""
                return ""
            place = self._tail.find(held)
            if starts_over or 0 <= place < len(self._tail) - len(held):
                return ""
        overlap = self._overlap()
        if overlap:
            return self._pass(held[overlap:])
        if held.startswith(said[: min(SURE, (len(said) + 1) // 2)]):
            self.diverged = True
            return ""
        return self._pass(self._lead + held)

    def _overlap(self) -> int:
        """The longest beginning of what came that is a repeated ending of what was said."""
        held, tail = self._held, self._tail
        for length in range(min(len(held), len(tail)), _WORD - 1, -1):
            if tail.endswith(held[:length]) and _repeats(tail, length):
                return length
        return 0

    def _pass(self, text: str) -> str:
        self._through = True
        self._held = self._tail = self._said = ""
        return text


def _repeats(said: str, length: int) -> bool:
    """Whether the last `length` characters, coming again, are a repeat and no chance."""
    end = said[-length:]
    if length >= SURE:
        return any(map(str.isalnum, end))  # a ruler of dashes may go on for long
    return end.isalnum() and not said[-length - 1 : -length].isalnum()
