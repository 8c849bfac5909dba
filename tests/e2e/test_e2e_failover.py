"""The first fails in every way it can; the client gets the second's answer, exactly once."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.e2e.conftest import Site
from tests.e2e.running import KEY, NO_TLS
from uniapi.codec import JsonObject
from uniapi.demo import SIXTY


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("way", ["refuse", "reset", "500", "stall", "object", "empty"])
def test_the_second_answers_when_the_first_fails(site: Site, way: str, *, stream: bool) -> None:
    ask: JsonObject = {
        "model": f"f-{way}",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": stream,
    }
    before = len(site.second.requests)
    begun = time.perf_counter()
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=10) as client:
        answer = client.post(
            f"{site.url}/v1/chat/completions",
            json=ask,
            headers={"authorization": f"Bearer {KEY}"},
        )
    took = time.perf_counter() - begun
    assert answer.status_code == 200, answer.text
    assert len(site.second.requests) == before + 1
    assert answer.headers["x-uniapi-attempts"].count(";ok;") == 1
    if stream:
        words = SIXTY.split()
        assert [answer.text.count(f'"{words[0]}"'), answer.text.count("[DONE]")] == [1, 1]
    else:
        assert answer.json()["choices"][0]["message"]["content"] == SIXTY
    if way == "stall":
        assert 0.3 <= took < 8, "after its timeout of 0.3 s"  # a busy machine may be late
    else:
        assert took < 8
