"""The HTTP server: sockets to listen on, and their connections served for as long as the daemon runs."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from qmail_exporter.config import parse_address
from qmail_exporter.web.connections import Connections, Limits

if TYPE_CHECKING:
    from qmail_exporter.web.app import App
    from qmail_exporter.web.tls import Encryption

# Prometheus opens one connection, a pair of Prometheus servers with a curious admin perhaps ten. The rest is for clients that
# hold theirs: were there less room than these take, each would push out another, which comes back at once, and a scrape
# might be pushed out by a wave of them before its handshake is done.
MAX_CONNECTIONS = 384
# Connections that the kernel keeps until they are accepted. One more, and its client would try again only after a second.
BACKLOG = 1024
# Seconds that requests under way are given to finish when the server stops.
GRACE = 2.5
# Seconds for a TLS handshake, and for the header of a connection's first request to arrive.
HEADER_TIMEOUT = 10
# Seconds for a connection to be idle between two requests: longer than Prometheus's usual minute between two scrapes, each of
# which would else take a new connection, and with TLS a handshake.
IDLE_TIMEOUT = 75
# Seconds for the rest of an answer, or TLS's farewell, once a connection is to be closed.
CLOSE_TIMEOUT = 5

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)


class ListenError(OSError):
    """An address that cannot be listened on; the text names it and says why."""


def _unencrypted() -> None:
    """Return what plain HTTP is encrypted with."""


async def serve(
    app: "App",
    sockets: Sequence[socket.socket],
    stop: asyncio.Event,
    encryption: "Callable[[], Encryption | None]" = _unencrypted,
) -> None:
    """Answer HTTP on `sockets` until `stop` is set; then requests under way have `GRACE` seconds to finish.

    The sockets, bound and of type SOCK_STREAM (IPv4, IPv6 or Unix), belong to the server from now on, which closes
    them. `encryption` is asked at each new connection what that is encrypted with, None being plain HTTP.
    Of more than `MAX_CONNECTIONS` open connections one without a request is closed, so that clients that hold theirs
    cannot keep a new scrape out.
    """
    limits = Limits(
        connections=MAX_CONNECTIONS,
        header=HEADER_TIMEOUT,
        idle=IDLE_TIMEOUT,
        close=CLOSE_TIMEOUT,
        grace=GRACE,
    )
    connections = Connections(app, limits, encryption)
    accepting = [asyncio.create_task(connections.accept(sock)) for sock in sockets]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *accepting], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # accepting ends only by a fault
    finally:
        for task in (stopping, *accepting):
            task.cancel()
        await asyncio.wait(accepting)
        for sock in sockets:
            sock.close()
        await connections.close()


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
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
