"""The idle pool against the simplest thing that could be right: a list."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi.upstream.pool import IdlePool, Origin

A, B, C = (Origin("https", host, 443) for host in "abc")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([A, B, C])),
        st.tuples(st.just("take"), st.sampled_from([A, B, C])),
        st.tuples(st.just("wait"), st.integers(0, 12)),
        st.tuples(st.just("expire"), st.none()),
        st.tuples(st.just("oldest"), st.none()),
    ),
    max_size=60,
)


@given(steps, st.integers(0, 3))
def test_it_agrees_with_a_list(steps: list[tuple[str, object]], per_origin: int) -> None:
    pool = IdlePool[int](expiry=10, per_origin=per_origin)
    model: list[tuple[Origin, int, float]] = []
    names = itertools.count()
    now = 0.0
    for step in steps:
        match step:
            case ("put", Origin() as origin):
                name = next(names)
                model.append((origin, name, now))
                mine = [entry for entry in model if entry[0] == origin]
                surplus = mine[0] if len(mine) > per_origin else None
                if surplus is not None:
                    model.remove(surplus)
                assert pool.put(origin, name, now) == (None if surplus is None else surplus[1])
            case ("take", Origin() as origin):
                mine = [entry for entry in model if entry[0] == origin]
                if mine:
                    model.remove(mine[-1])
                assert pool.take(origin) == (mine[-1][1] if mine else None)
            case ("wait", int(seconds)):
                now += seconds
            case ("expire", None):
                expired = [entry for entry in model if now - entry[2] >= 10]
                model = [entry for entry in model if now - entry[2] < 10]
                assert pool.take_expired(now) == [name for _, name, _ in expired]
            case ("oldest", None) if model:
                assert pool.take_oldest() == model.pop(0)[1]
        assert len(pool) == len(model)
        assert pool.origins == len({origin for origin, _, _ in model})
    assert pool.take_all() == [name for _, name, _ in model]
    assert (len(pool), pool.origins) == (0, 0)


def test_the_oldest_of_none_is_an_error() -> None:
    with pytest.raises(LookupError):
        IdlePool[int](expiry=1, per_origin=1).take_oldest()
