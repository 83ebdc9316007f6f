import asyncio
import http.client
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trustme
from hypercorn.config import Config

from certificates import Authority, make_authority
from qmail_exporter.web import server
from qmail_exporter.web.document import parse
from qmail_exporter.web.settings import parse_settings
from qmail_exporter.web.tls import Encryption, alternative_names, make_encryption
from soak.held import open_descriptors
from webrig import DEADLINE, Serving, ended, fetch, make_app, run, serving

FILES = "cert_file: exporter.crt, key_file: exporter.key"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return make_authority()


@pytest.fixture
def pki(tmp_path: Path, authority: Authority) -> Path:
    """A directory with the server's certificate and the authority."""
    authority.write(tmp_path)
    authority.write_ca(tmp_path / "ca.crt")
    return tmp_path


def encryption(directory: Path, more: str = "", *, files: str = FILES, http: str = "{}") -> Encryption:
    text = f"tls_server_config: {{{files}, {more}}}\nhttp_server_config: {http}"
    tls = parse_settings(parse(text.encode()), directory).tls
    assert tls is not None
    return make_encryption(tls)


@asynccontextmanager
async def encrypted(directory: Path, more: str = "", **given: str) -> AsyncIterator[Serving]:
    made = encryption(directory, more, **given)
    async with serving(make_app(), encryption=lambda: made) as running:
        yield running


def test_https(pki: Path, authority: Authority) -> None:
    """The pages are served over TLS to a client that trusts the authority."""

    async def scenario() -> None:
        async with encrypted(pki) as running:
            response, body = await fetch(running.port, context=authority.client())
            assert (response.status, body.endswith(b"12.0\n")) == (200, True)

    run(scenario)


def test_texts_in_place_of_files(tmp_path: Path, authority: Authority) -> None:
    """Certificate, key and authority may stand in the configuration, and nothing of them is written to a disk."""
    issued = authority.ca.issue_cert("127.0.0.1")
    texts = {
        "cert": issued.cert_chain_pems[0].bytes(),
        "key": issued.private_key_pem.bytes(),
        "client_ca": authority.ca.cert_pem.bytes(),
    }
    files = ", ".join(f"{name}: {text.decode()!r}".replace("'", '"') for name, text in texts.items())

    async def scenario() -> None:
        wanted = "client_auth_type: RequireAndVerifyClientCert"
        async with encrypted(tmp_path, wanted, files=files) as running:
            assert (await fetch(running.port, context=authority.client("me.example")))[0].status == 200

    run(scenario)
    assert list(tmp_path.iterdir()) == []


VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize(
    ("more", "spoken"),
    [
        ("", {"TLS12", "TLS13"}),
        ("min_version: TLS13", {"TLS13"}),
        ("max_version: TLS12", {"TLS12"}),
        ("cipher_suites: [TLS_AES_128_GCM_SHA256]", {"TLS13"}),
    ],
)
def test_versions(pki: Path, authority: Authority, more: str, spoken: set[str]) -> None:
    """A client is served with the versions that are permitted, and with no other."""

    async def scenario() -> None:
        async with encrypted(pki, more) as running:
            for name, version in VERSIONS.items():
                context = authority.client(maximum_version=version, minimum_version=version)
                if name in spoken:
                    assert (await fetch(running.port, context=context))[0].status == 200
                else:
                    with pytest.raises(ssl.SSLError):
                        await fetch(running.port, context=context)

    run(scenario)


@pytest.mark.parametrize("version", ["TLS10", "TLS11"])
def test_old_versions(pki: Path, authority: Authority, version: str) -> None:
    """TLS 1.0 and 1.1 are spoken where they are asked for."""
    context = authority.client()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    old = {"TLS10": ssl.TLSVersion.TLSv1, "TLS11": ssl.TLSVersion.TLSv1_1}[version]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = old

    async def scenario() -> None:
        async with encrypted(pki, f"min_version: {version}") as running:
            assert (await fetch(running.port, context=context))[0].status == 200
        async with encrypted(pki) as running:
            with pytest.raises(ssl.SSLError):
                await fetch(running.port, context=context)

    run(scenario)


def negotiated(port: int, context: ssl.SSLContext) -> tuple[str, str | None]:
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as secure,
    ):
        cipher = secure.cipher()
        assert cipher is not None
        return cipher[0], secure.selected_alpn_protocol()


