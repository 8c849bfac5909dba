"""Where the text comes from: precedence, caps, a total deadline, the last good copy."""

from __future__ import annotations

import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.kit.serving import serving
from uniapi import __version__
from uniapi.config import fetch as fetching
from uniapi.config.fetch import Validators
from uniapi.config.source import (
    FileSource,
    Loaded,
    SourceError,
    UnavailableError,
    UrlSource,
    find,
    last_good,
    load,
    load_newer,
    remember,
)

PASSWORD = "Zq8vT3nLw0pXr5bK"


@dataclass
class Site:
    """An HTTP server on loopback whose every answer is a function."""

    port: int = 0
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/api.yaml") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def body(self, data: bytes, status: int = 200, **headers: str) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

        self.answer = answer


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        found.requests.append((handler.path, headers))
        found.answer(handler)

    with serving(answer) as found.port:
        yield found
        found.done.set()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def failure(site: Site, env: dict[str, str], url: str | None = None, seconds: float = 5) -> str:
    with pytest.raises(SourceError) as caught:
        load(UrlSource(url or site.url()), env, seconds=seconds)
    assert caught.value.problem.line >= 1
    return str(caught.value)


# ---- which source ----------------------------------------------------------------------------


def test_an_argument_comes_before_the_file_and_the_file_before_the_address(tmp_path: Path) -> None:
    env = {"CONFIG_URL": "https://h/c.yaml"}
    (tmp_path / "api.yaml").write_text("a: 1")
    assert find("other.yaml", env, tmp_path) == FileSource(tmp_path / "other.yaml", "other.yaml")
    assert find(None, env, tmp_path) == FileSource(tmp_path / "api.yaml", "api.yaml")
    (tmp_path / "api.yaml").unlink()
    assert find(None, env, tmp_path) == UrlSource("https://h/c.yaml")
    assert find(None, {}, tmp_path) is None
    assert find(None, {"CONFIG_URL": " "}, tmp_path) is None


def test_an_empty_file_gives_way_to_the_address_but_not_to_the_demo(tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text("")
    assert find(None, {"CONFIG_URL": "https://h/c"}, tmp_path) == UrlSource("https://h/c")
    assert find(None, {}, tmp_path) == FileSource(tmp_path / "api.yaml", "api.yaml")


def test_a_folder_in_place_of_the_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "api.yaml").mkdir()
    assert find(None, {"CONFIG_URL": "https://h/c"}, tmp_path) == UrlSource("https://h/c")
    source = find(None, {}, tmp_path)
    assert source is not None
    with pytest.raises(SourceError, match="this is a folder"):
        load(source, {})


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("conf/a.yaml", "{cwd}/conf/a.yaml"),
        ("/etc/a.yaml", "/etc/a.yaml"),
        ("file:///etc/a%20b.yaml", "/etc/a b.yaml"),
    ],
)
def test_the_address_may_be_a_path(tmp_path: Path, address: str, path: str) -> None:
    source = find(None, {"CONFIG_URL": address}, tmp_path)
    assert isinstance(source, FileSource)
    assert source.path == Path(path.format(cwd=tmp_path))


@pytest.mark.parametrize("address", ["ftp://h/x", "http://", "http://[x", "https://h:99999/"])
def test_an_address_that_is_none_is_an_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(SourceError, match="CONFIG_URL"):
        find(None, {"CONFIG_URL": address}, tmp_path)
    with pytest.raises(SourceError, match="argument") as caught:
        find(address, {"CONFIG_URL": "https://h/c.yaml"}, tmp_path)
    assert "CONFIG_URL" not in str(caught.value), "that one is well"


# ---- files -----------------------------------------------------------------------------------


def test_a_file_comes_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\n")
    path.chmod(0o640)
    assert load(FileSource(path, "a.yaml"), {}) == Loaded("a: \xe9\n", "a.yaml", 0o640)


@pytest.mark.parametrize(
    ("data", "what", "line"),
    [
        (b"a: 1\nb: \xff\n", "not UTF-8", 2),
        ("a: 1\n".encode("utf-16"), "UTF-16", 1),
        (b"#" * 1_000_001, "larger than 1 MB", 1),
    ],
)
def test_a_file_that_is_no_text_is_an_error(
    tmp_path: Path, data: bytes, what: str, line: int
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=what) as caught:
        load(FileSource(path, "a.yaml"), {})
    assert caught.value.problem.line == line


