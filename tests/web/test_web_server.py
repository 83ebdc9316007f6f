import asyncio
import errno
import gzip
import http.client
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypercorn.config import Config

from qmail_exporter.web import app as web
from qmail_exporter.web import connections, server
from qmail_exporter.web.connections import Connections, Limits
from qmail_exporter.web.memory import give_back
from webrig import DEADLINE, Serving, ended, fetch, make_app, nothing, run, serving


def test_http() -> None:
    """The pages are served to a plain HTTP client: status, headers, both formats, gzip, filter, HEAD, wrong method."""

    async def scenario() -> None:
        async with serving(make_app()) as running:
            response, body = await fetch(running.port)
            assert response.status == 200
            assert body.endswith(b'qmail_queue_messages{queue="default"} 12.0\n')
            assert response.headers["Content-Length"] == str(len(body))
            assert response.headers["Server"] is None

            response, body = await fetch(running.port, Accept="application/openmetrics-text")
            assert response.headers["Content-Type"] == web.OPENMETRICS
            assert body.endswith(b"# EOF\n")

            response, body = await fetch(running.port, accept_encoding="gzip")
            assert response.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(body).endswith(b"12.0\n")

            assert (await fetch(running.port, "/metrics?name[]=other"))[1] == b""
            assert (await fetch(running.port, "/metrics?name[]=%zz"))[0].status == 400
            response, body = await fetch(running.port, method="HEAD")
            assert (response.status, int(response.headers["Content-Length"]) > 0, body) == (200, True, b"")
            response, _ = await fetch(running.port, method="POST")
            assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
            assert (await fetch(running.port, "/-/healthy"))[1] == b"Healthy.\n"

    run(scenario)


