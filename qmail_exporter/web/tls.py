"""TLS contexts made from settings."""

import os
import ssl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from qmail_exporter.web.settings import IF_GIVEN, NO_CERTIFICATE, REQUIRED, Pem, Tls

_VERIFY = {NO_CERTIFICATE: ssl.CERT_NONE, IF_GIVEN: ssl.CERT_OPTIONAL, REQUIRED: ssl.CERT_REQUIRED}
_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class Encryption:
    """What a connection is encrypted with.

    Attributes:
        context: for the server's side.
        client_sans: the names of which a client's certificate must have one; empty is any.
    """

    context: ssl.SSLContext
    client_sans: frozenset[str] = frozenset()

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Tell whether a client with that certificate, as `SSLObject.getpeercert` returns it, may go on."""
        return not self.client_sans or not self.client_sans.isdisjoint(alternative_names(certificate or {}))


def alternative_names(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Yield a certificate's names: DNS, e-mail, IP address, URI."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            yield name
        elif kind == "IP Address":
            yield str(ip_address(name.strip()))  # OpenSSL writes all eight groups


def make_encryption(tls: Tls) -> Encryption:
    """Return what settings say, with their certificates and keys read.

    Raises:
        ValueError: a file cannot be read or holds something else, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Renegotiation costs the server more than the client, who may ask for it without end.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.server_order:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 and 1.1 are known to be old
        context.minimum_version = _VERSIONS[tls.min_version]
        context.maximum_version = _VERSIONS[tls.max_version]
    _set_ciphers(context, tls)
    if tls.curve:
        _set_curve(context, tls.curve)
    context.set_alpn_protocols(["h2", "http/1.1"] if tls.http2 else ["http/1.1"])
    _load_certificate(context, tls.certificate, tls.key)
    if tls.client_ca is not None:
        _load_authority(context, tls.client_ca)
        context.verify_mode = _VERIFY[tls.client_auth]
        # As in Go, whatever certificate stands in the file is trusted, a root or not.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return Encryption(context, tls.client_sans)


def _set_ciphers(context: ssl.SSLContext, tls: Tls) -> None:
    # TLS 1.0 and 1.1 sign with SHA-1, which OpenSSL has only at its lowest level.
    old = tls.min_version in ("TLS10", "TLS11")
    if tls.ciphers or old:
        context.set_ciphers(":".join([*(tls.ciphers or ("DEFAULT",)), *(["@SECLEVEL=0"] if old else [])]))


def _set_curve(context: ssl.SSLContext, curve: str) -> None:
    try:
        context.set_ecdh_curve(curve)
    except (ssl.SSLError, ValueError) as error:  # X25519 came with some release of Python 3.11
        raise ValueError(
            f"tls_server_config.curve_preferences: {curve} cannot be set with this Python"
        ) from error


def _load_certificate(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    chain, private = _read(certificate), _read(key)
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        raise ValueError(f"{certificate.name}: no certificate in PEM")
    if b"PRIVATE KEY-----" not in private:
        raise ValueError(f"{key.name}: no private key in PEM")
    try:
        with _as_file(chain) as chain_file, _as_file(private) as key_file:
            context.load_cert_chain(chain_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise ValueError(f"{key.name}: not the key of the certificate ({certificate.name})") from error
        raise ValueError(f"{certificate.name}, {key.name}: cannot be used: {_reason(error)}") from error
    except OSError as error:
        raise ValueError(f"{certificate.name}, {key.name}: cannot be used: {error}") from error
    except _EncryptedError as error:
        raise ValueError(f"{key.name}: is encrypted, and there is nobody to ask for a password") from error


def _load_authority(context: ssl.SSLContext, authority: Pem) -> None:
    text = _read(authority)
    try:
        context.load_verify_locations(cadata=text.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{authority.name}: no certificates in PEM") from error


class _EncryptedError(Exception):
    pass


def _no_password() -> bytes:
    raise _EncryptedError


def _read(pem: Pem) -> bytes:
    if pem.path is None:
        return pem.text.encode()
    try:
        return pem.path.read_bytes()
    except OSError as error:
        raise ValueError(f"{pem.name}: {error.strerror or error}") from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give the path of a file in memory: OpenSSL takes a certificate and its key only from files, and a key is kept off the disk."""
    fd = os.memfd_create("pem")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