@pytest.mark.parametrize(("name", "what"), [("none.yaml", "no such file"), ("a\0b", "cannot be")])
def test_a_missing_file_is_an_error(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(SourceError, match=what):
        load(FileSource(tmp_path / name, name), {})


# ---- addresses -------------------------------------------------------------------------------


def test_an_address_is_fetched(site: Site, env: dict[str, str]) -> None:
    site.body(b"a: 1\n")
    loaded = load(UrlSource(site.url("/x/api.yaml?token=1")), env)
    assert loaded == Loaded("a: 1\n", f"http://127.0.0.1:{site.port}/…/api.yaml")
    ((path, headers),) = site.requests
    assert path == "/x/api.yaml?token=1"
    assert headers["user-agent"] == f"uniapi/{__version__}"


def test_userinfo_is_sent_as_authorization_and_never_shown(site: Site, env: dict[str, str]) -> None:
    site.body(b"", 401)
    url = f"http://me:{PASSWORD}@127.0.0.1:{site.port}/{PASSWORD}/api.yaml?key={PASSWORD}"
    message = failure(site, env, url)
    assert "it answers 401" in message
    assert PASSWORD not in message
    assert PASSWORD not in repr(UrlSource(url))
    ((_, headers),) = site.requests
    assert headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://h/api.yaml", "https://h/api.yaml"),
        ("https://h", "https://h/"),
        ("https://h:8443/api.yaml", "https://h:8443/api.yaml"),
        ("https://me:pw@h:8443/a/b/api.yaml?k=v#f", "https://h:8443/…/api.yaml"),
        ("http://me:p@w@[::1]:8080/api.yaml", "http://[::1]:8080/api.yaml"),
        ("http://[::1]/", "http://[::1]/"),
    ],
)
def test_an_address_is_told_by_host_port_and_last_segment(address: str, shown: str) -> None:
    assert UrlSource(address).name == shown


@pytest.mark.parametrize("status", [204, 404, 500])
def test_a_status_other_than_200_is_an_error(site: Site, env: dict[str, str], status: int) -> None:
    site.body(b"", status)
    assert f"it answers {status}" in failure(site, env)


def test_a_body_over_1_mb_is_an_error(site: Site, env: dict[str, str]) -> None:
    site.body(b"#" * 1_000_001)
    assert "larger than 1 MB" in failure(site, env)


