"""Compressed answers, made plain a piece at a time and under a cap.

A provider is untrusted input: one read of 64 KiB can stand for 64 MiB. So nothing is inflated
before somebody asks for the next piece, no piece is larger than `PIECE`, and the whole is capped
in size and in its ratio to what came over the wire.
"""

from __future__ import annotations

import zlib

PIECE = 256 * 1024
"""Bytes, the most that one call gives."""

MAX_OUTPUT = 64 * 1024 * 1024
"""Bytes, the most that one answer may inflate to."""

MAX_RATIO = 100
"""Output to input, enforced once the output is beyond `FREE_OUTPUT`."""

FREE_OUTPUT = 1024 * 1024
"""Bytes; below this a high ratio harms nobody, and short repetitive JSON has one."""

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


class InflateError(Exception):
    """The bytes are not what their encoding says, are cut, or stand for too much."""


class Inflater:
    """One compressed body on its way to being plain.

    Args:
        encoding: `gzip`, `x-gzip` or `deflate` (with or without zlib's wrapper, as in the wild).
        max_output: bytes the body may inflate to.

    Raises:
        InflateError: the encoding is another one.
    """

    def __init__(self, encoding: str, *, max_output: int = MAX_OUTPUT) -> None:
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise InflateError(f"the answer is in an encoding nobody asked for: {encoding:.40}")
        self._gzip = encoding != "deflate"
        self._max_output = max_output
        self._zlib: zlib._Decompress | None = None
        self._input = b""
        self._held = False
        self._fed = 0
        self._given = 0

    def feed(self, data: bytes) -> None:
        """Add bytes from the wire."""
        self._input += data
        self._fed += len(data)

    def take(self) -> bytes:
        """The next piece, 1 to `PIECE` bytes; b"" when more must be fed first.

        Raises:
            InflateError: malformed, or beyond the caps.
        """
        while self._input or self._held:
            state = self._zlib
            if state is None or state.eof:
                state = self._zlib = self._member()
            if state is None:
                break
            piece = self._step(state)
            if piece:
                return piece
        return b""

    def finish(self) -> None:
        """Say that nothing more will be fed; to be asked when `take` has nothing left.

        Raises:
            InflateError: the compressed data is not complete.
        """
        whole = self._zlib is not None and self._zlib.eof
        if self._fed and not whole:
            raise InflateError("the compressed answer was cut")

    def _member(self) -> zlib._Decompress | None:
        """What inflates the bytes that come; None while two bytes are needed to tell."""
        if self._gzip:
            return zlib.decompressobj(_GZIP)
        if self._zlib is not None:
            raise InflateError("the compressed answer goes on behind its end")
        if len(self._input) < 2:
            return None
        # RFC 1950: method 8 in the low bits, and the two bytes divide by 31
        wrapped = self._input[0] & 0x0F == 8 and int.from_bytes(self._input[:2], "big") % 31 == 0
        return zlib.decompressobj(_ZLIB if wrapped else _RAW)

    def _step(self, state: zlib._Decompress) -> bytes:
        try:
            piece = state.decompress(self._input, PIECE)
        except zlib.error:
            raise InflateError("the compressed answer is malformed") from None
        # a full piece may have left output inside zlib although the input is used up
        self._held = len(piece) == PIECE and not state.eof
        self._input = state.unused_data if state.eof else state.unconsumed_tail
        self._given += len(piece)
        if self._given > self._max_output:
            raise InflateError(f"the compressed answer is larger than {self._max_output} bytes")
        used = self._fed - len(self._input)
        if self._given > FREE_OUTPUT and self._given > MAX_RATIO * used:
            raise InflateError(f"the compressed answer inflates more than {MAX_RATIO}-fold")
        return piece