def test_one_connection_for_two_requests() -> None:
    """A connection is kept for the next request."""

    def two(port: int) -> list[bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        bodies = []
        for path in ("/-/healthy", "/-/ready"):
            connection.request("GET", path)
            bodies.append(connection.getresponse().read())
            assert connection.sock is not None, "closed by the server"
        connection.close()
        return bodies

    async def scenario() -> None:
        async with serving(make_app()) as running:
            assert await asyncio.to_thread(two, running.port) == [b"Healthy.\n", b"Ready.\n"]

    run(scenario)


def test_too_many_scrapes() -> None:
    """With the one permitted scrape under way another gets 503, and the first its metrics."""

    async def scenario() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def refresh() -> None:
            begun.set()
            await release.wait()

        async with serving(make_app(refresh, max_requests=1)) as running:
            first = asyncio.create_task(fetch(running.port))
            await begun.wait()
            assert (await fetch(running.port))[0].status == 503
            release.set()
            assert (await first)[0].status == 200

    run(scenario)


async def drip(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection that begins a request and never ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Sl")
    return reader, writer


def test_scrape_beside_slow_clients() -> None:
    """Clients that do not finish their requests do not delay one that does."""

    async def scenario() -> None:
        async with serving(make_app()) as running:
            slow = [await drip(running.port) for _ in range(60)]
            assert (await fetch(running.port))[0].status == 200
            for _, writer in slow:
                writer.close()

    run(scenario)


def test_slow_header_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose header does not come in time is closed."""
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 0.05)
    monkeypatch.setattr(Config, "keep_alive_timeout", 3600)  # hypercorn's own 5 seconds would do it too

    async def scenario() -> None:
        async with serving(make_app()) as running:
            reader, writer = await drip(running.port)
            assert await ended(reader) == b""
            writer.close()

    run(scenario)


def test_connection_lasts_until_the_next_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which a request was answered is kept for longer than one that waits for its first."""
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 0.05)

    async def scenario() -> None:
        async with serving(make_app()) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            for _ in range(2):
                writer.write(b"HEAD /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                slow, other = await drip(running.port)
                assert await ended(slow) == b""
                other.close()
            writer.close()

    run(scenario)


def test_idle_connection_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which no further request comes in time is closed, and so is one whose next header is not finished."""
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 0.05)
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 3600)  # that of a first request is another
    monkeypatch.setattr(Config, "keep_alive_timeout", 3600)  # hypercorn's own 5 seconds would do it too

    async def scenario() -> None:
        async with serving(make_app()) as running:
            for more in (b"", b"GET /metrics HTTP/1.1\r\nX-Sl"):
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(b"HEAD /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n" + more)
                assert (await ended(reader)).startswith(b"HTTP/1.1 200 ")
                writer.close()

    run(scenario)


def test_header_is_bounded() -> None:
    """A header beyond 16 KiB is refused."""

    async def scenario() -> None:
        async with serving(make_app()) as running:
            reader, writer = await drip(running.port)
            writer.write(b"x" * 40_000)
            assert (await ended(reader)).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
            writer.close()

    run(scenario)


def test_oldest_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more connections than the limit the oldest is closed, the later ones and the new one live."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)

    async def scenario() -> None:
        async with serving(make_app()) as running:
            slow = [await drip(running.port) for _ in range(3)]
            assert (await fetch(running.port))[0].status == 200
            assert await ended(slow[0][0]) == b""
            slow[2][1].write(b"ow: 1\r\nConnection: close\r\n\r\n")
            assert (await ended(slow[2][0])).startswith(b"HTTP/1.1 200 ")
            for _, writer in slow:
                writer.close()

    run(scenario)


def test_closed_connections_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open connection is not closed for the sake of ones that are closed already."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)

    async def scenario() -> None:
        async with serving(make_app()) as running:
            reader, writer = await drip(running.port)
            for _ in range(9):
                await fetch(running.port, Connection="close")
            writer.write(b"ow: 1\r\nConnection: close\r\n\r\n")
            assert (await ended(reader)).startswith(b"HTTP/1.1 200 ")
            writer.close()

    run(scenario)


def test_stop_lets_a_scrape_finish() -> None:
    """A scrape under way at the stop gets its whole answer; then the server ends, and its port is free."""

    async def scenario() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def refresh() -> None:
            begun.set()
            await release.wait()

        async with serving(make_app(refresh)) as running:
            scrape = asyncio.create_task(fetch(running.port))
            await begun.wait()
            running.stop.set()
            await asyncio.sleep(0)
            release.set()
            response, body = await scrape
            assert (response.status, body.endswith(b"12.0\n")) == (200, True)
            await running.task
            [again] = server.listen([f"127.0.0.1:{running.port}"])
            again.close()

    run(scenario)


def test_stop_ends_idle_connections_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections without a request do not delay the stop."""
    monkeypatch.setattr(server, "GRACE", 10 * DEADLINE)

    async def scenario() -> None:
        async with serving(make_app()) as running:
            reader, writer = await drip(running.port)
            assert (await fetch(running.port))[0].status == 200  # both are accepted by now
            running.stop.set()
            assert await ended(reader) == b""
            writer.close()

    run(scenario)


@pytest.mark.parametrize("hanging", ["reader", "refresh"])
def test_stop_cuts_off_what_hangs(monkeypatch: pytest.MonkeyPatch, hanging: str) -> None:
    """Neither a client that does not read its answer nor a scrape that does not end holds up the stop for ever."""
    monkeypatch.setattr(server, "GRACE", 0.1)

    async def scenario() -> None:
        begun = asyncio.Event()

        async def refresh() -> None:
            begun.set()
            await asyncio.Event().wait()

        app = make_app(nothing if hanging == "reader" else refresh, page="x" * 50_000_000)
        async with serving(app) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1000)
            path = "/" if hanging == "reader" else "/metrics"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await (reader.readuntil(b"xxx") if hanging == "reader" else begun.wait())
            running.stop.set()
            await asyncio.wait_for(running.task, DEADLINE)
            writer.close()

    run(scenario)


def test_serving_can_be_cancelled() -> None:
    """Cancelling the server's task closes its sockets."""

    async def scenario() -> None:
        running = Serving(make_app(), server.listen(["127.0.0.1:0"]))
        await fetch(running.port, "/-/healthy")
        running.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running.task, DEADLINE)
        server.listen([f"127.0.0.1:{running.port}"])[0].close()

    run(scenario)


