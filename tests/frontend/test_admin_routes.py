"""What only an operator may ask for: a new key, the configuration in force."""

from __future__ import annotations

import re

import pytest
from trio.testing import MockClock

from tests.kit.world import World
from uniapi.config.masked import masked

ADMIN = "sk-admin-0000"
API = """
providers:
  - provider: a
    base_url: 'http://user:hunter2hunter2@a/v1/chat/completions'
    api: ${UPSTREAM}
    model: [m]
    preferences: {headers: {x-secret: open-sesame-0000}, proxy: 'http://me:wordword@proxy'}
api_keys:
  - {api: sk-client-0000, model: [a/m]}
  - {api: sk-admin-0000, role: admin, model: [sk-client-0000/*]}
"""
SECRETS = ("sk-up-from-env", "hunter2", "open-sesame", "wordword", "sk-client", "sk-admin")
PATHS = ("/v1/generate-api-key", "/v1/api_config", "/generate-api-key", "/api_config")


@pytest.mark.parametrize("path", PATHS)
async def test_others_are_turned_away(path: str, world: World, autojump_clock: MockClock) -> None:
    world.start(API, {"UPSTREAM": "sk-up-from-env"})
    nobody, somebody = await world.get(path, None), await world.get(path)
    assert (nobody.status, somebody.status) == (401, 403)
    assert b"invalid_api_key" in nobody.body
    assert b"not_admin" in somebody.body
    answered = await world.get(path, ADMIN)
    assert answered.status == 200
    assert answered.headers["cache-control"] == "no-store"
    assert answered.headers["access-control-allow-origin"] == "*"
    assert (await world.post(path, {}, key=ADMIN)).status == 405


async def test_a_new_key_is_long_and_never_the_same(
    world: World, autojump_clock: MockClock
) -> None:
    world.start(API, {"UPSTREAM": "sk-up-from-env"})
    keys = set()
    for _ in range(20):
        match (await world.get("/v1/generate-api-key", ADMIN)).json():
            case {"api_key": str(key), **rest}:
                assert rest == {}
                assert re.fullmatch(r"sk-[A-Za-z0-9]{48}", key)
                keys.add(key)
            case other:
                raise AssertionError(other)
    assert len(keys) == 20
    assert len({letter for key in keys for letter in key}) > 60
    assert (await world.get("/v1/models", keys.pop())).status == 401  # it is nobody's yet


async def test_the_configuration_in_force_is_shown_without_its_secrets(
    world: World, autojump_clock: MockClock
) -> None:
    world.start(API, {"UPSTREAM": "sk-up-from-env"})
    heard = await world.get("/v1/api_config", ADMIN)
    assert heard.json() == {"api_config": masked(world.gateway.config)}
    assert [secret for secret in SECRETS if secret.encode() in heard.body] == []
    assert b'"provider":"a"' in heard.body
    assert world.gateway.config.keys[0].id.encode() in heard.body
