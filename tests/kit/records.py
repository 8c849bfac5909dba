"""Requests that are over, and a statistics file that holds them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from uniapi.stats import store
from uniapi.stats.record import Attempted, Record

DAY = 86_400
TODAY = 20_000 * DAY  # unix seconds; where a day begins

ATTEMPT = Attempted("a", "up", "key-a", "ok", "", 2.0, 0.5, 10)
RECORD = Record(
    at=float(TODAY), id="r", endpoint="POST /v1/chat/completions", client="10.0.0.1", key="ada",
    model="m", stream=True, status=200, outcome="ok", limit="", provider="a", upstream="up",
    seconds=2.0, first=0.5, prompt=7, completion=3, total=10, cost=0.25, via=(),
    attempts=(ATTEMPT,),
)  # fmt: skip

attempts = st.builds(
    Attempted,
    provider=st.sampled_from("ab"),
    upstream=st.just("up"),
    key=st.sampled_from(["", "k1", "k2"]),
    outcome=st.sampled_from(["ok", "ok", "cancelled", "server_error"]),
    why=st.just(""),
    seconds=st.just(1.0),
    first=st.none(),
    tokens=st.just(0),
)
# Whole seconds and halves of a day: bounds that are drawn the same way often meet them exactly.
moments = st.one_of(
    st.integers(0, 6).map(lambda half: TODAY + half * DAY / 2),
    st.integers(TODAY, TODAY + 3 * DAY).map(float),
)
records = st.builds(
    lambda at, key, model, via, part, tries, endpoint, client, tokens: replace(
        RECORD,
        at=at,
        key=key,
        model=model,
        via=via if key else (),
        parts={"bob": tokens / 128} if key and part and "bob" in via else {},
        attempts=tuple(tries),
        endpoint=endpoint,
        client=client,
        prompt=tokens,
        completion=2 * tokens,
        total=3 * tokens,
        cost=tokens / 64,  # sums of these are exact
    ),
    moments,
    st.sampled_from(["", "ada", "bob"]),
    st.sampled_from(["", "m", "n"]),
    st.sampled_from([(), (), ("cyd",), ("cyd", "bob")]),
    st.booleans(),
    st.lists(attempts, max_size=3),
    st.sampled_from(["POST /v1/chat/completions", "GET /v1/stats", "other"]),
    st.sampled_from(["", "10.0.0.1", "::1"]),
    st.integers(0, 1000),
)


@contextmanager
def kept(told: Sequence[Record], labels: Mapping[str, str] | None = None) -> Iterator[store.Store]:
    """A statistics file with these, written in two batches."""
    with tempfile.TemporaryDirectory() as folder:
        file = store.Store(Path(folder) / "stats.db")
        with closing(file):
            half = len(told) // 2
            file.write(told[:half], {}, labels)
            file.write(told[half:], {})
            yield file


def reading(file: store.Store) -> sqlite3.Connection:
    """Beside its writer; for `closing`."""
    (_, _, path) = file.connection.execute("PRAGMA database_list").fetchone()
    return store.reader(path)
