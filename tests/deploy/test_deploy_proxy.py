"""conf/nginx.conf and conf/Caddyfile: a stream goes through as it comes, and a stranger is told."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.pages import CONF
from tests.e2e.running import KEY, closed_port, running, served, until
from tests.kit.docs import ROOT, blocks
from uniapi.codec import JsonObject
from uniapi.config.types import Preferences
from uniapi.demo import Behaviour, Provider
from uniapi.server.connection import IDLE_TIMEOUT

NGINX = (CONF / "nginx.conf").read_text()
CADDY = (CONF / "Caddyfile").read_text()
TLS = ROOT / "tests" / "fixtures" / "tls"
ASK: JsonObject = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}

_MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/uniapi.conf;
}}
"""
_CONFIG = """
providers:
  - provider: a
    base_url: http://127.0.0.1:{port}/v1/chat/completions
    api: sk-up-0000
    model: [m]
  - provider: b
    base_url: http://127.0.0.1:{other}/v1/chat/completions
    api: sk-up-1111
    model: [endless]
api_keys:
  - api: {key}
    role: admin
"""


_LIVE = "/etc/letsencrypt/live/llm.example.com"


def tool() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("there is no nginx")
    return found


def prepared(folder: Path, *, gateway: int, http: int, https: int) -> list[str]:
    """The file as a reader would change it, and the command that takes it."""
    text = NGINX
    for old, new in (
        # In quotes: a checkout may be in a folder with a blank in its name.
        (f"{_LIVE}/fullchain.pem", f'"{TLS / "localhost.pem"}"'),
        (f"{_LIVE}/privkey.pem", f'"{TLS / "localhost.key"}"'),
        ("llm.example.com", "localhost"),
        ("127.0.0.1:8000", f"127.0.0.1:{gateway}"),
        ("listen 80;", f"listen {http};"),
        ("listen 443 ", f"listen {https} "),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)  # not every machine has it
    (folder / "uniapi.conf").write_text(text)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    return [tool(), "-p", str(folder), "-c", str(folder / "nginx.conf")]


@dataclass
class Site:
    """Two providers, the gateway, and nginx in front.

    Attributes:
        endless: it would talk for an hour and a half, a token every half second.
    """

    endless: Provider
    http: int
    https: int
    gateway: str

    @contextmanager
    def client(self, *, http2: bool = False) -> Iterator[httpx.Client]:
        trust = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        with httpx.Client(
            base_url=f"https://localhost:{self.https}",
            verify=trust,
            http2=http2,
            trust_env=False,
            timeout=10,
            headers={"authorization": f"Bearer {KEY}"},
        ) as client:
            yield client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    endless = Provider(Behaviour(gap=0.5, tokens=10_000))
    with served([Provider(Behaviour()), endless]) as (port, other):
        config = folder / "api.yaml"
        config.write_text(_CONFIG.format(port=port, other=other, key=KEY))
        config.chmod(0o600)
        env = {"DISABLE_DATABASE": "true"}
        with running(folder, "--port", "0", "--host", "127.0.0.1", env=env) as process:
            http, https = closed_port(), closed_port()
            command = prepared(folder, gateway=process.port, http=http, https=https)
            nginx = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - its own file
            try:
                until(lambda: connects(https) or nginx.poll() is not None, "nginx listens")
                assert nginx.poll() is None, nginx.communicate()[1]
                yield Site(endless, http, https, process.url)
            finally:
                nginx.kill()
                nginx.communicate()


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nginx_takes_the_file(tmp_path: Path) -> None:
    command = prepared(tmp_path, gateway=8000, http=closed_port(), https=closed_port())
    done = subprocess.run(  # noqa: S603 - its own file
        [*command, "-t"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "[warn]" in line or "[emerg]" in line]
    # Newer ones would have `http2 on;`, which older ones do not know.
    assert [line for line in said if "http2" not in line] == []


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_stream_comes_whole(site: Site, *, http2: bool) -> None:
    with site.client(http2=http2) as client:
        answer = client.post("/v1/chat/completions", json=ASK)
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_the_first_token_is_there_long_before_the_last_and_who_leaves_then_is_left(
    site: Site, *, http2: bool
) -> None:
    with (
        site.client(http2=http2) as client,
        client.stream("POST", "/v1/chat/completions", json={**ASK, "model": "endless"}) as answer,
    ):
        begun = time.perf_counter()
        parts = answer.iter_raw()  # to be held: when it is collected httpx hangs up
        assert next(parts)
        # A buffer between would be full, at 4 KB, after twenty tokens.
        assert time.perf_counter() - begun < 5
        assert site.endless.active == 1
    until(lambda: site.endless.active == 0, "the provider is hung up on")


def test_a_picture_goes_in_and_what_is_too_large_does_not(site: Site) -> None:
    with site.client() as client:
        picture = {**ASK, "stream": False, "user": "x" * 3_000_000}
        assert client.post("/v1/chat/completions", json=picture).status_code == 200
        huge = client.post("/v1/chat/completions", content=b" " * (33 * 1024 * 1024))
        assert huge.status_code == 413


def test_a_stranger_is_no_neighbour(site: Site) -> None:
    assert httpx.get(f"{site.gateway}/metrics", trust_env=False).status_code == 200
    with site.client() as client:
        assert client.get("/metrics", headers={"authorization": ""}).status_code == 401
        assert client.get("/metrics").status_code == 200


def test_plain_http_is_sent_to_https(site: Site) -> None:
    answer = httpx.get(f"http://127.0.0.1:{site.http}/v1/models?a=b", trust_env=False)
    assert answer.status_code == 301
    assert answer.headers["location"] == "https://127.0.0.1/v1/models?a=b"


def test_nginx_gives_a_kept_connection_up_before_the_gateway_does() -> None:
    assert IDLE_TIMEOUT > 60, "nginx's keepalive_timeout of an upstream, when nothing is said"
    assert "keepalive_timeout" not in NGINX


def test_both_take_as_much_as_the_gateway_does() -> None:
    most = Preferences().max_request_body_bytes
    (nginx,) = re.findall(r"client_max_body_size (\d+)m;", NGINX)
    (caddy,) = re.findall(r"max_size (\d+)MiB", CADDY)
    assert most <= int(nginx) * 1024 * 1024 < most + 2_000_000
    assert int(caddy) == int(nginx)


def test_the_caddyfile_is_well_formed_and_passes_tokens_on() -> None:
    """Caddy itself is not here: what can be said of the text alone."""
    depth = 0
    for number, line in enumerate(CADDY.splitlines(), start=1):
        bare = line.split("#")[0].rstrip()
        depth -= bare.endswith("}")
        assert depth >= 0, number
        assert line == "" or line.startswith("#") or line == "\t" * depth + line.lstrip("\t"), (
            number
        )
        depth += bare.endswith("{")
        assert bare.count("{") + bare.count("}") <= 1, number
    assert depth == 0
    assert re.search(r"reverse_proxy 127\.0\.0\.1:8000 \{[^}]*flush_interval -1\n", CADDY)
    (kept,) = re.findall(r"keepalive (\d+)s", CADDY)
    assert int(kept) < IDLE_TIMEOUT


def test_the_page_shows_what_the_files_say() -> None:
    shown = {block.language: block.text for block in blocks("conf/proxy.md")}
    for directive in re.findall(r"^ *(\w+) ", shown["nginx"], re.MULTILINE):
        assert directive in NGINX
    for line in shown["nginx"].splitlines():
        assert line.strip() in NGINX
    for line in shown["caddy"].splitlines():
        assert line.strip() in CADDY
