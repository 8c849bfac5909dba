"""One engine speaks to each provider, and a new provider is one file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.kit.world import KEY, World, config_of
from uniapi import codec, engines
from uniapi.codec import Json
from uniapi.config.providers import ENGINES as NAMES
from uniapi.config.read import read
from uniapi.config.types import Provider, Secret
from uniapi.demo.http1 import Connection, Message
from uniapi.engines import registry
from uniapi.engines.anthropic import Anthropic
from uniapi.engines.openai import OpenAI

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "tests/fixtures/config").glob("*.yaml")), ROOT / "conf/api.example.yaml"]

# Of each provider entry in the files above; a Vertex entry is asked about each model it lists.
SPOKEN = {
    "seed_advanced.yaml": {
        "provider_name": {"gpt"},
        "anthropic": {"claude"},
        "gemini": {"gemini"},
        "vertex": {"vertex-gemini", "vertex-claude"},
        "cloudflare": {"cloudflare"},
        "other-provider": {"openrouter"},
    },
    "seed_minimal.yaml": {"provider_name": {"gpt"}},
    "api.example.yaml": {
        "openai": {"gpt"},
        "anthropic": {"claude"},
        "vertex": {"vertex-gemini"},
        "cloudflare": {"cloudflare"},
        "azure": {"azure"},
        "bedrock": {"aws"},
        "other": {"gpt"},
    },
}
VERTEX = "https://aiplatform.googleapis.com"
ADDRESSES = [
    ("https://api.openai.com/v1/chat/completions", "gpt"),
    ("https://api.openai.com/v1", "gpt"),
    ("http://localhost:11434", "gpt"),
    ("http://192.168.1.7:8000/v1/chat/completions", "gpt"),
    ("https://api.example.com/openai/v1/chat/completions", "gpt"),
    ("https://api.example.com/api/v1/chat/completions", "gpt"),
    ("https://api.deepseek.com/chat/completions", "gpt"),
    ("https://api.mistral.ai/v1/chat/completions", "gpt"),
    ("https://api.x.ai/v1/chat/completions", "gpt"),
    ("https://api.perplexity.ai/chat/completions", "gpt"),
    ("https://models.inference.ai.azure.com/chat/completions", "gpt"),
    ("https://models.inference.ai.azure.com", "gpt"),
    ("https://models.github.ai/inference/chat/completions", "gpt"),
    ("https://api.cohere.com/compatibility/v1", "gpt"),
    ("https://api.cohere.com/compatibility/v1/chat/completions", "gpt"),
    ("https://api.anthropic.com/v1/chat/completions", "claude"),  # its host alone says enough
    ("https://generativelanguage.googleapis.com/v1beta/openai", "gpt"),
    ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "gpt"),
    ("https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1/chat/completions", "gpt"),
    ("https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1", "gpt"),
    (f"{VERTEX}/v1/projects/p/locations/global/endpoints/openapi/chat/completions", "gpt"),
    ("https://api.anthropic.com/v1/messages", "claude"),
    ("https://api.anthropic.com", "claude"),
    ("https://proxy.example/v1/messages", "claude"),
    ("https://api.deepseek.com/anthropic", "claude"),
    ("https://generativelanguage.googleapis.com/v1beta", "gemini"),
    ("https://generativelanguage.googleapis.com/v1", "gemini"),
    ("https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro", "gemini"),
    ("https://proxy.example/v1beta", "gemini"),
    ("https://api.cohere.com/v2/chat", "cohere"),
    ("https://api.cohere.com/v1/chat", "cohere"),
    ("https://api.cohere.ai", "cohere"),
    ("https://proxy.example/v2/chat", "cohere"),
    ("https://api.groq.com/openai/v1/chat/completions", "groq"),
    ("https://openrouter.ai/api/v1/chat/completions", "openrouter"),
    ("https://api.cloudflare.com/client/v4/accounts/a/ai/v1/chat/completions", "cloudflare"),
    ("https://my.openai.azure.com", "azure"),
    ("https://my.openai.azure.com/openai/v1/chat/completions", "azure"),
    ("https://my.services.ai.azure.com/models/chat/completions", "azure"),
    ("https://my.cognitiveservices.azure.com/", "azure"),
    ("https://bedrock-runtime.us-east-1.amazonaws.com", "aws"),
    ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "aws"),
    (VERTEX, "vertex-gemini"),
    ("https://us-central1-aiplatform.googleapis.com/v1", "vertex-gemini"),
    ("https://gateway.ai.cloudflare.com/v1/acct/gw/google-vertex-ai", "vertex-gemini"),
]
ZIPPED = """
import sys
sys.path.insert(0, sys.argv[1])
from uniapi.engines import registry
print(registry.__file__)
print(*[type(engine).__name__ for engine in registry.ENGINES])
"""
MODELS = ("gpt-4o", "gemini-2.5-pro", "command-r", "llama-3", "")


def winner(provider: Provider, upstream: str) -> str:
    """The engine with the strongest claim, which no other shares, and which is the one chosen."""
    claims = {engine.names[0]: engine.claims(provider, upstream) for engine in registry.ENGINES}
    best = max(claims.values())
    assert best > 0, f"nobody claims {provider.base_url}"
    (only,) = [name for name, claim in claims.items() if claim == best]
    chosen = registry.engine_for(provider, upstream)
    assert chosen is not None
    assert chosen.names[0] == only
    return only


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_one_engine_claims_each_provider_of_the_files_people_start_from(path: Path) -> None:
    report = read(path.read_text(), name=path.name, env={})
    assert report.config is not None
    wanted = SPOKEN.get(path.name)
    for provider in report.config.providers:
        names = [model.upstream for model in provider.models or ()] or ["anything"]
        if provider.engine is None:
            found = {winner(provider, name) for name in names}
        else:
            chosen = [registry.engine_for(provider, name) for name in names]
            found = {engine.names[0] for engine in chosen if engine is not None}
            assert None not in chosen
        if wanted is not None:
            assert found == wanted[provider.name], provider.name
    if wanted is not None:
        assert {provider.name for provider in report.config.providers} == set(wanted)


def test_a_vertex_provider_goes_by_the_model() -> None:
    text = (ROOT / "tests/fixtures/config/seed_advanced.yaml").read_text()
    report = read(text, name="api.yaml", env={})
    assert report.config is not None
    (vertex,) = [p for p in report.config.providers if p.name == "vertex"]
    for model in vertex.models or ():
        expected = "vertex-claude" if model.upstream.startswith("claude") else "vertex-gemini"
        assert winner(vertex, model.upstream) == expected


@pytest.mark.parametrize(("base_url", "name"), ADDRESSES)
def test_one_engine_claims_each_address_whatever_the_model(base_url: str, name: str) -> None:
    provider = Provider("p", base_url=base_url)
    assert {winner(provider, model) for model in MODELS} == {name}
    pair = {"vertex-gemini": "vertex-claude"}
    assert winner(provider, "claude-sonnet-4-5") == pair.get(name, name)


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        (Provider("p", project_id="proj"), "vertex-gemini"),
        (Provider("p", project_id="proj", base_url="https://proxy.example"), "vertex-gemini"),
        (Provider("p", keys=(Secret("AQ.express"),)), "vertex-gemini"),
        (Provider("p", cf_account_id="acc"), "cloudflare"),
        (Provider("p", cf_account_id="acc", base_url="https://proxy.example/x"), "cloudflare"),
        (Provider("p", aws_access_key=Secret("A"), aws_secret_key=Secret("S")), "aws"),
        (Provider("p", aws_access_key=Secret("A"), base_url="https://vpce.example"), "aws"),
    ],
    ids=["project", "project-proxy", "express", "account", "account-proxy", "aws", "aws-proxy"],
)
def test_credentials_claim_where_there_is_no_telling_address(provider: Provider, name: str) -> None:
    assert winner(provider, "some-model") == name


def test_the_config_and_the_engines_have_the_same_names() -> None:
    assert {engine.names[0] for engine in registry.ENGINES} | {"vertex"} == set(NAMES)


@pytest.mark.parametrize(
    ("written", "upstream", "name"),
    [
        ("openai", "m", "gpt"),
        ("anthropic", "m", "claude"),
        ("bedrock", "m", "aws"),
        ("vertex", "gemini-2.5-pro", "vertex-gemini"),
        ("vertex", "claude-sonnet-4-5@20250929", "vertex-claude"),
        *[(name, "m", name) for name in NAMES if name != "vertex"],
    ],
)
def test_every_name_a_config_may_write_has_its_engine(
    written: str, upstream: str, name: str
) -> None:
    config = config_of(
        f"providers: [{{provider: p, engine: {written}, base_url: 'https://x.example', api: k}}]\n"
        f"api_keys: [{{api: {KEY}}}]"
    )
    engine = registry.engine_for(config.providers[0], upstream)
    assert engine is not None
    assert engine.names[0] == name


def test_an_unknown_name_is_nobody() -> None:
    assert registry.engine_for(Provider("p", engine="telepathy"), "m") is None
    assert registry.engine_for(Provider("p"), "m") is None


def test_a_provider_of_two_publishers_has_two_engines_and_any_other_one() -> None:
    def names(provider: Provider) -> list[str]:
        return [engine.names[0] for engine in registry.engines_for(provider)]

    assert names(Provider("p", project_id="proj")) == ["vertex-gemini", "vertex-claude"]
    assert names(Provider("p", engine="vertex")) == ["vertex-gemini", "vertex-claude"]
    assert names(Provider("p", engine="vertex-claude")) == ["vertex-claude"]
    assert names(Provider("p", base_url="https://api.anthropic.com/v1/messages")) == ["claude"]
    assert names(Provider("p")) == []


def test_the_engines_are_always_in_one_order() -> None:
    modules = [type(engine).__module__ for engine in registry.ENGINES]
    assert modules == sorted(modules)
    again = [type(engine) for engine in registry.collected()]
    assert again == [type(engine) for engine in registry.ENGINES]


def test_they_are_found_in_a_zip_too(tmp_path: Path) -> None:
    archive = tmp_path / "uniapi.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted((ROOT / "uniapi").rglob("*.py")):
            made.write(path, path.relative_to(ROOT))
    told = subprocess.run(  # noqa: S603 - ourselves
        [
            sys.executable,
            "-c",
            ZIPPED,
            str(archive),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    place, names = told.stdout.splitlines()
    assert place.startswith(str(archive))
    assert names.split() == [type(engine).__name__ for engine in registry.ENGINES]


def test_two_engines_of_one_name_are_an_error() -> None:
    class Copycat(Anthropic):
        names = ("mine", "anthropic")

    with pytest.raises(ValueError, match=r"'anthropic'.*anthropic\.Anthropic.*Copycat"):
        registry.by_name([Anthropic(), Copycat()])


# ---- One file is a provider ---------------------------------------------------------------------

MADE_UP = '''
"""The Parrot of parrot.example: it says what it hears, a word a line."""

from uniapi import codec
from uniapi.engines import failures
from uniapi.engines.base import Call, Engine
from uniapi.engines.openai import bearer, headers
from uniapi.engines.urls import host_of
from uniapi.errors import Failure, Kind
from uniapi.events import Batch, Finish, Start, StreamFailed, Text


class Parrot(Engine):
    names = ("parrot",)

    def claims(self, provider, upstream):
        return 3 if host_of(provider) == "parrot.example" else 0

    def encode(self, chat, to):
        body = {"hear": chat.fields["messages"][-1]["content"], "bird": to.channel.upstream}
        made = headers(to.channel.provider, bearer(to.key), to.passed)
        url = to.channel.provider.base_url + "/hear"
        return Call("POST", url, made, codec.dumps(body), "sse" if chat.stream else "json")

    def decoder(self, chat, framing, default):
        return Decoder(default)

    def failure(self, status, headers, body):
        return failures.refused(status, headers, body)

    def catalogue(self, to):
        provider = to.channel.provider
        return Call("GET", provider.base_url + "/birds", headers(provider, ()))

    def models(self, body):
        return tuple(codec.loads(body)["birds"])


class Decoder:
    def __init__(self, default):
        self.begun, self.over, self.default = False, False, default

    def feed(self, frames):
        events = [] if self.begun else [self.default]
        self.begun = True
        for frame in frames:
            said = codec.loads(frame)
            events.append(Text(said["squawk"]))
            if said["over"]:
                self.over = True
                events.append(Finish("stop"))
        return Batch(tuple(events))

    def finished(self):
        return self.over

    def complete(self):
        return self.over

    def end(self):
        cut = Failure(Kind.RESET, "the parrot flew away", 502)
        return Batch(() if self.over else (StreamFailed(cut),))
'''


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file in a folder of its own, on the path of the package of engines."""
    (tmp_path / "parrot.py").write_text(MADE_UP)
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "ENGINES", registry.collected())
    yield
    del sys.modules["uniapi.engines.parrot"]


