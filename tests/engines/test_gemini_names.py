"""What must survive the way to Gemini and back: signatures in ids, names of functions."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi.codec import Json
from uniapi.engines.gemini_names import DUMMY, original, signature_in, signed, spoken

IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", max_size=40)


@given(IDS, st.binary(min_size=1, max_size=400))
def test_a_signature_survives_the_round_trip_in_an_id(identity: str, data: bytes) -> None:
    standard = base64.b64encode(data).decode()
    for given_form in (standard, base64.urlsafe_b64encode(data).decode()):
        carried = signed(identity, given_form)
        assert carried.startswith(identity)
        assert re.fullmatch(r"[A-Za-z0-9_-]+", carried)
        assert signature_in(carried) == standard


@given(IDS)
def test_an_id_without_a_signature_stays_as_it_is(identity: str) -> None:
    assert signed(identity, "") == identity
    assert signature_in(identity) is None


@pytest.mark.parametrize("identity", ["", "call_1_sig_", "call_sig_not base64", "toolu_01A"])
def test_what_only_looks_like_a_signature_is_none(identity: str) -> None:
    assert signature_in(identity) is None


def test_what_is_no_signature_is_not_carried() -> None:
    assert signed("call_1", "not base64!") == "call_1"


def test_the_stand_in_is_base64_as_the_field_demands() -> None:
    assert len(base64.urlsafe_b64decode(DUMMY)) == 24


@given(st.text(min_size=1, max_size=100))
def test_every_name_becomes_one_gemini_takes(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", spoken(name))


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", fullmatch=True))
def test_a_name_gemini_takes_is_kept(name: str) -> None:
    assert spoken(name) == name
    assert spoken(spoken(name)) == name


def test_changed_names_are_found_again_and_others_not_touched() -> None:
    tools: list[Json] = [
        {"type": "function", "function": {"name": "1st"}},
        {"type": "function", "function": {"name": "fine"}},
        {"name": "2nd"},
        "nonsense",
        {"type": "custom"},
    ]
    assert original(tools) == {"_1st": "1st", "_2nd": "2nd"}
    assert original(None) == {}
