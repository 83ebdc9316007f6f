"""Odd requests, through the application alone and through a real socket: never a 5xx, never a connection that just hangs."""

import asyncio
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote_from_bytes

import hpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from certificates import Authority, make_authority
from qmail_exporter.web import server
from qmail_exporter.web.settings import Pem, Tls
from qmail_exporter.web.tls import Encryption, make_encryption
from webrig import DEADLINE, make_app

METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "X-Y",
    "PRI",
]
PATHS = [
    "/",
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/metrics/",
    "//metrics",
    "/%2e%2e/metrics",
    "/METRICS",
    "/none",
    "*",
]
ODD = [
    "qmail_queue_messages",
    "%00",
    "%zz",
    "%",
    "%ff%fe",
    "%C3%A9",
    "a" * 3000,
    "[]",
    "name[]",
    "&&&",
    "=",
    "%0d%0aX:1",
    ";",
    "+",
    "%F0%9F%93%AC",
]

methods = st.sampled_from(METHODS) | st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+.^_`|~-", min_size=1, max_size=12
)
pieces = st.sampled_from(ODD) | st.binary(max_size=12).map(quote_from_bytes)
paths = st.sampled_from(PATHS) | pieces.map(lambda piece: f"/{piece}".replace("?", ""))
queries = st.lists(
    st.tuples(st.sampled_from(["name[]", "name", "name%5B%5D", ""]), pieces).map("=".join) | pieces,
    max_size=5,
).map("&".join)
header_values = st.sampled_from(
    [
        *(
            "application/openmetrics-text",
            "*/*;q=x",
            ",,,;;;===",
            "gzip;q=0.001",
            "identity;q=0, *;q=0",
            "a" * 500,
        ),
        *(
            "Basic ",
            "Basic !!!!",
            "Bearer x",
            "keep-alive, close",
            "100-continue",
            "websocket",
            "h2c",
            "bytes=0-1",
        ),
        *("gzip, chunked", "-1", "0", "5", "99999999999999999999", "\xe9\xff"),
    ]
) | st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
header_names = st.sampled_from(
    [
        *(
            "Accept",
            "Accept-Encoding",
            "Authorization",
            "Connection",
            "Expect",
            "Upgrade",
            "Range",
            "If-None-Match",
        ),
        *("Content-Length", "Transfer-Encoding", "Host", "X-Odd", "HTTP2-Settings", "Sec-WebSocket-Key"),
    ]
)
headers = st.lists(st.tuples(header_names, header_values), max_size=6)


def through_the_application(method: str, path: str, query: str, fields: list[tuple[str, str]]) -> int:
    """Return the status of an answer without a server."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode("latin-1"),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in fields],
    }

    async def answer() -> None:
        await make_app()(scope, receive, send)

    asyncio.run(answer())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    status: int = sent[0]["status"]
    assert (method == "HEAD") <= (sent[1]["body"] == b"")
    return status


@given(methods, paths | st.text(max_size=10), queries, headers)
@example("GET", "/metrics", "name[]=" + "&name[]=".join(["x"] * 2000), [])
def test_odd_requests(method: str, path: str, query: str, fields: list[tuple[str, str]]) -> None:
    """Every request gets an answer, and none of them is a server error: 200 only for GET and HEAD of a page that is there."""
    status = through_the_application(method, path, query, fields)
    if path in ("/", "/metrics", "/-/healthy", "/-/ready"):
        assert status in ((200, 400) if method in ("GET", "HEAD") else (405,))
    else:
        assert status == 404


@given(queries)
def test_odd_names(query: str) -> None:
    """Whatever stands in `name[]`, the metrics come, or a 400."""
    assert through_the_application("GET", "/metrics", query, []) in (200, 400)


# --- through a socket


@contextmanager
def in_a_thread(encryption: Encryption | None = None) -> Iterator[int]:
    """Run a server in a thread of its own, and give its port."""
    [listener] = server.listen(["127.0.0.1:0"])
    number: int = listener.getsockname()[1]
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        loop.run_until_complete(server.serve(make_app(), [listener], stop, lambda: encryption))

    thread = threading.Thread(target=serve)
    thread.start()
    yield number
    loop.call_soon_threadsafe(stop.set)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    loop.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server of plain HTTP."""
    with in_a_thread() as number:
        yield number


def exchange(port: int, sent: bytes) -> bytes:
    """Send bytes, and the end of them, and return what comes until the server's end; fails if that does not come."""
    received = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE / 2) as client,
        suppress(ConnectionError),  # it may close before it has read everything
    ):
        client.sendall(sent)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            received += data
    return received


STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


def check(answer: bytes) -> None:
    statuses = [int(status) for status in STATUS.findall(answer)]
    assert all(status < 500 for status in statuses), answer


@given(methods, paths, queries, headers, st.booleans(), st.binary(max_size=200))
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@example("POST", "/metrics", "", [("Content-Length", "2000000")], True, b"x" * 2_000_000)
@example(
    "GET",
    "/metrics",
    "",
    [("Transfer-Encoding", "chunked")],
    True,
    b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n",
)
@example("GET", "/", "", [("Upgrade", "h2c"), ("HTTP2-Settings", "!"), ("Connection", "Upgrade")], True, b"")
@example("GET", "/", "", [("Upgrade", "websocket"), ("Connection", "Upgrade")], True, b"")
@example(
    "GET",
    "/",
    "",
    [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "é")],
    True,
    b"",
)
@example("GET", "/", "", [("Expect", "100-continue"), ("Content-Length", "5")], True, b"hello")
def test_odd_requests_over_a_socket(  # noqa: PLR0917
    port: int,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    query: str,
    fields: list[tuple[str, str]],
    host: bool,
    body: bytes,
) -> None:
    """Every request, well formed or not, gets an answer below 500 or a closed connection, and leaves nothing in the log."""
    target = f"{path}?{query}" if query else path
    lines = [
        f"{method} {target} HTTP/1.1",
        *(["Host: x"] if host else []),
        *(f"{name}: {value}" for name, value in fields),
    ]
    with caplog.at_level(logging.INFO):
        check(exchange(port, "\r\n".join([*lines, "", ""]).encode("latin-1") + body))
    assert caplog.records == []


@given(st.binary(max_size=300))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x02\x01\x05\0\0\0\x01\x84\x86")
@example(b"GET / HTTP/9.9\r\n\r\n")
@example(b"GET /\r\n\r\n")
@example(b"\r\n\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
@example(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200)
@example(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
def test_odd_bytes_over_a_socket(port: int, caplog: pytest.LogCaptureFixture, sent: bytes) -> None:
    """So does whatever is no request at all."""
    with caplog.at_level(logging.INFO):
        check(exchange(port, sent))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, 431),
        (b"GET /" + b"x" * 20_000, 431),
        (b"OPTIONS /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nname[]=up", 405),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: \xe9, Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    ],
)
def test_statuses(port: int, sent: bytes, status: int) -> None:
    """What is wrong with a request is said by the status that HTTP has for it."""
    assert STATUS.findall(exchange(port, sent))[0] == b"%d" % status


# --- HTTP/2


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[tuple[int, ssl.SSLContext]]:
    """The port of a TLS server, and how to speak HTTP/2 to it."""
    issued = authority.ca.issue_cert("127.0.0.1")
    texts = (issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode())
    tls = Tls(certificate=Pem("cert", texts[0], None), key=Pem("key", texts[1], None))
    context = authority.client()
    context.set_alpn_protocols(["h2"])
    with in_a_thread(make_encryption(tls)) as number:
        yield number, context


def exchange_frames(port: int, context: ssl.SSLContext, sent: bytes) -> bytes:
    """Send bytes over TLS until the server has answered or closed; return what came first."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE / 2) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(sent)
        return client.recv(65536)


names = st.sampled_from(
    [":method", ":path", ":scheme", ":authority", "accept", "content-length", ":status", "X", ""]
)
values = st.sampled_from(
    ["GET", "/metrics", "/\xff", "CONNECT", "", "-1", "5", "https", "a b", "\r\n"]
) | st.text(st.characters(max_codepoint=0xFF), max_size=10)
blocks = st.lists(st.tuples(names, values), max_size=8).map(
    lambda fields: hpack.Encoder().encode(
        [(name.encode(), value.encode("latin-1")) for name, value in fields]
    )
)
frames = st.builds(
    lambda kind, flags, stream, block: (
        b"%b%c%c%b%b" % (len(block).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), block)
    ),
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 0x25, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 1000]),
    blocks | st.binary(max_size=20),
)
GOOD = hpack.Encoder().encode([(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "x")])


@given(st.lists(frames, max_size=5))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@example([len(GOOD).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + GOOD])
def test_odd_frames(
    secure: tuple[int, ssl.SSLContext], caplog: pytest.LogCaptureFixture, frames: list[bytes]
) -> None:
    """Over HTTP/2 too, odd requests and what is none leave nothing in the log; the server goes on."""
    opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
    with caplog.at_level(logging.INFO):
        assert exchange_frames(*secure, opening + b"".join(frames))
    assert caplog.records == []
