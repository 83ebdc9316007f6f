"""Certificates that tests make, and the files that a web configuration names."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass
class Authority:
    """A certificate authority, for this host's name and for clients."""

    ca: trustme.CA

    def write(self, directory: Path, *, name: str = "exporter", host: str = "127.0.0.1") -> None:
        """Write NAME.crt and NAME.key, of a server."""
        issued = self.ca.issue_cert(host)
        issued.cert_chain_pems[0].write_to_path(directory / f"{name}.crt")
        issued.private_key_pem.write_to_path(directory / f"{name}.key")

    def write_ca(self, path: Path) -> None:
        """Write its own certificate."""
        self.ca.cert_pem.write_to_path(path)

    def client(self, *names: str, **settings: object) -> ssl.SSLContext:
        """Return a client's context that trusts this authority; with a certificate for `names` if there are any."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if names:
            self.ca.issue_cert(*names).configure_cert(context)
        for name, value in settings.items():
            setattr(context, name, value)
        return context


def make_authority() -> Authority:
    """Return a new authority."""
    return Authority(trustme.CA())
