"""The rule grammar against a catalogue."""

from __future__ import annotations

from uniapi.config.targets import AnyProvider, Everything, NestedKey, OneProvider, Rule, Target
from uniapi.config.types import ClientKey, Config, ModelName, Provider, Secret
from uniapi.routing.match import Group, Node, expand, leaves, pending, visible_models
from uniapi.state import State


def named(*names: str) -> tuple[ModelName, ...]:
    return tuple(ModelName(name, name) for name in names)


def key(*rules: Target | Rule, name: str = "sk-outer") -> ClientKey:
    return ClientKey(
        Secret(name),
        tuple(rule if isinstance(rule, Rule) else Rule(rule) for rule in rules),
    )


OPENAI = Provider("openai", models=named("gpt-4o", "o3"))
AZURE = Provider("azure", models=(ModelName("deployment-7", "gpt-4o"),))
OTHER = Provider("other", models=named("anthropic/claude", "gpt-4o"))
ANTHROPIC = Provider("anthropic", models=named("claude"))
LAZY = Provider("lazy")
PROVIDERS = (OPENAI, AZURE, OTHER, ANTHROPIC, LAZY)


def labels(nodes: tuple[Node, ...]) -> list[str]:
    return [channel.label for channel in leaves(nodes)]


def routed(client: ClientKey, model: str, state: State | None = None) -> list[str]:
    config = Config(PROVIDERS, (client,))
    return labels(expand(config, state or State(), client, model))


def test_all_is_every_provider_in_file_order() -> None:
    assert routed(key(Everything()), "gpt-4o") == [
        "openai/gpt-4o",
        "azure/deployment-7",
        "other/gpt-4o",
    ]


def test_a_bare_name_is_whoever_has_exactly_it() -> None:
    client = key(AnyProvider("gpt-4o"))
    assert len(routed(client, "gpt-4o")) == 3
    assert routed(client, "o3") == []
    assert routed(client, "GPT-4o") == []
    assert routed(client, "gpt-4") == []


def test_a_renamed_model_answers_to_its_new_name_only() -> None:
    client = key(OneProvider("azure"))
    assert routed(client, "gpt-4o") == ["azure/deployment-7"]
    assert routed(client, "deployment-7") == []


def test_a_provider_rule_and_an_angle_rule_do_not_meet() -> None:
    assert routed(key(OneProvider("anthropic", "claude")), "anthropic/claude") == []
    assert routed(key(OneProvider("anthropic", "claude")), "claude") == ["anthropic/claude"]
    angle = key(AnyProvider("anthropic/claude"))
    assert routed(angle, "anthropic/claude") == ["other/anthropic/claude"]
    assert routed(angle, "claude") == []


def test_rules_order_channels_and_the_file_orders_within_a_rule() -> None:
    client = key(OneProvider("other"), AnyProvider("gpt-4o"))
    assert routed(client, "gpt-4o") == ["other/gpt-4o", "openai/gpt-4o", "azure/deployment-7"]


def test_a_channel_counts_once_with_the_first_weight_given() -> None:
    client = key(
        AnyProvider("gpt-4o"),
        Rule(OneProvider("other"), weight=5),
        Rule(OneProvider("other", "gpt-4o"), weight=9),
    )
    nodes = expand(Config(PROVIDERS, (client,)), State(), client, "gpt-4o")
    assert [(node.id, node.weight) for node in nodes] == [
        (("openai", "gpt-4o"), None),
        (("azure", "deployment-7"), None),
        (("other", "gpt-4o"), 5),
    ]


def test_an_unknown_provider_or_key_gives_nothing() -> None:
    assert routed(key(OneProvider("nobody")), "gpt-4o") == []
    assert routed(key(NestedKey("feedfeedfeed")), "gpt-4o") == []


def test_an_explicit_rule_holds_until_the_listing_disproves_it() -> None:
    state = State()
    client = key(OneProvider("lazy", "new-model"))
    assert routed(client, "new-model", state) == ["lazy/new-model"]
    state.discovery_failed("lazy", "401")
    assert routed(client, "new-model", state) == ["lazy/new-model"]
    state.discovered("lazy", named("something-else"))
    assert routed(client, "new-model", state) == []
    state.discovered("lazy", named("new-model"))
    assert routed(client, "new-model", state) == ["lazy/new-model"]
    state.discovery_failed("lazy", "refresh timed out")
    assert routed(client, "new-model", state) == ["lazy/new-model"]


