"""Compressed answers: plain as they come, and never more than they should be."""

from __future__ import annotations

import gzip
import itertools
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi.upstream import inflate
from uniapi.upstream.inflate import InflateError, Inflater


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw": raw_deflate,
}


def inflated(inflater: Inflater, pieces: list[bytes]) -> bytes:
    out = b""
    for piece in pieces:
        inflater.feed(piece)
        while plain := inflater.take():
            assert len(plain) <= inflate.PIECE
            out += plain
    inflater.finish()
    return out


@given(
    st.sampled_from(sorted(PACKERS)),
    st.binary(max_size=2000),
    st.lists(st.integers(0, 2100), max_size=5),
)
def test_however_it_is_cut_it_comes_out_as_it_went_in(
    name: str, data: bytes, cuts: list[int]
) -> None:
    packed = PACKERS[name](data)
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    pieces = [packed[a:b] for a, b in itertools.pairwise(edges)]
    inflater = Inflater("deflate" if name == "raw" else name)
    assert inflated(inflater, pieces) == data


@given(st.sampled_from(sorted(PACKERS)), st.binary(min_size=1, max_size=500), st.data())
def test_what_is_cut_is_an_error(name: str, data: bytes, source: st.DataObject) -> None:
    packed = PACKERS[name](data)
    part = packed[: source.draw(st.integers(1, len(packed) - 1))]
    with pytest.raises(InflateError):
        inflated(Inflater("deflate" if name == "raw" else name), [part])


@given(st.sampled_from(["gzip", "deflate"]), st.lists(st.binary(max_size=50), max_size=4))
def test_noise_is_an_error_or_bytes(encoding: str, pieces: list[bytes]) -> None:
    try:
        inflated(Inflater(encoding), pieces)
    except InflateError as error:
        assert "compressed answer" in str(error)  # noqa: PT017 - raising is allowed, not required


def test_each_flush_of_a_stream_can_be_taken_at_once() -> None:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    inflater = Inflater("gzip")
    for text in (b"data: one\n\n", b"data: two\n\n"):
        inflater.feed(packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))
        assert inflater.take() == text
        assert inflater.take() == b""


def test_a_gzip_of_several_members_is_one_text() -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert inflated(Inflater("gzip"), [packed]) == b"one two"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_more_behind_the_end_is_an_error(encoding: str) -> None:
    packed = PACKERS[encoding](b"whole") + b"and more"
    with pytest.raises(InflateError):
        inflated(Inflater(encoding), [packed])


def test_the_last_piece_is_not_left_inside_zlib() -> None:
    for extra in range(0, 300, 20):
        data = bytes(inflate.PIECE + extra)
        assert inflated(Inflater("deflate"), [raw_deflate(data)]) == data


def test_nothing_at_all_is_nothing() -> None:
    assert inflated(Inflater("gzip"), []) == b""


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(InflateError, match="nobody asked for"):
        Inflater(encoding)


def test_a_bomb_stops_at_its_ratio_and_holds_one_piece_at_a_time() -> None:
    inflater = Inflater("gzip")
    inflater.feed(gzip.compress(bytes(50_000_000)))
    given = 0
    with pytest.raises(InflateError, match="100-fold"):  # noqa: PT012 - how far it gets is the point
        while piece := inflater.take():
            assert len(piece) <= inflate.PIECE
            given += len(piece)
    assert given <= inflate.FREE_OUTPUT + inflate.PIECE


def test_an_answer_of_honest_ratio_stops_at_its_size() -> None:
    text = random.Random(1).randbytes(2_000_000)  # noqa: S311 - only to be incompressible
    inflater = Inflater("gzip", max_output=1_999_999)
    with pytest.raises(InflateError, match="larger than 1999999 bytes"):
        inflated(inflater, [gzip.compress(text)])
    assert inflated(Inflater("gzip", max_output=2_000_000), [gzip.compress(text)]) == text
