"""The web server in a loop of the test's own, and clients of it."""

import asyncio
import http.client
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from qmail_exporter.web import app as web
from qmail_exporter.web import server
from qmail_exporter.web.tls import Encryption

DEADLINE = 10


Encrypt = Callable[[], Encryption | None]


async def nothing() -> None:
    """Refresh nothing."""


def make_app(refresh: Callable[[], Awaitable[None]] = nothing, *, page: str = "", **settings: Any) -> web.App:
    """Return an application with one metric."""
    registry = CollectorRegistry()
    Gauge("qmail_queue_messages", "Messages.", ["queue"], registry=registry).labels("default").set(12)
    return web.make_app(web.Site(registry, refresh, lambda: True, lambda: page), **settings)


class Serving:
    """A running server: `port` of its first socket, `stop` to end it, `task` to await its end."""

    def __init__(
        self, app: web.App, sockets: list[socket.socket], encryption: Encrypt = lambda: None
    ) -> None:
        name = sockets[0].getsockname()
        self.port: int = name[1] if isinstance(name, tuple) else 0
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(server.serve(app, sockets, self.stop, encryption))


@asynccontextmanager
async def serving(
    app: web.App, *addresses: str, encryption: Encrypt = lambda: None
) -> AsyncIterator[Serving]:
    """Run a server while the context lasts, on a free port unless addresses are given."""
    running = Serving(app, server.listen(addresses or ["127.0.0.1:0"]), encryption)
    try:
        yield running
    finally:
        running.stop.set()
        await asyncio.wait_for(running.task, DEADLINE)


def get(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] = MappingProxyType({}),
    host: str = "127.0.0.1",
    context: ssl.SSLContext | None = None,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Make a request with the standard library's client, over TLS if there is a context."""
    connection = (
        http.client.HTTPSConnection(host, port, timeout=DEADLINE, context=context)
        if context
        else http.client.HTTPConnection(host, port, timeout=DEADLINE)
    )
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


async def fetch(
    port: int,
    path: str = "/metrics",
    *,
    method: str = "GET",
    host: str = "127.0.0.1",
    context: ssl.SSLContext | None = None,
    **headers: str,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Make a request in a thread of its own; a header's name has underscores for its hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await asyncio.to_thread(get, port, path, method=method, headers=named, host=host, context=context)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes the connection, however it does."""
    received = b""
    with suppress(ConnectionError):
        while data := await asyncio.wait_for(reader.read(65536), DEADLINE):
            received += data
    return received


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario to its end, which must come soon."""

    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 3 * DEADLINE)

    asyncio.run(bounded())