def test_a_configured_list_is_no_promise() -> None:
    assert routed(key(OneProvider("openai", "gpt-9")), "gpt-9") == []


def test_wildcards_need_the_listing() -> None:
    state = State()
    for client in (key(OneProvider("lazy")), key(Everything()), key(AnyProvider("new"))):
        assert routed(client, "new", state) == []
    state.discovered("lazy", named("new"))
    for client in (key(OneProvider("lazy")), key(Everything()), key(AnyProvider("new"))):
        assert routed(client, "new", state) == ["lazy/new"]


def test_a_nested_key_is_one_unit_with_its_own_channels() -> None:
    inner = key(OneProvider("azure"), OneProvider("openai"), name="sk-inner")
    client = key(Rule(NestedKey(inner.id), weight=3), AnyProvider("gpt-4o"))
    config = Config(PROVIDERS, (client, inner))
    nodes = expand(config, State(), client, "gpt-4o")
    group = nodes[0]
    assert isinstance(group, Group)
    assert (group.key, group.weight, group.id) == (inner, 3, (inner.id,))
    assert labels(group.nodes) == ["azure/deployment-7", "openai/gpt-4o"]
    assert len(nodes) == 4


def test_a_nested_key_gives_only_what_it_has_and_only_the_model_named() -> None:
    inner = key(OneProvider("openai"), name="sk-inner")
    one = key(NestedKey(inner.id, "o3"))
    config = Config(PROVIDERS, (one, inner))
    assert labels(expand(config, State(), one, "o3")) == ["openai/o3"]
    assert expand(config, State(), one, "gpt-4o") == ()
    assert expand(config, State(), key(NestedKey(inner.id)), "claude") == ()


def test_keys_in_a_circle_end_somewhere() -> None:
    a, b = Secret("sk-a"), Secret("sk-b")
    first = ClientKey(a, (Rule(NestedKey(b.digest)), Rule(OneProvider("openai"))))
    second = ClientKey(b, (Rule(NestedKey(a.digest)), Rule(OneProvider("azure"))))
    config = Config(PROVIDERS, (first, second))
    assert labels(expand(config, State(), first, "gpt-4o")) == [
        "azure/deployment-7",
        "openai/gpt-4o",
    ]
    assert visible_models(config, State(), first) == ("gpt-4o", "o3")
    assert pending(config, State(), first, "x") == ()


def test_visible_models_are_in_rule_order_each_once_nested_included() -> None:
    inner = key(OneProvider("anthropic"), OneProvider("openai"), name="sk-inner")
    client = key(
        AnyProvider("o3"),
        AnyProvider("nobody-has-this"),
        AnyProvider("anthropic/claude"),
        OneProvider("openai", "gone"),
        OneProvider("lazy", "promised"),
        OneProvider("azure"),
        NestedKey(inner.id),
        OneProvider("nobody"),
    )
    config = Config(PROVIDERS, (client, inner))
    assert visible_models(config, State(), client) == (
        "o3",
        "anthropic/claude",
        "promised",
        "gpt-4o",
        "claude",
    )
    only = key(NestedKey(inner.id, "o3"))
    assert visible_models(config, State(), only) == ("o3",)
    assert visible_models(config, State(), key(Everything())) == (
        "gpt-4o",
        "o3",
        "anthropic/claude",
        "claude",
    )


def test_pending_names_who_may_still_turn_out_to_serve_it() -> None:
    state = State()
    providers = (OPENAI, LAZY, Provider("slow"))
    inner = key(OneProvider("slow"), name="sk-inner")

    def waits(client: ClientKey, model: str = "new") -> tuple[str, ...]:
        return pending(Config(providers, (client, inner)), state, client, model)

    assert waits(key(Everything())) == ("lazy", "slow")
    assert waits(key(AnyProvider("new"))) == ("lazy", "slow")
    assert waits(key(AnyProvider("other"))) == ()
    assert waits(key(OneProvider("slow"), OneProvider("slow", "new"))) == ("slow",)
    assert waits(key(OneProvider("slow", "other"))) == ()
    assert waits(key(NestedKey(inner.id))) == ("slow",)
    assert waits(key(NestedKey(inner.id, "other"))) == ()
    state.discovery_failed("slow", "no")
    state.discovered("lazy", ())
    assert waits(key(Everything())) == ()