@pytest.mark.parametrize(
    ("preference", "chosen"),
    [("true", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("false", "ECDHE-ECDSA-CHACHA20-POLY1305")],
)
def test_order_of_ciphers(pki: Path, authority: Authority, preference: str, chosen: str) -> None:
    """The server's order decides, or the client's if the server's is not preferred; others than the named are not used."""
    names = [f"TLS_ECDHE_ECDSA_WITH_{name}" for name in ("AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")]
    more = f"cipher_suites: [{', '.join(names)}], prefer_server_cipher_suites: {preference}"
    context = authority.client(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384"
    )

    async def scenario() -> None:
        async with encrypted(pki, more) as running:
            assert (await asyncio.to_thread(negotiated, running.port, context))[0] == chosen

    run(scenario)


def has_x25519() -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve("X25519")
    except ssl.SSLError:
        return False
    return True


HAS_X25519 = has_x25519()
"""Python 3.10 has not, nor has 3.11.2, which is Debian 12's."""
x25519 = pytest.param("X25519", marks=pytest.mark.skipif(not HAS_X25519, reason="Python lacks it"))


@pytest.mark.parametrize("curve", [x25519, "CurveP256", "CurveP384", "CurveP521"])
def test_curve(pki: Path, authority: Authority, curve: str) -> None:
    """The curve that is set is the one that is used: a client with another cannot connect."""
    names = {
        "X25519": "X25519",
        "CurveP256": "prime256v1",
        "CurveP384": "secp384r1",
        "CurveP521": "secp521r1",
    }

    async def scenario() -> None:
        async with encrypted(pki, f"curve_preferences: [{curve}]") as running:
            context = authority.client()
            context.set_ecdh_curve(names[curve])
            assert (await fetch(running.port, context=context))[0].status == 200
            other = authority.client()
            other.set_ecdh_curve("secp384r1" if curve != "CurveP384" else "secp521r1")
            with pytest.raises(ssl.SSLError):
                await fetch(running.port, context=other)

    run(scenario)


@pytest.mark.skipif(HAS_X25519, reason="Python has it")
def test_a_curve_that_python_lacks(pki: Path) -> None:
    """Where X25519 cannot be set, that is said."""
    assert (
        mistaken(pki, "curve_preferences: [X25519]")
        == "curve_preferences: X25519 cannot be set with this Python"
    )


@pytest.mark.parametrize(("http", "offered"), [("{}", "h2"), ("{http2: false}", "http/1.1")])
def test_http2_is_offered(pki: Path, authority: Authority, http: str, offered: str) -> None:
    """HTTP/2 is offered unless it is switched off."""
    context = authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def scenario() -> None:
        async with encrypted(pki, http=http) as running:
            assert (await asyncio.to_thread(negotiated, running.port, context))[1] == offered

    run(scenario)


def over_http2(port: int, context: ssl.SSLContext, path: str) -> tuple[bytes, bytes]:
    """Return status and body of a request over HTTP/2, or what the server ended the connection with."""
    client = h2.connection.H2Connection(
        h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    )
    headers = [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "x")]
    status = body = b""
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as secure,
    ):
        client.initiate_connection()
        client.send_headers(1, [(name.encode(), value.encode()) for name, value in headers], end_stream=True)
        secure.sendall(client.data_to_send())
        while data := secure.recv(65536):
            for event in client.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers or [])[b":status"]
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data or b""
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body
            secure.sendall(client.data_to_send())
    return status, body


def test_http2(pki: Path, authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """A scrape over HTTP/2 gets its metrics; a path that is no ASCII ends the connection, and leaves nothing in the log."""
    context = authority.client()
    context.set_alpn_protocols(["h2"])

    async def scenario() -> None:
        async with encrypted(pki) as running:
            status, body = await asyncio.to_thread(over_http2, running.port, context, "/metrics")
            assert (status, body.endswith(b"12.0\n")) == (b"200", True)
            assert await asyncio.to_thread(over_http2, running.port, context, "/\xff") == (b"", b"")
            assert (await fetch(running.port, context=authority.client()))[0].status == 200

    run(scenario)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("policy", "nobody", "known", "unknown"),
    [
        ("NoClientCert", True, True, True),
        ("VerifyClientCertIfGiven", True, True, False),
        ("RequireAndVerifyClientCert", False, True, False),
    ],
)
def test_client_certificates(  # noqa: PLR0917
    pki: Path,
    authority: Authority,
    stranger: Authority,
    policy: str,
    nobody: bool,
    known: bool,
    unknown: bool,
) -> None:
    """Who gets in with no certificate, with one of the authority, and with one of another."""
    other = authority.client()
    stranger.ca.issue_cert("me.example").configure_cert(other)
    clients = [(authority.client(), nobody), (authority.client("me.example"), known), (other, unknown)]
    more = f"client_auth_type: {policy}" + (", client_ca_file: ca.crt" if policy != "NoClientCert" else "")

    async def scenario() -> None:
        async with encrypted(pki, more) as running:
            for context, admitted in clients:
                if admitted:
                    assert (await fetch(running.port, context=context))[0].status == 200
                else:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        await fetch(running.port, context=context)

    run(scenario)


