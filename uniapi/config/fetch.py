"""One GET with a total deadline, a size limit, and redirects that stay where they were sent.

It may ask for the body only if that is another than the one we have (RFC 9110, section 13).
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import certifi

from uniapi import __version__
from uniapi.config.types import Secret

_REDIRECTS: Final = 5
_CHUNK: Final = 65_536  # bytes
_LONGEST: Final = 1024  # characters of a validator worth keeping
_TICK: Final = 2.0  # seconds a file must be old for its time to tell it from a later one


class FetchError(Exception):
    """Why there is no body; the message names no part of the address."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a body from the next; empty where the server does not say.

    Attributes:
        etag: as the server wrote it, quotes and all.
        modified: its time of change, as the server wrote it.
    """

    etag: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        body: None when it is still the one we have.
        validators: for the next time.
    """

    body: bytes | None
    validators: Validators = Validators()


def fetch(url: str, *, seconds: float, limit: int, bearer: Secret | None = None) -> bytes:
    """The body behind an http or https address; as `fetch_newer`, whatever we have.

    Args:
        url: a valid http or https URL.
        seconds: for all of it, redirects included.
        limit: bytes of the body.
        bearer: shown as the key, when the address asks for one.

    Raises:
        FetchError: see `fetch_newer`.
    """
    answer = _done(_Job(url, seconds, limit, bearer))
    return answer.body or b""


def fetch_newer(url: str, known: Validators, *, seconds: float, limit: int) -> Answer:
    """The body behind an http or https address, unless it is the one that is `known`.

    The work is done in a thread and left behind at the deadline, because neither name resolution
    nor a header that trickles in can be bounded from within. Userinfo is sent as basic
    authorization. Proxies of the environment are not used.

    Args:
        url: a valid http or https URL.
        known: the validators that came with the body we have; empty ones ask for any body.
        seconds: for all of it, redirects included.
        limit: bytes of the body.

    Raises:
        FetchError: no answer in time, a status other than 200 (or 304, if asked for), a body over
            the limit, a redirect to another host or to a lesser scheme.
    """
    return _done(_Job(url, seconds, limit, known=known))


def _done(job: _Job) -> Answer:
    thread = threading.Thread(target=job.run, name="config-fetch", daemon=True)
    thread.start()
    thread.join(job.seconds)
    if thread.is_alive():
        job.abandon()
        raise FetchError(f"no whole answer within {job.seconds:g} s")
    if job.answer is None:
        raise FetchError(job.why)
    return job.answer


@dataclass
class _Job:
    url: str
    seconds: float
    limit: int
    bearer: Secret | None = None
    known: Validators = Validators()
    answer: Answer | None = None
    why: str = ""
    connected: socket.socket | None = field(default=None, repr=False)

    def run(self) -> None:
        try:
            self.answer = self._follow()
        except FetchError as error:
            self.why = str(error)
        except ssl.SSLCertVerificationError as error:
            self.why = f"its certificate is not trusted ({error.verify_message})"
        except ssl.SSLError as error:
            why = (error.reason or "it breaks off").replace("_", " ").lower()
            self.why = f"TLS with it fails ({why})"
        except socket.gaierror:
            self.why = "its host name is unknown"
        except TimeoutError:
            self.why = f"no whole answer within {self.seconds:g} s"
        except OSError as error:
            self.why = (error.strerror or type(error).__name__).lower()
        except (http.client.InvalidURL, UnicodeError):
            self.why = "the address has characters that must be %-encoded"
        except (http.client.HTTPException, ValueError):
            self.why = "the answer is not HTTP"

    def abandon(self) -> None:
        """Cut the connection, so that the thread ends soon."""
        if self.connected is not None:
            with suppress(OSError):
                self.connected.shutdown(socket.SHUT_RDWR)

    def _follow(self) -> Answer:
        url = self.url
        for _ in range(_REDIRECTS + 1):
            found = self._get(urlsplit(url))
            if isinstance(found, Answer):
                return found
            url = _redirect(url, found)
        raise FetchError(f"more than {_REDIRECTS} redirects")

    def _get(self, url: SplitResult) -> Answer | str:
        """The answer, or where the answer sends us."""
        connection = _connection(url, self.seconds)
        try:
            connection.connect()
            self.connected = connection.sock  # the connection lets go of it with the answer's head
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            connection.request("GET", path, headers=_headers(url, self.bearer, self.known))
            answer = connection.getresponse()
            if answer.status in {301, 302, 303, 307, 308}:
                return answer.getheader("location") or ""
            if answer.status == 304 and self.known != Validators():
                return Answer(None, self.known)
            if answer.status != 200:
                raise FetchError(f"it answers {answer.status}")
            body = bytearray()
            while chunk := answer.read1(_CHUNK):
                body += chunk
                if len(body) > self.limit:
                    raise FetchError(f"it is larger than {self.limit / 1e6:g} MB")
            if answer.length:
                raise FetchError("the answer was cut short")
            return Answer(bytes(body), _validators(answer))
        finally:
            connection.close()


def _connection(url: SplitResult, seconds: float) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme.lower() == "http":
        return http.client.HTTPConnection(host, url.port, timeout=seconds)
    # The system's trust (which honours SSL_CERT_FILE) and certifi's: slim images have no store.
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return http.client.HTTPSConnection(host, url.port, timeout=seconds, context=context)


def _validators(answer: http.client.HTTPResponse) -> Validators:
    etag, modified, date = (
        said if said.isascii() and said.isprintable() and len(said) <= _LONGEST else ""
        for said in (answer.getheader(name) or "" for name in ("etag", "last-modified", "date"))
    )
    return Validators(etag, modified if _telling(modified, date) else "")


def _telling(modified: str, date: str) -> bool:
    """Whether a time in whole seconds can tell this body from one written right after it."""
    try:
        age = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return False
    return age.total_seconds() >= _TICK


def _headers(url: SplitResult, bearer: Secret | None, known: Validators) -> dict[str, str]:
    headers = {
        "User-Agent": f"uniapi/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if known.etag:
        headers["If-None-Match"] = known.etag
    if known.modified:
        headers["If-Modified-Since"] = known.modified
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer.reveal()}"
    elif url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers


def _redirect(url: str, location: str) -> str:
    """The next address: the same host and scheme, or https instead of http on the same host."""
    old = urlsplit(url)
    new = urlsplit(urljoin(url, location))
    same = (old.scheme, old.hostname, old.port) == (new.scheme, new.hostname, new.port)
    safer = (old.scheme, new.scheme) == ("http", "https") and old.hostname == new.hostname
    if not location or not (same or safer):
        raise FetchError("it redirects to another host")
    if old.username is not None and new.username is None:
        userinfo = old.netloc.rpartition("@")[0]
        new = new._replace(netloc=f"{userinfo}@{new.netloc}")
    return new.geturl()
