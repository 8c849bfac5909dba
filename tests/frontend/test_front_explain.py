"""What a running gateway says it would do, to its operator alone."""

from __future__ import annotations

from trio.testing import MockClock

from tests.kit.world import World

API = """
providers:
  - {provider: a, base_url: 'http://a/v1/chat/completions', api: sk-up-a, model: [m]}
  - {provider: b, base_url: 'http://b/v1/chat/completions', api: sk-up-b, model: [m]}
api_keys:
  - {api: sk-client-0000, model: [a/m, b/m]}
  - {api: sk-admin-0000, role: admin}
"""


async def test_the_operator_sees_who_rests_now(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", status=500)
    world.provider("b")
    world.start(API)
    key = world.gateway.config.keys[0].id
    path = f"/v1/explain?model=m&key={key}"
    fresh = await world.get(path, "sk-admin-0000")
    assert fresh.status == 200
    assert b"cools" not in fresh.body
    await world.ask()
    rested = await world.get(path, "sk-admin-0000")
    assert b"cools" in rested.body
    assert b"sk-up" not in rested.body
    again = await world.get(path, "sk-admin-0000")
    assert again.body == rested.body  # asking moves nothing


async def test_others_do_not(world: World, autojump_clock: MockClock) -> None:
    world.provider("a")
    world.start(API)
    assert (await world.get("/v1/explain?model=m")).status == 403
    assert (await world.get("/v1/explain?model=m", None)).status == 401
    assert (await world.get("/v1/explain", "sk-admin-0000")).status == 422
    assert (await world.get("/v1/explain?model=m&key=no", "sk-admin-0000")).status == 404