def test_unix_socket(tmp_path: Path) -> None:
    """A Unix socket, as systemd may pass one, is served like the others."""

    async def scenario() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "web"))
        listener.listen()
        running = Serving(make_app(), [listener])
        reader, writer = await asyncio.open_unix_connection(tmp_path / "web")
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await ended(reader)).endswith(b"Healthy.\n")
        writer.close()
        running.stop.set()
        await asyncio.wait_for(running.task, DEADLINE)

    run(scenario)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_addresses(host: str) -> None:
    """A port alone is reached through IPv4 and IPv6."""

    async def scenario() -> None:
        async with serving(make_app(), ":0") as running:
            assert (await fetch(running.port, host=host))[0].status == 200

    run(scenario)


@needs_ipv6
def test_ipv6_address() -> None:
    """An IPv6 address in brackets is that address only."""

    async def scenario() -> None:
        async with serving(make_app(), "[::1]:0") as running:
            assert (await fetch(running.port, host="::1"))[0].status == 200
            with pytest.raises(ConnectionRefusedError):
                await fetch(running.port, host="127.0.0.1")

    run(scenario)


@needs_ipv6
def test_both_any_addresses_side_by_side() -> None:
    """The two any-addresses, written out, do not take each other's port."""
    [first] = server.listen(["0.0.0.0:0"])
    [second] = server.listen([f"[::]:{first.getsockname()[1]}"])
    first.close()
    second.close()


def test_several_addresses() -> None:
    """Every one of several sockets is served."""

    async def scenario() -> None:
        sockets = server.listen(["127.0.0.1:0", "127.0.0.2:0"])
        ports = [sock.getsockname()[1] for sock in sockets]
        running = Serving(make_app(), sockets)
        for host, port in zip(["127.0.0.1", "127.0.0.2"], ports, strict=True):
            assert (await fetch(port, host=host))[0].status == 200
        running.stop.set()
        await asyncio.wait_for(running.task, DEADLINE)

    run(scenario)


def test_name() -> None:
    """A name is reached at each address of it that this host has."""

    async def scenario() -> None:
        async with serving(make_app(), "localhost:0") as running:
            assert (await fetch(running.port, host="localhost"))[0].status == 200

    run(scenario)


@pytest.mark.parametrize("where", ["127.0.0.1:0", ":0", pytest.param("[::1]:0", marks=needs_ipv6)])
def test_address_of_a_socket(where: str) -> None:
    """A socket's address is written in the form that can be listened on again."""
    [sock] = server.listen([where])
    written = server.address(sock)
    assert written.endswith(f":{sock.getsockname()[1]}")
    sock.close()
    [again] = server.listen([written])
    assert server.address(again) == written
    again.close()


def test_address_of_a_unix_socket(tmp_path: Path) -> None:
    """A Unix socket's address is its path."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "web"))
        assert server.address(sock) == f"{tmp_path}/web"


def test_all_addresses_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no IPv6 a port alone is all IPv4 addresses."""
    bind = server._bind

    def without_ipv6(family: int, where: tuple[object, ...], *, dual: bool = False) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return bind(family, where, dual=dual)

    monkeypatch.setattr(server, "_bind", without_ipv6)
    [sock] = server.listen([":0"])
    assert sock.family == socket.AF_INET
    assert sock.getsockname()[0] == "0.0.0.0"
    sock.close()


def resolve_to(*found: tuple[int, tuple[object, ...]]) -> Callable[..., list[tuple[object, ...]]]:
    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(family, socket.SOCK_STREAM, 6, "", where) for family, where in found]

    return getaddrinfo


