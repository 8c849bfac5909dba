"""The small grammars: times, sizes, rates."""

from __future__ import annotations

import pytest

from uniapi.config import yaml
from uniapi.config.bounds import RateLimit, Unit, Window
from uniapi.config.fields import At, json
from uniapi.config.limits import parse_rate, size
from uniapi.config.problems import Sink
from uniapi.duration import parse_duration

DAY = 86400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("2.5", 2.5),
        (".5", 0.5),
        ("0", 0),
        ("5s", 5),
        ("5 sec", 5),
        ("2m", 120),
        ("2 MIN", 120),
        ("300ms", 0.3),
        ("1h", 3600),
        ("1d", DAY),
    ],
)
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "5x", "nan", "inf", "1e3", "s", "1:30", "٣", "9" * 99])
def test_what_is_no_time_is_refused(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [
        *((unit, 1) for unit in ("s", "sec", "second", "seconds")),
        *((unit, 60) for unit in ("m", "min", "minute", "MIN", "minutes")),
        *((unit, 3600) for unit in ("h", "hr", "hour", "hours")),
        *((unit, DAY) for unit in ("d", "day", "Day", "days")),
        *((unit, 30 * DAY) for unit in ("mo", "month", "months")),
        *((unit, 365 * DAY) for unit in ("y", "year", "years")),
    ],
)
def test_a_rate_knows_every_unit(unit: str, seconds: float) -> None:
    assert parse_rate(f"15/{unit}") == RateLimit((Window(15, seconds),))


def test_a_rate_may_have_several_windows_count_tokens_and_cap_a_request() -> None:
    assert parse_rate(" 15 / min , 1500/day,100000 tokens/min,10 requests/s, 4000/tpr") == (
        RateLimit(
            (
                Window(15, 60),
                Window(1500, DAY),
                Window(100_000, 60, Unit.TOKENS),
                Window(10, 1),
            ),
            4000,
        )
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "15", "15/", "/min", "15/fortnight", "0/min", "-1/min", "1.5/min", "15/min,"),
        *("a/min", "15 min", "15//min", "٣/min", "9" * 99 + "/min"),
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    assert parse_rate(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1000", 1000),
        ("20MB", 20_000_000),
        ("20MiB", 20 * 1024**2),
        ("20 mb", 20_000_000),
        ("1.5k", 1500),
        ("2G", 2_000_000_000),
        ("1TiB", 1024**4),
        ("7b", 7),
    ],
)
def test_a_size_is_decimal_or_binary(text: str, number: int) -> None:
    sink = Sink("f")
    assert size(yaml.Scalar(text, 3), At("x", sink)) == number
    assert sink.problems() == ()


@pytest.mark.parametrize("text", ["", "MB", "0", "-1", "20X", "20iB", "٣MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    sink = Sink("f")
    assert size(yaml.Scalar(text, 3, quoted=True), At("x", sink)) is None
    (problem,) = sink.problems()
    assert (problem.line, problem.fix) == (3, "write bytes, or 20MB or 20MiB")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("24576", 24576),
        ("-3", -3),
        ("+3", 3),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        ("yes", "yes"),
        ("0x1F", "0x1F"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("9" * 5000, "9" * 5000),
        ("9" * 299 + ".5e99", "9" * 299 + ".5e99"),
    ],
)
def test_a_bare_value_is_what_it_looks_like_and_a_quoted_one_a_string(
    text: str, value: object
) -> None:
    assert json(yaml.Scalar(text, 1)) == value
    assert type(json(yaml.Scalar(text, 1))) is type(value)
    assert json(yaml.Scalar(text, 1, quoted=True)) == text
