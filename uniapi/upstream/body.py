"""The bodies of answers: as they come, or made plain.

Iterators with a `__anext__` of their own rather than async generators: an unfinished generator
is closed by the garbage collector at a time of its choosing, and this closes connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

import httpx

from uniapi.upstream import httperrors
from uniapi.upstream.connection import Connection
from uniapi.upstream.inflate import InflateError, Inflater


class ResponseBody(httpx.AsyncByteStream):
    """The body of one answer: one chunk per read of the socket; owns the connection meanwhile.

    The connection goes back with the read that brings the end, not with the call that tells it.

    Args:
        connection: its head has been read.
        start: as much of the body as came with its head.
        give_back: called once with the connection, wherever its answer stands.
    """

    def __init__(
        self,
        connection: Connection,
        start: bytes,
        give_back: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._connection: Connection | None = connection
        self._ready = start
        self._give_back = give_back
        self._failure: Exception | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no body at all."""
        return self._connection is None and self._failure is None and not self._ready

    def __aiter__(self) -> Self:
        """Itself: a body can be read once."""
        return self

    async def __anext__(self) -> bytes:
        """The bytes of the next read.

        Raises:
            httpx.ReadError: the connection was lost.
            httpx.RemoteProtocolError: the body is cut or malformed.
        """
        while not self._ready:
            connection = self._connection
            if connection is None:
                raise self._failure or StopAsyncIteration
            try:
                data = await connection.stream.receive_some()
            except httperrors.LOST as error:
                self._failure = httperrors.reading(error)
                await self.let_go()
                continue
            except BaseException:
                await self.aclose()
                raise
            self._ready = connection.take(bytes(data))  # memory streams give bytearrays
            if connection.ended or connection.failure:
                await self.let_go()
        data, self._ready = self._ready, b""
        return data

    def over(self) -> bool:
        """Whether the connection has gone back already."""
        return self._connection is None

    async def aclose(self) -> None:
        """Be done with it; closes the connection unless the end has been read."""
        if self._connection is not None:
            self._failure = httpx.StreamClosed()
            self._ready = b""
            await self.let_go()

    async def let_go(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._failure = self._failure or connection.failure
            await self._give_back(connection)


class InflatedBody(httpx.AsyncByteStream):
    """A compressed body, made plain as it is read.

    Args:
        body: as it came over the wire.
        encoding: its content-encoding.
    """

    def __init__(self, body: ResponseBody, encoding: str) -> None:
        self._body = body
        self._encoding = encoding
        self._inflater: Inflater | None = None

    def __aiter__(self) -> Self:
        """Itself: a body can be read once."""
        return self

    async def __anext__(self) -> bytes:
        """The next plain bytes.

        Raises:
            httpx.ReadError: the connection was lost.
            httpx.RemoteProtocolError: the body is cut, malformed, far too large when inflated, or
                in an encoding nobody asked for.
        """
        try:
            return await self._inflate()
        except InflateError as error:
            await self._body.aclose()
            raise httperrors.malformed(error) from error

    def over(self) -> bool:
        """Whether the connection has gone back already."""
        return self._body.over()

    async def aclose(self) -> None:
        """Be done with it."""
        await self._body.aclose()

    async def _inflate(self) -> bytes:
        if self._inflater is None:
            self._inflater = Inflater(self._encoding)
        while not (piece := self._inflater.take()):
            try:
                self._inflater.feed(await anext(self._body))
            except StopAsyncIteration:
                self._inflater.finish()
                raise
        return piece
