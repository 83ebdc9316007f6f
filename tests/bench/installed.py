"""The qmail that is installed, which some rows are held against: where it is, its version, and its programs on other queues."""

import os
import re
import shutil
from pathlib import Path

HOME = Path(os.environ.get("QMAIL_HOME", "/var/qmail"))
# In qmail(7); notqmail puts its name before the word.
_VERSION = re.compile(r"This documentation describes ((?:\w+\s+)?version\s+\S+)")


def described(told: str | None, home: Path = HOME) -> str:
    """Return a line on the qmail in `home`, with the version that was told, or else the one that its manual is for.

    No program of qmail's tells its version.
    """
    if not (home / "bin" / "qmail-send").exists():
        return f"no qmail in {home}, and no row beside it"
    if told is not None:
        return f"{told} in {home}"
    try:
        text = (home / "man" / "man7" / "qmail.7").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    if found := _VERSION.search(text):
        return f"qmail in {home}: {' '.join(found[1].split())}, as its manual page qmail(7) says"
    return f"qmail in {home}, of a version that it does not tell; see --qmail-version"


def bound(queue: Path, program: str) -> list[str] | None:
    """Return the command that runs a program of the installed qmail's on this queue; None where that cannot be had."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not os.access(HOME / "bin" / program, os.X_OK):
        return None
    script = 'mount --bind "$1" "$2/queue" && exec "$2/bin/$3"'
    return ["unshare", "-m", "sh", "-c", script, "sh", str(queue), str(HOME), program]
