"""What the file of `--web.config.file` says: a document in exporter-toolkit's format becomes frozen dataclasses.

The format is that of https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What it allows and
this server cannot do is refused here, so that nobody relies on a setting without effect; so is what would be less safe than
it looks. Every mistake is a ValueError of one line, which names the key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from qmail_exporter.config import parse_duration
from qmail_exporter.web import ciphers
from qmail_exporter.web.document import Document, Section

VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")
NO_CERTIFICATE, IF_GIVEN, REQUIRED = (
    "NoClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
# Values that a header may have; None is any.
_HEADERS: dict[str, tuple[str, ...] | None] = {
    "Content-Security-Policy": None,
    "Strict-Transport-Security": None,
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": None,
}
_TLS_KEYS = (
    *("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file", "client_auth_type"),
    *("client_allowed_sans", "min_version", "max_version", "cipher_suites", "curve_preferences"),
    "prefer_server_cipher_suites",
)
_SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
_BCRYPT = re.compile(r"\$2[abxy]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII)
# A check takes twice as long with each step: some seconds at 16, which is what a scrape may take.
_COSTS = range(4, 17)
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates or a key in PEM: the text, or the file that it is in; `key` is where that was said."""

    key: str
    text: str = field(repr=False)
    path: Path | None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.key}: {self.path}" if self.path else self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How connections are encrypted.

    Attributes:
        certificate: that of the server, and perhaps the chain above it.
        key: its private key.
        client_auth: NO_CERTIFICATE, IF_GIVEN or REQUIRED.
        client_ca: who may sign clients' certificates; None only with NO_CERTIFICATE.
        client_sans: if not empty, a client's certificate must have one of these names.
        min_version: one of VERSIONS, as `max_version`.
        ciphers: OpenSSL's names for TLS 1.2 and before, in the order of preference; empty is the default.
        curve: OpenSSL's name of the only curve for the key exchange; empty is the default.
        server_order: whether the server's order of ciphers counts, and not the client's.
        http2: whether clients are offered HTTP/2.
    """

    certificate: Pem
    key: Pem
    client_auth: str = NO_CERTIFICATE
    client_ca: Pem | None = None
    client_sans: frozenset[str] = frozenset()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: tuple[str, ...] = ()
    curve: str = ""
    server_order: bool = True
    http2: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the rest is in."""
        return tuple(pem.path for pem in (self.certificate, self.key, self.client_ca) if pem and pem.path)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A bucket of `burst` requests, into which one is put every `interval` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole file.

    Attributes:
        tls: None is plain HTTP.
        headers: what every answer has, beside or in place of the usual ones; lower-case names.
        users: name and bcrypt hash; empty means that nobody is asked for a password.
        rate_limit: None is no limit.
    """

    tls: Tls | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    users: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    rate_limit: RateLimit | None = None


def parse_settings(document: Document, directory: Path) -> Settings:
    """Return the settings that a document holds; `directory` is what relative paths begin at, the file's.

    Raises:
        ValueError: an unknown key, a wrong value, or something that this server cannot do.
    """
    top = Section(document, _SECTIONS)
    http = top.section("http_server_config", ("http2", "headers"))
    tls = _tls(top.section("tls_server_config", _TLS_KEYS), directory, http2=http.flag("http2", default=True))
    return Settings(
        tls=tls,
        headers=_headers(http.section("headers", _HEADERS)),
        users=_users(top.section("basic_auth_users", None)),
        rate_limit=_rate_limit(top.section("rate_limit", ("interval", "burst"))),
    )


def _tls(section: Section, directory: Path, *, http2: bool) -> Tls | None:
    if not section:
        return None
    lowest, highest = _versions(section)
    certificate, key = (_pem(section, name, directory) for name in ("cert", "key"))
    if certificate is None or key is None:
        missing = "cert" if certificate is None else "key"
        raise ValueError(f"{section.where}: {missing}_file is missing, without which there is no TLS")
    suites = section.items("cipher_suites")
    client_auth, client_ca = _client_auth(section, directory)
    return Tls(
        certificate=certificate,
        key=key,
        client_auth=client_auth,
        client_ca=client_ca,
        client_sans=_client_sans(section, client_auth),
        # Without a suite for TLS 1.2 only what is above it can be spoken.
        min_version="TLS13" if ciphers.only_tls13(suites) else lowest,
        max_version=highest,
        ciphers=ciphers.suites(suites, section.at("cipher_suites"), highest),
        curve=ciphers.curve(section.items("curve_preferences"), section.at("curve_preferences")),
        server_order=section.flag("prefer_server_cipher_suites", default=True),
        http2=http2,
    )


def _versions(section: Section) -> tuple[str, str]:
    lowest = section.choice("min_version", VERSIONS, "TLS12")
    highest = section.choice("max_version", VERSIONS, "TLS13")
    if VERSIONS.index(lowest) > VERSIONS.index(highest):
        raise ValueError(f"{section.at('min_version')}: {lowest} is above max_version, {highest}")
    return lowest, highest


def _pem(section: Section, name: str, directory: Path) -> Pem | None:
    text, file = section.text(name), section.text(f"{name}_file")
    if text and file:
        raise ValueError(f"{section.at(name)}: given here and as {name}_file")
    if file:
        if "\0" in file:
            raise ValueError(f"{section.at(name)}_file: no path")
        return Pem(section.at(f"{name}_file"), "", directory / file)
    return Pem(section.at(name), text, None) if text else None


def _client_auth(section: Section, directory: Path) -> tuple[str, Pem | None]:
    where = section.at("client_auth_type")
    wanted = section.choice(
        "client_auth_type", (NO_CERTIFICATE, IF_GIVEN, REQUIRED, *_UNVERIFIED), NO_CERTIFICATE
    )
    if wanted in _UNVERIFIED:
        raise ValueError(
            f"{where}: {wanted} takes certificates that nobody verified, which is not possible here:"
            f" write {REQUIRED} or {NO_CERTIFICATE}"
        )
    authority = _pem(section, "client_ca", directory)
    if authority is None and wanted != NO_CERTIFICATE:
        raise ValueError(f"{where}: {wanted} needs client_ca_file, to verify with")
    if authority is not None and wanted == NO_CERTIFICATE:
        raise ValueError(f"{authority.key}: has no effect without client_auth_type, such as {REQUIRED}")
    return wanted, authority


def _client_sans(section: Section, client_auth: str) -> frozenset[str]:
    names = section.items("client_allowed_sans")
    if names and client_auth != REQUIRED:
        raise ValueError(f"{section.at('client_allowed_sans')}: needs client_auth_type {REQUIRED}")
    return frozenset(names)


def _headers(section: Section) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for name, value in section.texts():
        allowed = _HEADERS[name]
        if allowed is not None and value not in allowed:
            raise ValueError(f"{section.at(name)}: {value!r} is none of {', '.join(allowed)}")
        if not _PRINTABLE.fullmatch(value):
            raise ValueError(f"{section.at(name)}: has characters that a header cannot have")
        found.append((name.lower().encode("ascii"), value.strip().encode("ascii")))
    return tuple(found)


def _users(section: Section) -> Mapping[str, bytes]:
    users = {}
    for name, value in section.texts():
        if ":" in name or not name.isprintable():
            raise ValueError(f"{section.where}: {name!r} has characters that a user cannot have")
        hashed = _BCRYPT.fullmatch(value)
        # The value is not shown: who mistook this file's purpose wrote a password there.
        if hashed is None:
            raise ValueError(f"{section.at(name)}: no bcrypt hash; `htpasswd -nBC 10 {name}` makes one")
        if int(hashed[1]) not in _COSTS:
            raise ValueError(
                f"{section.at(name)}: the hash's cost is {int(hashed[1])}, and not from {_COSTS[0]} to {_COSTS[-1]}"
            )
        users[name] = value.encode("ascii")
    empty = set(section.keys()) - users.keys()
    if empty:
        raise ValueError(
            f"{section.at(min(empty))}: no bcrypt hash; `htpasswd -nBC 10 {min(empty)}` makes one"
        )
    return MappingProxyType(users)


def _rate_limit(section: Section) -> RateLimit | None:
    written = section.text("interval") or "0"
    interval = _interval(written, section.at("interval"))
    burst = section.text("burst") or "0"
    if not (burst.isascii() and burst.isdigit() and len(burst) < 10):
        raise ValueError(f"{section.at('burst')}: {burst!r} is no number of requests")
    if interval == 0:
        return None
    if int(burst) == 0:
        raise ValueError(f"{section.at('burst')}: 0 would let no request through")
    return RateLimit(interval, int(burst))


def _interval(written: str, where: str) -> float:
    try:
        seconds = parse_duration(written)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    # A bare number is nanoseconds in exporter-toolkit, and certainly not meant so.
    if seconds and not written.endswith(("s", "m", "h")):
        raise ValueError(f"{where}: {written!r} has no unit: write 1s, 500ms or 1m")
    return seconds
