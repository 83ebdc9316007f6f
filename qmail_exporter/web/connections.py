"""Connections of clients: accepted, bounded in number and time, encrypted if need be, and handed to hypercorn.

hypercorn speaks HTTP on one connection, and bounds the size of a request's header and the time that a client takes for it.
What its own server does not bound is why this one accepts: the number of connections, which of them give way, the time of a TLS
handshake and of a close. That TLS can be switched on and off, and its settings changed, from one connection to the next comes with it.
"""

import asyncio
import errno
import socket
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercorn.asyncio.worker_context import WorkerContext

from qmail_exporter import errors, logfmt
from qmail_exporter.web import plain
from qmail_exporter.web.http import Http, Stream, make_config
from qmail_exporter.web.memory import give_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmail_exporter.web.app import App, Message, Receive, Send
    from qmail_exporter.web.tls import Encryption

# Of a process that may open no more files, or a kernel without memory: they pass when connections end.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_RETRY = 1.0  # seconds
# Connections that hold so much that it is worth giving back.
_CROWD = 32
_SETTLED = 1.0  # seconds, after which what has ended is done with

logger = logfmt.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients are given.

    Attributes:
        connections: how many may be open.
        header: seconds for a TLS handshake, and for the header of the first request.
        idle: seconds from an answer until the header of the next request is there.
        close: seconds for a client to read the rest of an answer, and for TLS to be taken down.
        grace: seconds that requests under way have to finish when the server stops.
    """

    connections: int
    header: float
    idle: float
    close: float
    grace: float


class Connections:
    """The open connections of a server, oldest first.

    Of more than there may be, one is closed: the oldest without a request under way, or the oldest. So clients that hold their
    connections, or open more and more, keep no scrape out.
    """

    def __init__(self, app: "App", limits: Limits, encryption: "Callable[[], Encryption | None]") -> None:
        self._app = app
        self._limits = limits
        self._encryption = encryption
        self._config, self._between = make_config(limits.header), make_config(limits.idle)
        self._context = WorkerContext(None)
        self._open: dict[_Connection, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._most = 0  # that were open at once, since memory was given back

    async def accept(self, listener: socket.socket) -> None:
        """Take connections from a listening socket for ever."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    logger.warning("a connection cannot be accepted", error=errors.words(error))
                    self._make_room()
                    await asyncio.sleep(_RETRY)
                elif error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                    raise  # the listener's own fault, while others are the client's
                continue
            self._begin(sock)
            # Accepting does not wait while there are more, so that others would not have their turn.
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End idle connections at once, others when their request is done or the grace is over."""
        await self._context.terminated.set()
        for connection, task in self._open.items():
            if not connection.greeted:
                task.cancel()
        if self._open:
            await asyncio.wait(self._open.values(), timeout=self._limits.grace)
        for connection in self._open:
            connection.shut()
        rest = [*self._open.values(), *self._leaving]
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)

    def _begin(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            # asyncio does that only for sockets made with the protocol's number. Without it the second of two writes, the
            # body after the header, waits 40 ms for the client's acknowledgement.
            with suppress(OSError):  # the client has gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._open) >= self._limits.connections:
            self._make_room()
        connection = _Connection(sock)
        task = asyncio.create_task(self._serve(connection))
        self._open[connection] = task
        self._most = max(self._most, len(self._open))
        task.add_done_callback(lambda _: self._ended(connection, task))

    def _ended(self, connection: "_Connection", task: asyncio.Task[None]) -> None:
        # Here and not in the task, which may have been cancelled before it began.
        connection.shut()
        connection.sock.close()
        self._open.pop(connection, None)
        self._leaving.discard(task)
        if not task.cancelled():
            task.exception()  # which asyncio would else tell of
        if self._most >= _CROWD and len(self._open) * 4 <= self._most:
            self._most = len(self._open)
            asyncio.get_running_loop().call_later(_SETTLED, give_back)

    def _make_room(self) -> None:
        idle = (connection for connection in self._open if not connection.requests)
        victim = next(idle, next(iter(self._open), None))
        if victim is not None:
            task = self._open.pop(victim)
            self._leaving.add(task)
            victim.shut()
            task.cancel()

    async def _serve(self, connection: "_Connection") -> None:
        try:
            await self._converse(connection)
        except (OSError, asyncio.TimeoutError) as error:
            logger.debug("a connection was given up", error=error or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever a client makes hypercorn raise, perhaps a group
            logger.debug("a connection failed", error=repr(error))

    async def _converse(self, connection: "_Connection") -> None:
        encryption = self._encryption()
        if encryption is not None and await plain.is_answered(connection.sock, self._limits.header):
            return
        stream = await self._open_stream(connection, encryption.context if encryption else None)
        try:
            connection.greeted = True
            if encryption is not None and not encryption.admits(stream.get_extra_info("peercert")):
                logger.debug("a client's certificate has no allowed name")
                return
            await Http(connection.counting(self._app), self._config, self._between, self._context, stream)
        finally:
            stream.abort()

    async def _open_stream(self, connection: "_Connection", context: ssl.SSLContext | None) -> Stream:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        times: dict[str, float] = {}
        if context is not None:
            times["ssl_handshake_timeout"] = self._limits.header
            if sys.version_info >= (3, 11):
                times["ssl_shutdown_timeout"] = self._limits.close
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection.sock, ssl=context, **times
        )
        return Stream(transport, protocol, reader, self._limits.close)


class _Connection:
    """An accepted socket.

    Attributes:
        sock: the socket itself, beside the transport that reads and writes it.
        requests: how many are under way.
        greeted: whether the handshake, if there is one, is done.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.requests = 0
        self.greeted = False

    def shut(self) -> None:
        """End it: whoever waits to read or write is woken, and then closes what is theirs."""
        with suppress(OSError):  # closed, or left by the client
            self.sock.shutdown(socket.SHUT_RDWR)

    def counting(self, app: "App") -> "App":
        """Return the application, counting this connection's requests."""

        async def counted(scope: "Message", receive: "Receive", send: "Send") -> None:
            self.requests += 1
            try:
                await app(scope, receive, send)
            finally:
                self.requests -= 1

        return counted
