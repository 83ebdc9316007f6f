"""What kind of qmail this is."""

import os
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


def flavour(home: Path, root: Path = Path("/")) -> str | None:
    """Return which qmail is installed in `home`, as far as its files tell; None if none seems to be."""
    for name, in_home, in_root in _FLAVOURS:
        places = [f"{home}{path}" for path in in_home] + [str(root / path) for path in in_root]
        if all(map(os.path.exists, places)):
            return name
    return None


def examine(home: Path, root: Path = Path("/")) -> Finding:
    """Say what is installed."""
    if not home.is_dir():
        return warn("home", f"{home} is not there: name qmail's home with --qmail.home")
    kind = flavour(home, root)
    return ok("home", f"{home}: {kind}") if kind else warn("home", f"{home}: no qmail-send is installed here")
