"""A provider that costs next to nothing: `python bench/upstream.py --port 9001 --processes 2`.

It plays the answers of `bench.workloads`, rendered once, off plain non-blocking sockets, in
OpenAI's dialect on `/v1/chat/completions` and in Anthropic's on `/v1/messages`. It knows of a
request its length, its model and whether it wants a stream. `bench/provider.py` is the one that
knows everything, and breaks on demand.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import os
import re
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from bench.messages import messages_answer
from bench.workloads import workload
from uniapi.demo.behaviour import Behaviour, Fault, error_body
from uniapi.demo.completions import Ask
from uniapi.demo.script import Step, Then, answer

_READ: Final = 65_536
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL: Final = re.compile(rb'"model": ?"([^"\\]*)"')
_STREAM: Final = re.compile(rb'"stream": ?true')
_USAGE: Final = re.compile(rb'"include_usage": ?true')
_CONTINUE: Final = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Peer:
    """One connection: what it asked so far, and what it still gets."""

    sock: socket.socket
    asked: bytearray = field(default_factory=bytearray)
    unsent: bytes = b""
    steps: tuple[Step, ...] = ()
    next: int = 0
    begun: float = 0.0

    def request(self) -> tuple[bytes, bytes] | None:
        """The head and the body of the next request, once all of it is there.

        Raises:
            ValueError: for a body of unknown length.
        """
        end = self.asked.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.asked[:end])
        length = _LENGTH.search(head)
        if length is None and not head.startswith(b"GET "):
            raise ValueError("no length")
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self.asked) < whole:
            if _CONTINUE.search(head) and len(self.asked) == end + 4:
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(self.asked[end + 4 : whole])
        del self.asked[:whole]
        return head, body


@lru_cache(maxsize=256)
def rendered(path: bytes, model: bytes, stream: bool, usage: bool) -> tuple[Step, ...]:
    """The answer to such a request; the one that says 404 when there is none."""
    ask = Ask(model.decode(), stream=stream, include_usage=usage)
    try:
        how = workload(ask.model)
        if how.fault is not Fault.NONE:
            return _refusal("faults are the scripted provider's")
    except LookupError as problem:
        return _refusal(str(problem))
    if path.endswith(b"/chat/completions"):
        return tuple(answer(ask, how))
    return messages_answer(ask, how) if path.endswith(b"/messages") else _refusal("no such path")


def _refusal(why: str) -> tuple[Step, ...]:
    error = error_body(why, type="invalid_request_error")
    return tuple(answer(Ask(), Behaviour(status=404, error=error)))


class Upstream:
    """Serves one listening socket until a byte, or the end, comes out of `stop`."""

    def __init__(self, listener: socket.socket, stop: int) -> None:
        self._listener = listener
        self._stop = stop
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Peer]] = []
        self._turn = itertools.count()

    def run(self) -> None:
        """The loop."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stop, selectors.EVENT_READ)
        while True:
            wait = self._due[0][0] - time.monotonic() if self._due else None
            for key, mask in self._selector.select(wait if wait is None else max(wait, 0)):
                if key.fileobj == self._stop:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._ready(key.data, mask)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                self._play(heapq.heappop(self._due)[2])

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(sock, selectors.EVENT_READ, Peer(sock))

    def _ready(self, peer: Peer, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._selector.modify(peer.sock, selectors.EVENT_READ, peer)
                unsent, peer.unsent = peer.unsent, b""
                if self._send(peer, unsent):
                    self._play(peer)
            if mask & selectors.EVENT_READ:
                data = peer.sock.recv(_READ)
                if not data:
                    self._close(peer)
                    return
                peer.asked += data
                self._begin(peer)
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._close(peer)

    def _begin(self, peer: Peer) -> None:
        """Start on the next request, unless one is still being answered."""
        if peer.steps or (asked := peer.request()) is None:
            return
        head, body = asked
        model = _MODEL.search(body)
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        peer.steps = rendered(
            path,
            model[1] if model else b"",
            _STREAM.search(body) is not None,
            _USAGE.search(body) is not None,
        )
        peer.next, peer.begun = 0, time.monotonic()
        self._play(peer)

    def _play(self, peer: Peer) -> None:
        """Write what is due; come back for the rest."""
        now = time.monotonic() - peer.begun
        while peer.next < len(peer.steps):
            step = peer.steps[peer.next]
            if step.at > now:
                heapq.heappush(self._due, (peer.begun + step.at, next(self._turn), peer))
                return
            peer.next += 1
            if not self._send(peer, step.data):
                return
            if step.then not in (Then.MORE, Then.KEEP):
                self._close(peer)
                return
        if peer.steps:
            peer.steps = ()
            self._begin(peer)

    def _send(self, peer: Peer, data: bytes) -> bool:
        """Write; whether all of it went."""
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(peer)
            return False
        if sent == len(data):
            return True
        peer.unsent = data[sent:]
        self._selector.modify(peer.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
        return False

    def _close(self, peer: Peer) -> None:
        peer.steps = ()
        if peer.sock.fileno() >= 0:
            self._selector.unregister(peer.sock)
            peer.sock.close()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(4096)
    return listener


def main() -> None:
    """The command line: prints the port and serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001, help="0 lets the system choose")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    listener = _listen(args.host, args.port)
    port = listener.getsockname()[1]
    # The children hold the reading end of a pipe: however the parent ends, they see it.
    reading, writing = os.pipe()
    for _ in range(args.processes - 1):
        if not os.fork():
            os.close(writing)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            listener.close()
            Upstream(_listen(args.host, port), reading).run()
            sys.exit(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writing, b"."))
    print(port, flush=True)
    Upstream(listener, reading).run()


if __name__ == "__main__":
    main()