def test_name_with_an_address_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of a name that this host lacks is left out, unless it lacks them all."""
    here = (socket.AF_INET, ("127.0.0.1", 0))
    # 240.0.0.0/4 is reserved (RFC 1112): no host has such an address.
    elsewhere, nowhere = (socket.AF_INET, ("240.0.0.1", 0)), (socket.AF_INET, ("240.0.0.2", 0))
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to(elsewhere, here))
    [sock] = server.listen(["mail.example:0"])
    assert sock.getsockname()[0] == "127.0.0.1"
    sock.close()
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to(elsewhere, nowhere))
    with pytest.raises(server.ListenError) as caught:
        server.listen(["mail.example:0"])
    assert str(caught.value) == "cannot listen on mail.example:0: Cannot assign requested address"


def test_address_in_use() -> None:
    """An address that is taken is named in the error, and the sockets opened before it are closed."""
    [taken] = server.listen(["127.0.0.1:0"])
    port = taken.getsockname()[1]
    with pytest.raises(server.ListenError) as caught:
        server.listen(["127.0.0.1:0", f"127.0.0.1:{port}"])
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    taken.close()


def test_port_in_use() -> None:
    """A port alone that is taken is an error, not a reason to leave one family out."""
    [taken] = server.listen([":0"])
    port = taken.getsockname()[1]
    with pytest.raises(server.ListenError, match=f"^cannot listen on :{port}: Address already in use$"):
        server.listen([f":{port}"])
    taken.close()


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve is named in the error."""

    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(server.ListenError) as caught:
        server.listen(["mail.example:1"])
    assert str(caught.value) == "cannot listen on mail.example:1: Name or service not known"


def test_no_more_descriptors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When no descriptor is left for a connection, that is told, an idle one gives way, and serving goes on."""
    monkeypatch.setattr(connections, "_RETRY", 0.01)
    failing = [errno.ECONNABORTED, errno.EMFILE]
    held: list[asyncio.StreamReader] = []

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            accepted = super().accept()
            if held and failing:
                accepted[0].close()
                raise OSError(failing[0], os.strerror(failing.pop(0)))
            return accepted

    async def scenario() -> None:
        [made] = server.listen(["127.0.0.1:0"])
        running = Serving(make_app(), [Listener(made.family, made.type, made.proto, fileno=made.detach())])
        port = running.port
        assert (await fetch(port))[0].status == 200
        reader, writer = await drip(port)
        assert (await fetch(port))[0].status == 200
        held.append(reader)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await fetch(port)
        assert await ended(reader) == b""
        assert (await fetch(port))[0].status == 200
        writer.close()
        running.stop.set()
        await asyncio.wait_for(running.task, DEADLINE)

    run(scenario)
    assert [record.getMessage() for record in caplog.records] == ["a connection cannot be accepted"]


def test_a_listener_that_is_none_ends_the_server() -> None:
    """A socket that nothing can be accepted from is an error, and no endless loop."""

    async def scenario() -> None:
        with pytest.raises(OSError, match="Invalid argument"):
            await server.serve(make_app(), [socket.socket()], asyncio.Event())

    run(scenario)


def test_memory_is_given_back_after_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """When most of many connections have ended, free memory is given back, once; after a few nothing is done."""
    given: asyncio.Queue[None] = asyncio.Queue()
    monkeypatch.setattr(connections, "give_back", lambda: given.put_nowait(None))
    monkeypatch.setattr(connections, "_SETTLED", 0)

    async def scenario() -> None:
        async with serving(make_app()) as running:
            for _ in range(40):
                await fetch(running.port)
            assert given.empty()
            crowd = [await drip(running.port) for _ in range(40)]
            assert (await fetch(running.port))[0].status == 200
            for _, writer in crowd:
                writer.close()
            await asyncio.wait_for(given.get(), DEADLINE)
        assert given.empty()

    run(scenario)


def test_give_back() -> None:
    """Giving memory back works with this C library, or does nothing."""
    kept = [bytes(1000) for _ in range(1000)]
    give_back()
    assert len(kept) == 1000


def test_connections_do_not_wait_for_acknowledgements() -> None:
    """What is accepted sends at once (TCP_NODELAY), as an answer is several writes."""

    async def scenario() -> None:
        limits = Limits(connections=1, header=1, idle=1, close=1, grace=1)
        made = Connections(make_app(), limits, lambda: None)
        with server.listen(["127.0.0.1:0"])[0] as listener, socket.create_connection(listener.getsockname()):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            made._begin(accepted)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await made.close()

    run(scenario)
