"""hypercorn's side of one connection, with the bounds that it lacks."""

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import h11
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.protocol.h11 import H11Protocol

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

    from qmail_exporter.web.app import App, Message, Receive, Send


class Stream(asyncio.StreamWriter):
    """A connection's reader and writer, whose close takes `patience` seconds at most, also if the client does not read."""

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        reader: asyncio.StreamReader,
        patience: float,
    ) -> None:
        super().__init__(transport, protocol, reader, asyncio.get_running_loop())
        self.reader = reader
        self.patience = patience
        self._closing: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Begin to close."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(self.patience, self.transport.abort)
        super().close()

    def abort(self) -> None:
        """End it at once."""
        if self._closing is not None:
            self._closing.cancel()
        self.transport.abort()


class Http(TCPServer):
    """HTTP on a stream; to be awaited, until it is closed.

    Where hypercorn would wait until the connection had been idle too long, or for ever, this ends when the client has gone.

    Args:
        config: of `make_config`, for the first request.
        between: the same for those that follow.
    """

    def __init__(
        self, app: "App", config: Config, between: Config, context: WorkerContext, stream: Stream
    ) -> None:
        wrapped = ASGIWrapper(cast("ASGIFramework", _reading_past(app)))
        loop = asyncio.get_running_loop()
        super().__init__(wrapped, loop, config, context, {}, stream.reader, stream)
        self._between = between
        self._patience = stream.patience
        self._cutting: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until the connection is closed."""
        try:
            await super().run()
        finally:
            if self._cutting is not None:
                self._cutting.cancel()

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks for."""
        if isinstance(event, Updated) and event.idle:
            if self.reader.at_eof():
                return  # no further request can come, so none is waited for
            self.config = self._between
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        wrapper = self.protocol
        if isinstance(wrapper.protocol, H11Protocol):
            wrapper.protocol = _Http1.like(wrapper.protocol)
        await super()._read_data()
        await self.idle_task.stop()
        # Of HTTP/2, what the client did not take stays in a buffer that an application waits for.
        serving = asyncio.current_task()
        if serving is not None:
            self._cutting = self.loop.call_later(self._patience, serving.cancel)


class _Http1(H11Protocol):
    """HTTP/1.1 that stays it, and whose refusals are all the client's fault."""

    @classmethod
    def like(cls, other: H11Protocol) -> "_Http1":
        """Return a protocol for the connection of another that has not begun."""
        where = (other.ssl, other.client, other.server)
        return cls(
            other.app,
            other.config,
            other.context,
            other.task_group,
            other.connection_state,
            *where,
            other.send,
        )

    async def _check_protocol(self, event: h11.Request) -> None:
        """Do not go over to HTTP/2, which without TLS nobody needs."""

    async def _create_stream(self, request: h11.Request) -> None:
        # Nor to a websocket, of whose handshake wsproto cannot read all that h11 lets through.
        kept = [header for header in request.headers if header[0] != b"upgrade"]
        if len(kept) < len(request.headers):
            method, version = request.method, request.http_version
            request = h11.Request(method=method, headers=kept, target=request.target, http_version=version)
        await super()._create_stream(request)

    async def _send_error_response(self, status_code: int) -> None:
        # 501 is for a transfer coding that nobody has; an alert on 5xx should not ring for it.
        await super()._send_error_response(400 if status_code == 501 else status_code)


def make_config(patience: float) -> Config:
    """Return hypercorn's settings; `patience` is the seconds until a request's header is there."""
    log = logging.getLogger("hypercorn.error")
    # What it says of single connections is of no use to anybody, and would let clients fill the log.
    log.setLevel(logging.CRITICAL)
    config = Config()
    config.errorlog = log
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    # Each stream of a client that does not read keeps an answer in memory.
    config.h2_max_concurrent_streams = 4
    config.keep_alive_timeout = cast("int", patience)
    return config


def _reading_past(app: "App") -> "App":
    """Return the application, reading past the bodies of requests.

    hypercorn keeps ten pieces of a body, and waits for ever to put the next if nobody takes them.
    """

    async def reading(scope: "Message", receive: "Receive", send: "Send") -> None:
        draining = asyncio.create_task(_drain(receive))
        try:
            await app(scope, receive, send)
        finally:
            draining.cancel()

    return reading


async def _drain(receive: "Receive") -> None:
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass
