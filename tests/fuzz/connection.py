"""A connection's bytes through hypercorn to the pages and back, in memory: HTTP/1.1, HTTP/2, and single headers."""

import asyncio
import selectors
import socket
from collections.abc import Coroutine
from contextlib import closing, suppress
from functools import cache
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

import h11
from hypercorn.asyncio.worker_context import WorkerContext

from fuzz.target import Target, pieces
from qmail_exporter.web.app import accepts_gzip, parse_names, wants_openmetrics
from qmail_exporter.web.auth import Passwords, parse_basic
from qmail_exporter.web.guard import guarded
from qmail_exporter.web.http import Http, Stream, make_config
from qmail_exporter.web.settings import RateLimit, Settings
from webrig import make_app

PATIENCE = 5.0
"""Seconds that a close may take: a connection that the client has left ends within them."""
_TURNS = 20
"""Turns of the loop within which what has come is read."""
EXPECTED = {200, 400, 401, 404, 405, 429, 431}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = Settings(
    headers=((b"x-frame-options", b"deny"),),
    users=MappingProxyType({"a": b"$2b$"}),
    rate_limit=RateLimit(0.001, 50),
)
_T = TypeVar("_T")


class _Skipping(selectors.SelectSelector):
    """Waits for nothing: the seconds that it would have waited are added up in `skipped`."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "it waits for what will never come"
            self.skipped += max(0.0, timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose clock goes on at once to the next moment at which something is due."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Return the seconds of this clock."""
        return super().time() + self._skipping.skipped


class _Passwords(Passwords):
    """Checks passwords without a thread, of which that clock would know nothing."""

    async def _run(self, password: bytes, hashed: bytes) -> bool:
        return self._check(password, hashed)


class Memory(asyncio.Transport):
    """A connection to nobody: what is written to it is kept in `written`."""

    def __init__(self, protocol: asyncio.StreamReaderProtocol, alpn: str) -> None:
        super().__init__()
        self.written = bytearray()
        self._protocol = protocol
        self._closing = False
        self._alpn = alpn
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Tell who is connected, and how."""
        if name == "socket":
            ends = {"getpeername": lambda: ("192.0.2.1", 1), "getsockname": lambda: ("192.0.2.2", 2)}
            return SimpleNamespace(family=socket.AF_INET, **ends)
        if name == "ssl_object" and self._alpn:
            return SimpleNamespace(selected_alpn_protocol=lambda: self._alpn)
        return default

    def write(self, data: Any) -> None:
        """Keep the data."""
        assert not self._closing, "it writes to a connection that it has closed"
        self.written += data

    def write_eof(self) -> None:
        """Take note of nothing."""

    def can_write_eof(self) -> bool:
        """Tell that it can be closed by halves."""
        return True

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self._closing

    def close(self) -> None:
        """Close it."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close


async def converse(blocks: list[bytes], *, alpn: str = "", door: bool = False) -> bytes:
    """Serve a client that sends these blocks and leaves; return what it was sent."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = Memory(protocol, alpn)
    stream = Stream(transport, protocol, reader, PATIENCE)
    app = make_app(page="<p>")
    if door:
        app = guarded(app, lambda: SETTINGS, passwords=_Passwords(lambda password, _: password == b"b"))
    serving = asyncio.ensure_future(_serve(Http(app, _config(), _config(), WorkerContext(None), stream)))
    for block in blocks:
        if block and not transport.is_closing():
            reader.feed_data(block)
            await asyncio.sleep(0)
    # Whether a request that was left unfinished is answered depends on whether it was read before its client left.
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    if not serving.done():
        reader.feed_eof()
    await asyncio.wait([serving], timeout=2 * PATIENCE)
    assert serving.done(), "a connection does not end"
    stream.abort()
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=PATIENCE)
    assert not asyncio.all_tasks() - {asyncio.current_task()}, "a task outlives its connection"
    if not serving.cancelled():
        serving.result()
    return bytes(transport.written)


async def _serve(serving: Http) -> None:
    await serving


def http(data: bytes) -> None:
    """A client gets whole answers of no kind but those that are meant, the same in whatever pieces its bytes come.

    Only a request whose body turns out to be wrong may have been answered before that comes.
    The first byte says whether passwords and a limit stand before the pages. All bytes are also tried as a header alone.
    """
    header(data)
    door, request = data[:1] >= b"\x80", data[1:]
    whole = _statuses(_run(converse([request], door=door)))
    assert set(whole) <= EXPECTED, whole
    if not door:
        apart = _statuses(_run(converse(pieces(request, data[:8]))))
        assert apart == whole or 400 in {*apart, *whole}


def http2(data: bytes) -> None:
    """Whatever frames come, the connection ends when the client has left, and nothing of it stays."""
    try:
        _run(converse(pieces(PREFACE + data[1:], data[:8]), alpn="h2", door=data[:1] >= b"\x80"))
    except AssertionError:
        raise
    except Exception:  # noqa: BLE001, S110 - Connections takes whatever a client makes hypercorn raise
        pass


def header(data: bytes) -> None:
    """Any header has a meaning, any query string a list of names or a ValueError."""
    text = data.decode("latin-1")
    assert not wants_openmetrics(text) or "openmetrics" in text.lower()
    assert not accepts_gzip(text) or "gzip" in text.lower() or "*" in text
    if credentials := parse_basic(text):
        user, password = credentials
        assert len(user.encode()) + len(password) < len(data)
    with suppress(ValueError):
        names = parse_names(data)
        assert names is None or 0 < len(names) <= 1000


def _statuses(answer: bytes) -> list[int]:
    """Return the statuses of answers that a client understands to their last byte, whose methods it does not know."""
    found: list[int] = []
    while answer:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        head, _, rest = answer.partition(b"\r\n\r\n")
        client.receive_data(head + b"\r\n\r\n")
        event = client.next_event()
        assert isinstance(event, h11.Response | h11.InformationalResponse), event
        answer = rest
        if isinstance(event, h11.InformationalResponse):
            assert event.status_code == 100
            continue
        found.append(event.status_code)
        length = int(dict(event.headers).get(b"content-length", b"0"))
        # Nobody but the server knows whether it was asked by HEAD: then the next answer begins here, or nothing is left.
        answer = rest if rest.startswith(b"HTTP/1.1 ") or not rest else rest[length:]
        assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:40]
    return found


@cache
def _config() -> Any:
    return make_config(PATIENCE * 2)


def _run(scenario: Coroutine[Any, Any, _T]) -> _T:
    with closing(_Loop()) as loop:
        return loop.run_until_complete(scenario)


def _requests() -> list[bytes]:
    get = b"GET /metrics?name[]=qmail_queue_messages HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"
    openmetrics = b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.1\r\n\r\n"
    basic = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n"
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"PUT /-/ready HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    socket_ = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    close = b"HEAD /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
    texts = [
        get,
        openmetrics,
        basic,
        post,
        chunked,
        upgrade,
        socket_,
        close,
        get + close,
        post + get,
        PREFACE,
    ]
    return [kind + text for text in texts for kind in (b"\0", b"\xff", b"\x07")]


def _frames() -> list[bytes]:
    settings = b"\0\0\0\x04\0\0\0\0\0"
    # GET / of https to x, in HPACK: 3 static fields and a literal authority.
    block = b"\x82\x84\x87\x41\x01x"
    headers = len(block).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + block
    ping = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
    reset = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08"
    return [
        kind + settings + each
        for kind in (b"\0", b"\xff")
        for each in (headers, ping, headers + reset, headers + ping)
    ]


def _headers() -> list[bytes]:
    return [
        b"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.1",
        b"gzip;q=0, *;q=1.000",
        b"Basic YTpi",
        b"name[]=a&name%5B%5D=b;c=%C3%A9",
    ]


TARGETS = {
    "http": Target(http, lambda: [*_requests(), *_headers()]),
    "http2": Target(http2, _frames),
}
