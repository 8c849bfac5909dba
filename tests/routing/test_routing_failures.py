"""The failure table, and what a client is told."""

from __future__ import annotations

from itertools import pairwise

import pytest

from uniapi.errors import Failure, Kind
from uniapi.routing.failures import (
    MEANING,
    Cools,
    SameChannel,
    for_client,
    most_telling,
    tells,
)

NEVER, ONCE, KEY = SameChannel.NEVER, SameChannel.ONCE_AFTER_JITTER, SameChannel.NEXT_KEY

TABLE = {
    #                 same   next   channel cools           key    passing
    Kind.CONNECT: (ONCE, True, Cools.WHEN_RETRY_FAILS, False, True),
    Kind.RESET: (ONCE, True, Cools.WHEN_RETRY_FAILS, False, True),
    Kind.SERVER: (ONCE, True, Cools.WHEN_RETRY_FAILS, False, True),
    Kind.FIRST_TOKEN: (NEVER, True, Cools.AT_ONCE, False, True),
    Kind.IDLE: (NEVER, True, Cools.AT_ONCE, False, True),
    Kind.TOTAL: (NEVER, True, Cools.NEVER, False, True),
    Kind.DEADLINE: (NEVER, False, Cools.NEVER, False, False),
    Kind.RATE_LIMIT: (KEY, True, Cools.WHEN_KEYS_COOL, True, True),
    Kind.KEY: (KEY, True, Cools.WHEN_KEYS_COOL, True, False),
    Kind.QUOTA: (KEY, True, Cools.WHEN_KEYS_COOL, True, False),
    Kind.CONTEXT: (NEVER, True, Cools.NEVER, False, False),
    Kind.POLICY: (NEVER, False, Cools.NEVER, False, False),
    Kind.REQUEST: (NEVER, True, Cools.NEVER, False, False),
    Kind.GARBAGE: (NEVER, True, Cools.AT_ONCE, False, True),
    Kind.TRIGGER: (NEVER, True, Cools.AT_ONCE, False, True),
    Kind.EMPTY: (NEVER, True, Cools.AT_ONCE, False, True),
    Kind.CUT: (NEVER, True, Cools.AT_ONCE, False, True),
}


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_means_what_the_table_says(kind: Kind) -> None:
    row = MEANING[kind]
    assert TABLE[kind] == (
        row.same_channel,
        row.next_channel,
        row.cools_channel,
        row.cools_key,
        row.passing,
    )


def failure(kind: Kind, status: int = 500, message: str = "why") -> Failure:
    return Failure(kind, message, status)


def test_what_the_client_can_act_on_tells_most() -> None:
    descending = [
        Kind.POLICY,
        Kind.CONTEXT,
        Kind.REQUEST,
        Kind.RATE_LIMIT,
        Kind.KEY,
        Kind.IDLE,
        Kind.SERVER,
        Kind.EMPTY,
        Kind.RESET,
        Kind.CONNECT,
    ]
    for more, less in pairwise(descending):
        refusals = [failure(kind, 400) for kind in (less, more, less)]
        assert most_telling(refusals).kind is more


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_rank(kind: Kind) -> None:
    assert 0 <= tells(failure(kind)) <= tells(failure(Kind.POLICY))


def test_of_equals_the_latest_tells() -> None:
    first, last = failure(Kind.EMPTY, message="first"), failure(Kind.CUT, message="last")
    assert most_telling([first, last]).message == "last"
    assert most_telling([last, first]).message == "first"


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        (Kind.SERVER, 529, 503),
        (Kind.SERVER, 500, 500),
        (Kind.SERVER, 501, 501),
        (Kind.SERVER, 502, 502),
        (Kind.SERVER, 503, 503),
        (Kind.SERVER, 504, 504),
        (Kind.SERVER, 524, 502),
        (Kind.KEY, 401, 502),
        (Kind.KEY, 403, 502),
        (Kind.KEY, 400, 502),
        (Kind.KEY, 500, 500),
        (Kind.QUOTA, 402, 502),
        (Kind.QUOTA, 429, 429),
        (Kind.RATE_LIMIT, 429, 429),
        (Kind.RATE_LIMIT, 503, 429),
        (Kind.FIRST_TOKEN, 504, 504),
        (Kind.IDLE, 200, 504),
        (Kind.TOTAL, 504, 504),
        (Kind.CONNECT, 503, 502),
        (Kind.RESET, 502, 502),
        (Kind.GARBAGE, 200, 502),
        (Kind.EMPTY, 200, 502),
        (Kind.CUT, 200, 502),
        (Kind.TRIGGER, 200, 502),
        (Kind.CONTEXT, 413, 413),
        (Kind.CONTEXT, 200, 400),
        (Kind.POLICY, 403, 403),
        (Kind.POLICY, 500, 400),
        (Kind.REQUEST, 404, 404),
        (Kind.REQUEST, 422, 422),
        (Kind.REQUEST, 500, 500),
        (Kind.REQUEST, 501, 501),
    ],
)
def test_the_status_a_client_sees(kind: Kind, status: int, expected: int) -> None:
    assert for_client(failure(kind, status), "m").status == expected


def test_a_person_sees_who_said_it() -> None:
    error = for_client(failure(Kind.SERVER, 500, "boom"), "gpt-4o", "openai")
    assert error.message == "provider openai, model gpt-4o: boom"
    assert for_client(failure(Kind.SERVER), "gpt-4o").message == "model gpt-4o: why"


def test_the_gateways_own_key_is_not_taken_for_the_clients() -> None:
    said = Failure(
        Kind.KEY, "Incorrect API key", 401, code="invalid_api_key", type="authentication_error"
    )
    error = for_client(said, "m", "p")
    assert error.status == 502
    assert "refused the gateway's own key" in error.message
    assert (error.code, error.type) == ("key", None)
    assert b'"server_error"' in error.body()


@pytest.mark.parametrize("kind", [Kind.KEY, Kind.REQUEST])
def test_an_entry_that_cannot_be_used_is_the_gateways_fault(kind: Kind) -> None:
    """A provider refuses with 4xx; who was never asked has refused nothing."""
    unusable = Failure(kind, "the private key is damaged", 500, "bad_private_key")
    error = for_client(unusable, "m", "p")
    assert (error.status, error.code) == (500, "bad_private_key")
    assert error.message == "provider p, model m: the private key is damaged"
    assert b'"server_error"' in error.body()


@pytest.mark.parametrize("kind", [Kind.KEY, Kind.REQUEST])
def test_what_a_provider_said_tells_more_than_an_entry_that_cannot_be_used(kind: Kind) -> None:
    for said in (Kind.RATE_LIMIT, Kind.REQUEST):
        refused = failure(said, 429)
        assert most_telling([refused, failure(kind, 500)]) is refused
    assert most_telling([failure(kind, 500), failure(Kind.SERVER)]).kind is kind


def test_a_request_error_keeps_the_providers_words() -> None:
    said = Failure(
        Kind.CONTEXT,
        "too long",
        400,
        code="context_length_exceeded",
        type="invalid_request_error",
        param="messages",
    )
    error = for_client(said, "m", "p")
    assert (error.code, error.type, error.param) == (
        "context_length_exceeded",
        "invalid_request_error",
        "messages",
    )
    assert for_client(failure(Kind.EMPTY, 200), "m").code == "empty_response"
    assert for_client(failure(Kind.SERVER, 500), "m").code == "server_error"


@pytest.mark.parametrize("own", [None, "INVALID_ARGUMENT", "ValidationException"])
def test_a_context_too_long_has_the_code_that_programs_look_for(own: str | None) -> None:
    error = for_client(Failure(Kind.CONTEXT, "too long", 400, code=own), "m", "p")
    assert error.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("kind", "wait", "headers"),
    [
        (Kind.RATE_LIMIT, 1.2, ((b"retry-after", b"2"),)),
        (Kind.RATE_LIMIT, 20.0, ((b"retry-after", b"20"),)),
        (Kind.RATE_LIMIT, 0.5, ((b"retry-after", b"1"),)),
        (Kind.RATE_LIMIT, None, ()),
        (Kind.RATE_LIMIT, 0.0, ()),
        (Kind.RATE_LIMIT, float("inf"), ()),
        (Kind.SERVER, 5.0, ()),
    ],
)
def test_a_429_says_when_to_come_back(
    kind: Kind, wait: float | None, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    said = Failure(kind, "slow down", 429, retry_after=wait)
    assert for_client(said, "m").headers == headers