def test_a_body_that_is_cut_short_is_an_error(site: Site, env: dict[str, str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        handler.wfile.write(b"a: 1\n")

    site.answer = answer
    assert "cut short" in failure(site, env)


def test_a_body_that_is_no_text_is_an_error(site: Site, env: dict[str, str]) -> None:
    site.body(b"\xff")
    assert "not UTF-8" in failure(site, env)


def trickle(site: Site, head: bytes) -> None:
    """Answer with a byte every 20 ms, for ever: each read is quick, the whole never ends."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        while not site.done.wait(0.02):
            try:
                handler.wfile.write(b"a")
            except OSError:
                return

    site.answer = answer


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: "])
def test_a_byte_at_a_time_does_not_outwit_the_deadline(
    site: Site, env: dict[str, str], head: bytes
) -> None:
    trickle(site, head)
    before = time.monotonic()
    assert "no whole answer within 0.2 s" in failure(site, env, seconds=0.2)
    assert time.monotonic() - before < 10  # it would trickle for ever


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nx: ", id="head"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n", id="body of a length"),
    ],
)
def test_the_thread_left_behind_ends(site: Site, env: dict[str, str], head: bytes) -> None:
    trickle(site, head)
    failure(site, env, seconds=0.1)
    for thread in threading.enumerate():
        if thread.name == "config-fetch":
            thread.join(2)
            assert not thread.is_alive()


def test_a_redirect_on_the_same_host_is_followed(site: Site, env: dict[str, str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/api.yaml":
            handler.send_response(302)
            handler.send_header("location", "/real.yaml")
            handler.send_header("content-length", "0")
            handler.end_headers()
        else:
            handler.send_response(200)
            handler.send_header("content-length", "4")
            handler.end_headers()
            handler.wfile.write(b"a: 1")

    site.answer = answer
    assert load(UrlSource(site.url()), env).text == "a: 1"


@pytest.mark.parametrize(
    "location", ["http://elsewhere.example/a", "http://127.0.0.1:1/a", "//x/a", "ftp://127.0.0.1/"]
)
def test_a_redirect_to_another_place_is_an_error(
    site: Site, env: dict[str, str], location: str
) -> None:
    site.body(b"", 302, location=location)
    assert "redirects to another host" in failure(site, env)
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("url", "location", "then"),
    [
        ("http://h/a", "https://h/a", "https://h/a"),
        ("https://h/a", "b?c", "https://h/b?c"),
        ("https://me:pw@h/a", "/b", "https://me:pw@h/b"),
        ("https://h/a", "http://h/a", None),
        ("https://h/a", "https://h:444/a", None),
        ("http://h/a", "", None),
    ],
)
def test_a_redirect_may_gain_safety_and_never_lose_it(
    url: str, location: str, then: str | None
) -> None:
    if then is None:
        with pytest.raises(fetching.FetchError):
            fetching._redirect(url, location)
    else:
        assert fetching._redirect(url, location) == then


def test_redirects_in_a_circle_end(site: Site, env: dict[str, str]) -> None:
    site.body(b"", 302, location="/api.yaml")
    assert "more than 5 redirects" in failure(site, env)
    assert len(site.requests) == 6


def test_a_refused_connection_is_an_error(env: dict[str, str], site: Site) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a"
        assert "connection refused" in failure(site, env, url)


def test_what_is_not_http_is_an_error(site: Site, env: dict[str, str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-x\r\n")

    site.answer = answer
    assert "not HTTP" in failure(site, env)


def test_tls_to_a_stranger_is_an_error(site: Site, env: dict[str, str]) -> None:
    message = failure(site, env, f"https://127.0.0.1:{site.port}/a")
    assert "the address cannot be read: TLS with it fails (wrong version number)" in message


def test_a_url_with_a_space_is_an_error(site: Site, env: dict[str, str]) -> None:
    assert "%-encoded" in failure(site, env, site.url("/a b"))


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://h.example/a", True),
        ("http://127.evil.example/a", True),
        ("https://h.example/a", False),
        ("http://127.0.0.1/a", False),
        ("http://[::1]/a", False),
        ("http://localhost/a", False),
    ],
)
def test_plain_http_is_warned_of_unless_on_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str, warned: bool
) -> None:
    answer = fetching.Answer(b"a: 1")
    monkeypatch.setattr("uniapi.config.source.fetch_newer", lambda *_, **__: answer)
    loaded = load(UrlSource(url), {})
    assert [p.line for p in loaded.warnings] == [1] * warned
    assert all("plain http" in p.what for p in loaded.warnings)


# ---- asked again -----------------------------------------------------------------------------

DAY = "Sat, 01 Feb 2025 12:00:{} GMT"


def versioned(site: Site, etag: str = "", modified: str = "", date: str = "") -> None:
    """Answers 304 to whom it knows, as servers do: the tag counts before the time."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        shown = handler.headers.get("if-none-match"), handler.headers.get("if-modified-since")
        same = shown[0] == etag if shown[0] else bool(modified) and shown[1] == modified
        handler.send_response_only(304 if same else 200)
        handler.send_header("date", date or DAY.format("59"))
        for name, value in (("etag", etag), ("last-modified", modified)):
            if value:
                handler.send_header(name, value)
        handler.send_header("content-length", "0" if same else "4")
        handler.end_headers()
        if not same:
            handler.wfile.write(b"a: 1")

    site.answer = answer


@pytest.mark.parametrize(
    ("etag", "modified"),
    [('"v1"', ""), ('W/"v1"', ""), ("", DAY.format("00")), ('"v1"', DAY.format("00"))],
)
def test_what_we_have_is_not_sent_again(site: Site, etag: str, modified: str) -> None:
    source = UrlSource(site.url())
    versioned(site, etag, modified)
    loaded, known = load_newer(source, Validators())
    assert loaded is not None
    assert known == Validators(etag, modified)
    assert load_newer(source, known) == (None, known)
    versioned(site, '"v2"' if etag else "", DAY.format("30") if modified else "")
    loaded, newer = load_newer(source, known)
    assert loaded is not None
    assert newer != known


@pytest.mark.parametrize(
    ("modified", "date"),
    [
        (DAY.format("58"), DAY.format("59")),
        (DAY.format("59"), DAY.format("59")),
        ("yesterday", DAY.format("59")),
        (DAY.format("00"), "today"),
        ("Sat, 01 Feb 2025 12:00:00", DAY.format("59")),
    ],
)
def test_a_time_that_cannot_tell_two_versions_apart_is_not_used(
    site: Site, modified: str, date: str
) -> None:
    versioned(site, modified=modified, date=date)
    assert load_newer(UrlSource(site.url()), Validators())[1] == Validators()


@pytest.mark.parametrize("etag", ['"' + "x" * 2000 + '"', '"\xe9"', '"a\tb"'])
def test_a_tag_that_cannot_be_sent_back_is_not_used(site: Site, etag: str) -> None:
    site.body(b"a: 1", etag=etag)
    assert load_newer(UrlSource(site.url()), Validators())[1] == Validators()


def test_nothing_new_is_no_answer_to_who_has_nothing(site: Site, env: dict[str, str]) -> None:
    site.body(b"", 304)
    assert "it answers 304" in failure(site, env)


def test_a_failing_address_has_no_copy_when_it_is_asked_again(
    site: Site, env: dict[str, str]
) -> None:
    source = UrlSource(site.url())
    remember(source, "a: 1", env)
    site.body(b"", 500)
    with pytest.raises(UnavailableError, match="it answers 500"):
        load_newer(source, Validators())


# ---- the last good copy ----------------------------------------------------------------------


def test_the_last_good_copy_serves_when_the_address_fails(site: Site, env: dict[str, str]) -> None:
    source = UrlSource(site.url())
    site.body(b"a: 1\n")
    assert remember(source, load(source, env).text, env) is None
    site.body(b"", 500)
    loaded = load(source, env)
    assert (loaded.text, loaded.name) == ("a: 1\n", f"{source.name} (last good copy)")
    assert loaded.copy
    (warning,) = loaded.warnings
    assert "it answers 500; the last good copy is used" in warning.what


def test_only_what_is_remembered_is_kept(site: Site, env: dict[str, str]) -> None:
    site.body(b"broken: [")
    source = UrlSource(site.url())
    load(source, env)
    assert last_good(source, env) is None


def test_the_copy_is_for_this_user_alone_and_replaced_whole(env: dict[str, str]) -> None:
    source = UrlSource("https://h/a?secret")
    remember(source, "a: 1", env)
    remember(source, "b: 2", env)
    (path,) = Path(env["XDG_CACHE_HOME"]).rglob("*.*")
    assert path.read_text() == "b: 2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "secret" not in path.name


def test_every_address_has_its_own_copy(env: dict[str, str]) -> None:
    remember(UrlSource("https://h/a"), "a: 1", env)
    assert last_good(UrlSource("https://h/b"), env) is None


def test_files_need_no_copy(tmp_path: Path, env: dict[str, str]) -> None:
    source = FileSource(tmp_path / "a", "a")
    assert remember(source, "x", env) is None
    assert last_good(source, env) is None
    assert not (tmp_path / "cache").exists()


def test_a_disk_that_cannot_be_written_to_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = remember(UrlSource("https://h/a"), "x", {"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert problem is not None
    assert "no copy" in problem.what


def test_without_a_home_there_is_no_copy() -> None:
    source = UrlSource("https://h/a")
    assert remember(source, "x", {}) is None
    assert last_good(source, {}) is None


def test_the_cache_of_the_home_is_the_default(tmp_path: Path) -> None:
    remember(UrlSource("https://h/a"), "x", {"HOME": str(tmp_path)})
    assert len(list((tmp_path / ".cache" / "uniapi").iterdir())) == 1