@pytest.mark.parametrize("name", ["prometheus.example", "prom@example.org", "10.1.2.3", "2001:db8::1"])
def test_allowed_names(pki: Path, authority: Authority, name: str) -> None:
    """Of clients with a verified certificate only those with an allowed name get in."""
    more = f"client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt, client_allowed_sans: ['{name}']"

    async def scenario() -> None:
        async with encrypted(pki, more) as running:
            assert (await fetch(running.port, context=authority.client("x.example", name)))[0].status == 200
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                await fetch(running.port, context=authority.client("other.example", "10.1.2.4"))

    run(scenario)


def test_names_of_a_certificate() -> None:
    """All four kinds of names count, addresses in their short form; other fields do not."""
    certificate = {
        "subject": ((("commonName", "cn.example"),),),
        "subjectAltName": (
            ("DNS", "a.example"),
            ("email", "b@example"),
            ("URI", "spiffe://c"),
            ("IP Address", "2001:DB8:0:0:0:0:0:1"),
            ("DirName", "d"),
        ),
    }
    assert list(alternative_names(certificate)) == ["a.example", "b@example", "spiffe://c", "2001:db8::1"]


def test_an_intermediate_authority_suffices(pki: Path, authority: Authority) -> None:
    """As in Go, the authority in the file need not be a root."""
    child = authority.ca.create_child_ca()
    (pki / "ca.crt").write_bytes(child.cert_pem.bytes())
    context = authority.client()
    issued = child.issue_cert("me.example")
    with (
        issued.private_key_pem.tempfile() as key,
        trustme.Blob(issued.cert_chain_pems[0].bytes()).tempfile() as leaf,
    ):
        context.load_cert_chain(leaf, key)

    async def scenario() -> None:
        async with encrypted(
            pki, "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
        ) as running:
            assert (await fetch(running.port, context=context))[0].status == 200

    run(scenario)


def mistaken(directory: Path, more: str = "", files: str = FILES) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        encryption(directory, more, files=files)
    said = str(error.value)
    assert "\n" not in said
    return said.replace(str(directory), "DIR").replace("tls_server_config.", "")


