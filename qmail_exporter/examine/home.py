"""What kind of qmail this is, and what starts it."""

import os
from collections.abc import Iterable
from pathlib import Path

from qmail_exporter.examine.finding import Finding, ok, warn

# The first that has all its files is it; the forks come before what they were made from.
_FLAVOURS = (
    ("Plesk's qmail", ("/bin/qmail-queue-handlers",), ()),
    ("Plesk's qmail", ("/handlers",), ("usr/local/psa/version",)),
    ("indimail", ("/bin/qmail-multi",), ()),
    ("indimail", (), ("etc/indimail/control",)),
    ("sagredo's qmail", ("/bin/surblqueue", "/plugins"), ()),
    ("notqmail", ("/doc/INSTALL.md",), ()),
    ("netqmail, or qmail 1.03", ("/bin/qmail-send",), ()),
)
_UNITS = ("qmail", "qmail-send", "qmail-exporter", "qmail-tcpok", "qmail-redeliver")
_UNIT_DIRECTORIES = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_SERVICES = ("service", "var/service", "etc/service", "service/qmail")


def flavour(home: Path, root: Path = Path("/")) -> str | None:
    """Return which qmail is installed in `home`, as far as its files tell; None if none seems to be."""
    for name, in_home, in_root in _FLAVOURS:
        places = [f"{home}{path}" for path in in_home] + [str(root / path) for path in in_root]
        if all(map(os.path.exists, places)):
            return name
    return None


def units(root: Path = Path("/")) -> list[str]:
    """Return the systemd units and supervised services of qmail and of the exporter that are there."""
    found = []
    for name in _UNITS:
        for directory in _UNIT_DIRECTORIES:
            found += [
                f"{root / directory / name}.{kind}"
                for kind in ("service", "socket")
                if os.path.exists(f"{root / directory / name}.{kind}")
            ]
    runs = (root / directory / "qmail-send" / "run" for directory in _SERVICES)
    return _once([*found, *(str(run.parent) for run in runs if run.exists())])


def examine(home: Path, root: Path = Path("/")) -> list[Finding]:
    """Say what is installed, and what starts it."""
    if not home.is_dir():
        return [warn("home", f"{home} is not there: name qmail's home with --qmail.home")]
    kind = flavour(home, root)
    found = [
        ok("home", f"{home}: {kind}") if kind else warn("home", f"{home}: no qmail-send is installed here")
    ]
    started_by = units(root)
    found.append(
        ok("units", ", ".join(started_by)) if started_by else warn("units", "none of qmail's were found")
    )
    return found


def _once(paths: Iterable[str]) -> list[str]:
    """Leave out what is the same file by another path: /lib is often /usr/lib."""
    return list({os.path.realpath(path): path for path in reversed(list(paths))}.values())[::-1]
