"""What rate limits have counted is bounded, and goes when nobody counts it any more."""

from __future__ import annotations

from uniapi.buckets import MAX_METERS, Bucket, Buckets, Scope
from uniapi.config.bounds import Unit, Window
from uniapi.config.types import ClientKey, Config, Provider, Secret
from uniapi.state import State


def test_meters_are_bounded_and_the_longest_unused_goes_first() -> None:
    buckets, window = Buckets(), Window(5, 60.0)
    first, second = Bucket(Scope.CLIENT, "k", model="1"), Bucket(Scope.CLIENT, "k", model="2")
    for bucket in (first, second, first):
        buckets.metered(bucket).add((window,), Unit.REQUESTS, 1, 0.0, 0.0)
    for n in range(MAX_METERS - 1):
        buckets.metered(Bucket(Scope.CLIENT, "k", model=f"m{n}"))
    assert buckets.get(second) is None
    kept = buckets.get(first)
    assert kept is not None
    assert kept.left(window, 0.0) == 3


def test_a_reload_forgets_what_nobody_counts_any_more() -> None:
    key, client = Secret("sk-kept"), ClientKey(Secret("client"))
    kept = {
        Bucket(Scope.SERVER, model="m"),
        Bucket(Scope.CLIENT, client.id),
        Bucket(Scope.PROVIDER, "p", key.digest, "m"),
        Bucket(Scope.PROVIDER, "p", "", "m"),
    }
    gone = {
        Bucket(Scope.CLIENT, "p"),
        Bucket(Scope.CLIENT, "unknown"),
        Bucket(Scope.PROVIDER, "p", "other", "m"),
        Bucket(Scope.PROVIDER, "q", key.digest, "m"),
        Bucket(Scope.PROVIDER, client.id, "", "m"),
    }
    state = State()
    for bucket in kept | gone:
        state.buckets.metered(bucket)
    state.prune(Config((Provider("p", keys=(key,)),), (client,)))
    assert {bucket for bucket in kept | gone if state.buckets.get(bucket) is not None} == kept
