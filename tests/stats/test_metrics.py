"""The numbers a scraper reads: what they count, how they are bounded, how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from uniapi.config.types import ClientKey, Config, Provider, Secret
from uniapi.errors import Kind
from uniapi.stats.families import Counts, Histograms, Reading
from uniapi.stats.ledger import Ledger
from uniapi.stats.metrics import FIRST, WHOLE, Metrics
from uniapi.stats.recent import _SILENT, SAMPLES, Lately, Recent
from uniapi.stats.record import Attempted, Record

ATTEMPT = Attempted("a", "m", "k", "ok", "", 2.0, 0.5, 10)
RECORD = Record(
    at=1.0, id="r", endpoint="POST /v1/chat/completions", client="", key="digest", model="m",
    stream=True, status=200, outcome="ok", limit="", provider="a", upstream="m", seconds=2.0,
    first=0.5, prompt=7, completion=3, total=10, cost=0.25, via=(), attempts=(ATTEMPT,),
)  # fmt: skip
Labels = tuple[tuple[str, str], ...]


def read(text: str) -> dict[tuple[str, Labels], float]:
    """Every sample, by its name and its labels: read by the format's own parser."""
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in families(text)
        for sample in family.samples
    }


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def noted(*records: Record) -> dict[tuple[str, Labels], float]:
    metrics = Metrics()
    for record in records:
        metrics.note(record)
    return read(metrics.render())