def squawks(message: Message) -> tuple[bytes, bytes]:
    """The Parrot's answer to a request: its content type, its body."""
    if message.method == "GET":
        return b"application/json", codec.dumps({"birds": ["polly", "jack"]})
    assert message.path == "/hear"
    assert message.headers["authorization"] == "Bearer seed"
    match codec.loads(message.body):
        case {"hear": str(heard), "bird": str(bird), **more} if not more:
            words = f"{bird}: {heard}".split(" ")
        case other:
            raise AssertionError(other)
    said = [
        codec.dumps({"squawk": word + end, "over": not end})
        for word, end in zip(words, [" "] * (len(words) - 1) + [""], strict=True)
    ]
    if b"whole" in message.body:
        return b"application/json", codec.dumps({"squawk": " ".join(words), "over": True})
    return b"text/event-stream", b"".join(b"data: " + line + b"\n\n" for line in said)


async def parrot(stream: trio.abc.Stream) -> None:
    connection = Connection(stream)
    while (message := await connection.request()) is not None:
        kind, body = squawks(message)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
        await stream.send_all(head % (kind, len(body)) + body)


CONFIG = f"""
providers:
  - provider: bird
    base_url: https://parrot.example
    api: seed
api_keys:
  - api: {KEY}
"""


async def test_a_made_up_provider_needs_its_file_and_nothing_else(
    made_up: None, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.network.servers["parrot.example"] = parrot
    world.start(CONFIG)
    world.nursery.start_soon(world.gateway.discovery.run)
    asked: Json = [{"role": "user", "content": "hello there sailor"}]
    heard = await world.ask(model="polly", messages=asked)
    assert (heard.status, heard.text()) == (200, "polly: hello there sailor")
    assert heard.events()[-1] == b"[DONE]"
    whole: Json = [{"role": "user", "content": "whole"}]
    answer: Json = (await world.ask(model="jack", messages=whole, stream=False)).json()
    match answer:
        case {"choices": [{"message": {"content": str(content)}, "finish_reason": str(reason)}]}:
            assert (content, reason) == ("jack: whole", "stop")
        case other:
            raise AssertionError(other)


def test_without_its_file_nobody_claims_it_but_the_common_dialect() -> None:
    engine = registry.engine_for(Provider("p", base_url="https://parrot.example"), "polly")
    assert isinstance(engine, OpenAI)