def test_mistakes_in_files(pki: Path, stranger: Authority) -> None:
    """Each file that cannot serve is named, with what is wrong about it."""
    stranger.write(pki, name="other")
    (pki / "text").write_text("hello\n")
    (pki / "broken.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (pki / "high").write_bytes(b"\xff")
    assert (
        mistaken(pki, files="cert_file: none, key_file: exporter.key")
        == "cert_file: DIR/none: No such file or directory"
    )
    assert mistaken(pki, files="cert_file: ., key_file: exporter.key") == "cert_file: DIR: Is a directory"
    assert (
        mistaken(pki, files="cert_file: text, key_file: exporter.key")
        == "cert_file: DIR/text: no certificate in PEM"
    )
    assert (
        mistaken(pki, files="cert_file: exporter.crt, key_file: text")
        == "key_file: DIR/text: no private key in PEM"
    )
    assert mistaken(pki, files="cert_file: exporter.crt, key_file: other.key") == (
        "key_file: DIR/other.key: not the key of the certificate (cert_file: DIR/exporter.crt)"
    )
    assert mistaken(pki, files="cert_file: broken.crt, key_file: exporter.key").startswith(
        "cert_file: DIR/broken.crt, key_file: DIR/exporter.key: cannot be used: "
    )
    for wrong in ("text", "high", "broken.crt"):
        more = f"client_auth_type: RequireAndVerifyClientCert, client_ca_file: {wrong}"
        assert mistaken(pki, more) == f"client_ca_file: DIR/{wrong}: no certificates in PEM"


def test_an_encrypted_key_is_refused(pki: Path) -> None:
    """A key with a password is refused; nobody is asked for it, at a terminal or elsewhere."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - a heavy import, for one test

    key = serialization.load_pem_private_key((pki / "exporter.key").read_bytes(), None)
    (pki / "exporter.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert (
        mistaken(pki) == "key_file: DIR/exporter.key: is encrypted, and there is nobody to ask for a password"
    )


def test_files_in_memory_are_closed(pki: Path) -> None:
    """Making a context leaves no descriptor open."""
    before = open_descriptors()
    encryption(pki)
    assert open_descriptors() == before


async def connected(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


def test_plain_http_where_tls_is(pki: Path) -> None:
    """A client that speaks plain HTTP to the TLS port is told what to do."""

    async def scenario() -> None:
        async with encrypted(pki) as running:
            reader, writer = await connected(running.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await ended(reader)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 400 ")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head
            assert b"https://" in body

    run(scenario)


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize("sent", [b"", b"\x16", HELLO, HELLO + b"\0" * 100])
def test_unfinished_handshake_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pki: Path, sent: bytes
) -> None:
    """A connection whose handshake does not come in time is closed, without a word in the log."""
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 0.1)

    async def scenario() -> None:
        async with encrypted(pki) as running:
            reader, writer = await connected(running.port, sent)
            assert await asyncio.wait_for(ended(reader), DEADLINE / 2) == b""
            writer.close()

    run(scenario)
    assert caplog.records == []


@pytest.mark.parametrize(
    "sent", [b"\x16" * 1000, HELLO * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x80\x2e\x01\x00\x02"]
)
def test_no_handshake_at_all(
    caplog: pytest.LogCaptureFixture, pki: Path, authority: Authority, sent: bytes
) -> None:
    """Bytes that are no handshake end the connection, and leave no trace in the log; the next client is served."""

    async def scenario() -> None:
        async with encrypted(pki) as running:
            reader, writer = await connected(running.port, sent)
            assert b"HTTP/1.1 200" not in await ended(reader)
            writer.close()
            assert (await fetch(running.port, context=authority.client()))[0].status == 200

    run(scenario)
    assert caplog.records == []


def test_slow_header_over_tls(monkeypatch: pytest.MonkeyPatch, pki: Path, authority: Authority) -> None:
    """Over TLS too, a header that does not come in time is not waited for."""
    monkeypatch.setattr(server, "HEADER_TIMEOUT", 2)  # which the handshake has, too
    monkeypatch.setattr(Config, "keep_alive_timeout", 3600)  # hypercorn's own 5 seconds would do it too

    async def scenario() -> None:
        async with encrypted(pki) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=authority.client())
            writer.write(b"GET /metrics HTTP/1.1\r\nX-Sl")
            assert await ended(reader) == b""
            writer.close()

    run(scenario)


def test_stop_under_tls(monkeypatch: pytest.MonkeyPatch, pki: Path, authority: Authority) -> None:
    """Neither idle TLS connections, nor unfinished handshakes, nor one whose client never says farewell hold up the stop."""
    monkeypatch.setattr(server, "GRACE", 0.2)

    async def scenario() -> None:
        async with encrypted(pki) as running:
            idle = await asyncio.open_connection("127.0.0.1", running.port, ssl=authority.client())
            begun = await connected(running.port, HELLO)
            raw = socket.create_connection(("127.0.0.1", running.port))
            secure = await asyncio.to_thread(authority.client().wrap_socket, raw, server_hostname="127.0.0.1")
            secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            running.stop.set()
            await asyncio.wait_for(running.task, DEADLINE / 2)
            for _, writer in (idle, begun):
                writer.close()
            secure.close()

    run(scenario)


def test_handshakes_make_room(monkeypatch: pytest.MonkeyPatch, pki: Path, authority: Authority) -> None:
    """Of more connections than the limit those in a handshake give way; a request under way does not."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)

    async def scenario() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def refresh() -> None:
            begun.set()
            await release.wait()

        made = encryption(pki)
        async with serving(make_app(refresh), encryption=lambda: made) as running:
            scrape = asyncio.create_task(fetch(running.port, context=authority.client()))
            await begun.wait()
            held = [await connected(running.port, HELLO) for _ in range(9)]
            assert (await fetch(running.port, "/-/healthy", context=authority.client()))[0].status == 200
            release.set()
            assert (await scrape)[0].status == 200
            for _, writer in held:
                writer.close()

    run(scenario)


def test_tls_is_switched_from_one_connection_to_the_next(pki: Path, authority: Authority) -> None:
    """TLS can come, change and go while the server runs; an open connection stays what it is."""
    made: list[Encryption | None] = [None]

    async def scenario() -> None:
        async with serving(make_app(), encryption=lambda: made[0]) as running:
            kept = http.client.HTTPConnection("127.0.0.1", running.port, timeout=DEADLINE)

            def again() -> int:
                kept.request("GET", "/-/healthy")
                with kept.getresponse() as response:
                    response.read()
                    return response.status

            assert await asyncio.to_thread(again) == 200
            made[0] = encryption(pki)
            assert (await fetch(running.port, context=authority.client()))[0].status == 200
            assert (await fetch(running.port))[0].status == 400
            assert await asyncio.to_thread(again) == 200
            made[0] = encryption(pki, "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await fetch(running.port, context=authority.client())
            made[0] = None
            assert (await fetch(running.port))[0].status == 200
            kept.close()

    run(scenario)