def of(samples: Mapping[tuple[str, Labels], float], name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name, by the values of their labels."""
    return {tuple(v for _, v in at): value for (n, at), value in samples.items() if n == name}


def test_a_request_is_counted_by_route_status_and_outcome() -> None:
    refused = replace(RECORD, status=429, outcome="error", provider="", attempts=(), total=0)
    left = replace(RECORD, status=0, outcome="client_left")
    found = of(noted(RECORD, RECORD, refused, left), "uniapi_requests_total")
    assert {at[1:]: count for at, count in found.items()} == {
        ("200", "ok"): 2,
        ("429", "error"): 1,
        ("none", "client_left"): 1,
    }
    assert {at[0] for at in found} == {"POST /v1/chat/completions"}


def test_an_attempt_is_counted_by_channel_outcome_and_reason() -> None:
    tried = (replace(ATTEMPT, outcome="cut"), replace(ATTEMPT, provider="b", why="rescue"))
    found = of(noted(replace(RECORD, attempts=tried)), "uniapi_attempts_total")
    assert found == {("a", "m", "cut", "turn"): 1, ("b", "m", "ok", "rescue"): 1}


def test_tokens_and_dollars_stand_under_who_finished() -> None:
    found = noted(RECORD, RECORD, replace(RECORD, provider="b", cost=0.0))
    assert of(found, "uniapi_tokens_total") == {
        ("a", "m", "prompt"): 14, ("a", "m", "completion"): 6,
        ("b", "m", "prompt"): 7, ("b", "m", "completion"): 3,
    }  # fmt: skip
    assert of(found, "uniapi_cost_dollars_total") == {("a", "m"): 0.5}


def test_what_a_client_left_costs_the_one_it_left() -> None:
    left = replace(RECORD, provider="", upstream="", total=0, prompt=0, completion=0)
    found = noted(left)
    assert of(found, "uniapi_cost_dollars_total") == {("a", "m"): 0.25}
    assert of(found, "uniapi_tokens_total") == {}


def test_a_refusal_by_a_limit_is_counted_under_the_key_not_under_its_words() -> None:
    found = noted(replace(RECORD, limit="2/min of this key for whatever-a-client-sent"))
    assert of(found, "uniapi_rate_limited_total") == {("digest",): 1}


@pytest.mark.parametrize(
    ("name", "at", "bounds", "value"),
    [
        ("uniapi_attempt_first_token_seconds", "a", FIRST, 0.5),
        ("uniapi_attempt_duration_seconds", "a", WHOLE, 2.0),
        ("uniapi_request_first_token_seconds", "POST /v1/chat/completions", FIRST, 0.5),
        ("uniapi_request_duration_seconds", "POST /v1/chat/completions", WHOLE, 2.0),
    ],
)
def test_a_time_is_in_every_bucket_that_reaches_it(
    name: str, at: str, bounds: tuple[float, ...], value: float
) -> None:
    found = noted(RECORD, RECORD)
    buckets = {float(end): count for (_, end), count in of(found, f"{name}_bucket").items()}
    assert buckets == {bound: 2 * (value <= bound) for bound in (*bounds, inf)}
    assert of(found, f"{name}_sum") == {(at,): 2 * value}
    assert of(found, f"{name}_count") == {(at,): 2}


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_the_last_bucket_has_all_and_none_has_less_than_the_one_before(times: list[float]) -> None:
    family = Histograms("h", "h", ("p",), FIRST, 100)
    for seconds in times:
        family.add(("x",), seconds)
    found = read("\n".join([*family.lines(), ""]))
    counts = list(of(found, "h_bucket").values())
    assert counts == sorted(counts)
    assert of(found, "h_count") == ({("x",): len(times)} if times else {})
    if times:
        assert counts[-1] == len(times)
        assert of(found, "h_sum")[("x",)] == pytest.approx(sum(times))
    for end, count in zip(FIRST, counts, strict=False):
        assert count == sum(seconds <= end for seconds in times)


def test_no_answer_has_no_first_token() -> None:
    silent = replace(RECORD, first=None, attempts=(replace(ATTEMPT, first=None, outcome="reset"),))
    found = noted(silent)
    assert of(found, "uniapi_request_first_token_seconds_count") == {}
    assert of(found, "uniapi_attempt_first_token_seconds_count") == {}
    assert of(found, "uniapi_attempt_duration_seconds_count") == {("a",): 1}


def test_a_listing_that_renames_its_models_for_ever_fills_one_series() -> None:
    metrics = Metrics(most=50)
    for number in range(1000):
        name = f"m{number}"
        attempt = replace(ATTEMPT, provider=name, upstream=name)
        metrics.note(replace(RECORD, provider=name, upstream=name, attempts=(attempt,)))
    text = metrics.render()
    assert text.count("\n") < 500
    found = read(text)
    attempts = of(found, "uniapi_attempts_total")
    assert attempts[("m0", "m0", "ok", "turn")] == 1
    assert attempts[("other",) * 4] == 950
    assert sum(attempts.values()) == 1000
    whole = of(found, "uniapi_attempt_duration_seconds_count")
    assert sum(whole.values()) == 1000
    assert 0 < whole[("other",)] < 1000


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(NAMES, NAMES)
def test_any_name_comes_back_as_it_was(provider: str, model: str) -> None:
    family = Counts("c_total", "counts", ("provider", "model"), 10)
    family.add((provider, model), 3)
    text = "\n".join([*family.lines(), ""])
    assert read(text) == {("c_total", (("provider", provider), ("model", model))): 3}


@given(st.floats())
def test_any_number_comes_back_as_it_was(value: float) -> None:
    metrics = Metrics()
    metrics.gauge("g", 'what\nit "is" \\', lambda: value)
    family = next(one for one in families(metrics.render()) if one.name == "g")
    assert family.documentation == 'what\nit "is" \\'
    assert family.type == "gauge"
    shown = family.samples[0].value
    assert shown == value or (isnan(shown) and isnan(value))


def test_names_that_change_for_ever_leave_room_for_those_of_the_moment() -> None:
    metrics = Metrics(most=50)
    for number in range(200):
        name, secret = f"p{number}", Secret(f"sk-{number}")
        metrics.follow(Config((Provider(name),), (ClientKey(secret),)))
        attempt = replace(ATTEMPT, provider=name)
        record = replace(RECORD, key=secret.digest, limit="1/min", provider=name)
        metrics.note(replace(record, attempts=(attempt,)))
        samples = read(metrics.render())
        assert of(samples, "uniapi_attempts_total")[name, "m", "ok", "turn"] == 1
        assert of(samples, "uniapi_attempt_duration_seconds_count")[(name,)] == 1
        assert of(samples, "uniapi_tokens_total")[name, "m", "prompt"] == 7
        assert of(samples, "uniapi_cost_dollars_total")[name, "m"] == 0.25
        assert of(samples, "uniapi_rate_limited_total")[(secret.digest,)] == 1
        assert len(samples) < 400
    assert of(read(metrics.render()), "uniapi_requests_total") == {
        ("POST /v1/chat/completions", "200", "ok"): 200
    }


def test_a_reload_forgets_nothing_while_there_is_room() -> None:
    metrics = Metrics()
    metrics.note(RECORD)
    before = metrics.render()
    metrics.follow(Config())
    assert metrics.render() == before


def test_others_show_theirs_and_the_last_of_a_name_counts() -> None:
    metrics = Metrics()
    metrics.gauge("g", "old", lambda: 1)
    metrics.gauge("g", "new", lambda: {("x",): 2, ("y",): nan}, ("l",))
    metrics.counter("c_total", "c", lambda: 5)
    metrics.gauge("unknown", "not on this system", lambda: None)
    found = read(metrics.render())
    assert of(found, "g")[("x",)] == 2
    assert isnan(of(found, "g")[("y",)])
    assert of(found, "c_total") == {(): 5}
    assert "unknown" not in metrics.render()
    assert metrics.value("c_total") == 5
    assert metrics.value("nobody") is None


def test_a_reading_that_fails_is_left_out_and_told_of() -> None:
    metrics = Metrics()

    def broken() -> Reading:
        raise ZeroDivisionError

    metrics.gauge("g", "g", broken)
    metrics.gauge("h", "h", lambda: 1)
    with capture_logs() as lines:
        found = read(metrics.render())
        assert metrics.value("g") is None
    assert of(found, "h") == {(): 1}
    assert of(found, "g") == {}
    assert [line["name"] for line in lines] == ["g", "g"]


@pytest.mark.parametrize("name", ["uniapi_requests_total", "two words", "", "ü"])
def test_a_name_that_would_break_the_text_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        Metrics().gauge(name, "x", lambda: 1)


def test_every_family_is_explained_and_typed_once() -> None:
    lines = Metrics().render().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert names == [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(set(names)) == len(names) == 9
    counters = [line.split()[2] for line in lines if line.endswith(" counter")]
    assert all(name.endswith("_total") for name in counters)


def recent(*outcomes: str, first: float | None = 1.0, stream: bool = True) -> Recent:
    kept = Recent()
    ledger = Ledger([kept.note])
    for outcome in outcomes:
        attempts = (replace(ATTEMPT, outcome=outcome, first=first),)
        ledger.note(replace(RECORD, attempts=attempts, stream=stream))
    return kept


def test_lately_is_the_last_hundred() -> None:
    kept = recent(*["ok"] * SAMPLES, *["reset"] * 30)
    assert kept.of("a", "m") == Lately(SAMPLES, SAMPLES - 30, 1.0, 1.0)
    assert kept.of("a", "other") == Lately()


def test_half_and_nine_of_ten_waited_no_longer() -> None:
    kept = Recent()
    for tenth in range(10, 0, -1):
        kept.note(replace(RECORD, attempts=(replace(ATTEMPT, first=tenth / 10),)))
    assert (kept.of("a", "m").p50, kept.of("a", "m").p90) == (0.5, 0.9)


def test_a_whole_answer_is_no_wait_for_a_token() -> None:
    assert recent("ok", stream=False).of("a", "m") == Lately(1, 1, None, None)


def test_what_we_gave_up_says_nothing_of_the_channel() -> None:
    assert recent("ok", *_SILENT).of("a", "m").attempts == 1
    assert {"cancelled", Kind.DEADLINE} == _SILENT


def test_the_channels_longest_unused_are_forgotten() -> None:
    kept = Recent()
    for number in range(2100):
        kept.note(replace(RECORD, attempts=(replace(ATTEMPT, upstream=str(number)),)))
        kept.note(RECORD)
    known = [number for number in range(2100) if kept.of("a", str(number)).attempts]
    assert known == list(range(101, 2100))
    assert kept.of("a", "m").attempts == SAMPLES
