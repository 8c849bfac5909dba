"""The official openai SDK at the endpoints other than chat, against the gateway as a process."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import openai
import pytest
import trio

from tests.e2e.running import KEY, running
from tests.kit.replies import Asked, Fake, Reply, said
from uniapi.codec import Json

PNG = base64.b64encode(b"\x89PNG").decode()
SOUND = bytes(range(256)) * 400
PAINTED = b"".join(
    b'event: %b\ndata: {"type":"%b","b64_json":"QUJD","created_at":1,"size":"auto","quality":"low",'
    b'"background":"auto","output_format":"png","partial_image_index":0}\n\n' % (name, name)
    for name in (b"image_generation.partial_image", b"image_generation.completed")
)


def transcript(asked: Asked) -> Reply:
    """In the format that was asked for, with what was heard."""
    heard = SOUND in asked.body and b"\r\nwhisper-up\r\n" in asked.body
    text = "Grüße" if heard else "nothing"
    if b"\r\nsrt\r\n" in asked.body:
        return Reply(f"1\n{text}\n".encode(), "text/plain; charset=utf-8")
    return said({"text": text})


def painting(asked: Asked) -> Reply:
    if b'"stream":true' in asked.body:
        return Reply(kind="text/event-stream", pieces=[(0.0, PAINTED)])
    return said({"created": 1, "data": [{"b64_json": PNG}]})


def verdict(asked: Asked) -> Reply:
    scores: Json = {"flagged": b"bad" in asked.body, "categories": {}, "category_scores": {}}
    return said({"id": "1", "model": "omni-moderation-latest", "results": [scores]})


EMBEDDED: Json = {
    "object": "list",
    "model": "e",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}
PROVIDER = Fake(
    {
        "/v1/embeddings": said(EMBEDDED),
        "/v1/moderations": verdict,
        "/v1/images/generations": painting,
        "/v1/images/edits": said({"created": 1, "data": [{"b64_json": PNG}]}),
        "/v1/audio/speech": Reply(SOUND, "audio/flac"),
        "/v1/audio/transcriptions": transcript,
        "/v1beta/models/embedder:batchEmbedContents": said({"embeddings": [{"values": [0.5, 2]}]}),
    }
)
CONFIG = """
providers:
  - provider: one
    base_url: http://127.0.0.1:{port}/v1/chat/completions
    api: sk-one-secret
    model: [embed, whisper-up: whisper, tts, gpt-image, omni-moderation-latest]
  - {{provider: google, base_url: 'http://127.0.0.1:{port}/v1beta', api: g, model: [embedder]}}
api_keys:
  - {{api: {key}}}
  - {{api: {key}-strict, preferences: {{ENABLE_MODERATION: true}}}}
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("relay")
    ready, done = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            listen = partial(trio.serve_tcp, PROVIDER, 0, host="127.0.0.1")
            listeners = await nursery.start(listen)
            ports.append(listeners[0].socket.getsockname()[1])
            ready.set()
            await trio.to_thread.run_sync(done.wait)
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert ready.wait(10)
        config = folder / "api.yaml"
        config.write_text(CONFIG.format(port=ports[0], key=KEY))
        config.chmod(0o600)
        with running(folder, "--port", "0", "--host", "127.0.0.1") as process:
            yield f"{process.url}/v1"
    finally:
        done.set()
        thread.join()


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=KEY, base_url=url, max_retries=0, timeout=10) as made:
        yield made


@pytest.mark.parametrize(("model", "vector"), [("embed", [0.5, -1.0]), ("embedder", [0.5, 2.0])])
def test_embeddings(model: str, vector: list[float], client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=model, input="x")
    assert answer.data[0].embedding == vector


def test_moderations(client: openai.OpenAI) -> None:
    assert client.moderations.create(input="bad").results[0].flagged
    assert not client.moderations.create(input="good").results[0].flagged


def test_pictures(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="gpt-image", prompt="p")
    assert answer.data is not None
    assert answer.data[0].b64_json == PNG
    edited = client.images.edit(model="gpt-image", prompt="p", image=[b"one", b"two"])
    assert edited.data is not None
    assert edited.data[0].b64_json == PNG
    assert PROVIDER.requests[-1].body.count(b'name="image[]"') == 2


def test_pictures_as_they_are_painted(client: openai.OpenAI) -> None:
    events = list(client.images.generate(model="gpt-image", prompt="p", stream=True))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]


def test_speech(client: openai.OpenAI) -> None:
    spoken = client.audio.speech.create(model="tts", voice="alloy", input="x")
    assert spoken.content == SOUND
    assert spoken.response.headers["content-type"] == "audio/flac"


def test_transcripts(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(model="whisper", file=("a.mp3", SOUND))
    assert answer.text == "Grüße"
    titles = client.audio.transcriptions.create(
        model="whisper", file=("a.mp3", SOUND), response_format="srt"
    )
    assert titles == "1\nGrüße\n"


def test_a_moderated_key(url: str) -> None:
    with openai.OpenAI(api_key=f"{KEY}-strict", base_url=url, max_retries=0) as client:
        assert client.embeddings.create(model="embed", input="good").data
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="embed", input="bad")
    assert caught.value.code == "content_policy_violation"
    assert caught.value.param == "input"
