"""The HTTP server: sockets to listen on, and hypercorn on them for as long as the daemon runs.

hypercorn bounds the size of a request's header and the time that a client takes for it. What it does not bound is
added here: the number of connections, and the time that a client which reads slowly can hold up the stop.
"""

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets

from qmail_exporter.config import parse_address

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

    from qmail_exporter.web.app import App, Message, Receive, Send

# Prometheus opens one connection, a pair of Prometheus servers with a curious admin perhaps ten.
MAX_CONNECTIONS = 128
# Seconds that requests under way are given to finish when the server stops.
GRACE = 2.5
# Seconds for a request's header to arrive, and for a connection to be idle between two requests.
HEADER_TIMEOUT = 10

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)


class ListenError(OSError):
    """An address that cannot be listened on; the text names it and says why."""


async def serve(app: "App", sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Answer HTTP on `sockets` until `stop` is set; then requests under way have `GRACE` seconds to finish.

    The sockets, bound and of type SOCK_STREAM (IPv4, IPv6 or Unix), belong to the server from now on, which closes
    them. Of more than `MAX_CONNECTIONS` open connections the oldest is closed, so that clients that hold theirs
    cannot keep a new scrape out.
    """
    connections = _Connections()
    listeners = [_Listener(sock, connections) for sock in sockets]
    requests: set[asyncio.Task[Any]] = set()

    async def tracked(scope: "Message", receive: "Receive", send: "Send") -> None:
        task = asyncio.current_task()
        if task is not None and scope["type"] == "http":
            requests.add(task)
            task.add_done_callback(requests.discard)
        await app(scope, receive, send)

    async def cut_off() -> None:
        # hypercorn does not: from Python 3.12 on it waits in Server.wait_closed until all connections are closed.
        await stop.wait()
        await asyncio.sleep(GRACE)
        for request in requests:
            request.cancel()
        connections.close_all()

    cutting = asyncio.create_task(cut_off())
    try:
        await worker_serve(
            ASGIWrapper(cast("ASGIFramework", tracked)),
            _hypercorn_config(),
            sockets=Sockets([], cast("list[socket.socket]", listeners), []),
            shutdown_trigger=stop.wait,
        )
    finally:
        cutting.cancel()
        for listener in listeners:  # hypercorn has closed those that it came to open
            listener.close()


def _hypercorn_config() -> Config:
    log = logging.getLogger("hypercorn.error")
    # Below a warning hypercorn only says where it runs, which the daemon does better.
    log.setLevel(logging.WARNING)
    config = Config()
    config.errorlog = log
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    config.keep_alive_timeout = HEADER_TIMEOUT
    config.graceful_timeout = GRACE
    return config


class _Connections:
    """The open connections, oldest first.

    They are ended by a shutdown: it wakes whoever waits to read from or write to the socket, and the server then
    closes the descriptor, which is its own.
    """

    def __init__(self) -> None:
        self._open: deque[socket.socket] = deque()

    def add(self, connection: socket.socket) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            self._open = deque(sock for sock in self._open if sock.fileno() != -1)
        if len(self._open) >= MAX_CONNECTIONS:
            _shut(self._open.popleft())
        self._open.append(connection)

    def close_all(self) -> None:
        while self._open:
            _shut(self._open.popleft())


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # closed, or left by the client
        connection.shutdown(socket.SHUT_RDWR)


class _Listener(socket.socket):
    """A listening socket that takes over another's descriptor and enters what it accepts into `connections`."""

    def __init__(self, sock: socket.socket, connections: _Connections) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self._connections = connections

    def accept(self) -> tuple[socket.socket, object]:
        connection, peer = super().accept()
        if self.family != socket.AF_UNIX:
            # asyncio does that only for sockets made with the protocol's number. Without it the second of two writes, the
            # body after the header, waits 40 ms for the client's acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(connection)
        return connection, peer


def listen(addresses: Sequence[str]) -> list[socket.socket]:
    """Return sockets bound to addresses as `config.parse_address` takes them, and listening.

    `:PORT` is every address of the host, on one socket for IPv6 and IPv4, or for IPv4 alone where there is no IPv6.
    A name is each of its addresses that this host has. Port 0 is any free port.

    Raises:
        ListenError: an address cannot be resolved or bound; no socket stays open.
        ValueError: not such an address.
    """
    with ExitStack() as undo:
        sockets = [undo.enter_context(sock) for where in addresses for sock in _listen(where)]
        undo.pop_all()
    return sockets


def address(sock: socket.socket) -> str:
    """Return where a socket listens, spelled as `listen` takes it; a Unix socket's path."""
    where = sock.getsockname()
    if not isinstance(where, tuple):
        return str(where)
    host, port = where[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(where: str) -> list[socket.socket]:
    host, port = parse_address(where)
    try:
        return [_bind_all(port)] if host == "" else _bind_host(host, port)
    except OSError as error:
        raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error


def _bind_all(port: int) -> socket.socket:
    try:
        return _bind(socket.AF_INET6, ("::", port), dual=True)
    except OSError as error:
        if error.errno not in _NO_SUCH_FAMILY:
            raise
        return _bind(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - that is what ":PORT" asks for


def _bind_host(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    wheres = [(family, where) for family, _, _, _, where in dict.fromkeys(found)]
    with ExitStack() as undo:
        sockets = [
            undo.enter_context(_bind(*where)) for where in wheres if len(wheres) == 1 or _is_here(*where)
        ]
        undo.pop_all()
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return sockets


def _is_here(family: int, where: tuple[object, ...]) -> bool:
    """Tell whether this host has the address: /etc/hosts may name ::1 where IPv6 is off."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((where[0], 0, *where[2:]))
    except OSError:
        return False
    return True


def _bind(family: int, where: tuple[object, ...], *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        sock.bind(where)
        sock.listen()
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
