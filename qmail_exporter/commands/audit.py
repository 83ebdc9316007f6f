"""A line in syslog, and so in the journal, for what a command has changed: who, what, and which messages.

The facility is mail: the lines stand beside those of qmail itself, under the name `qmail-exporter`.
"""

import os
import pwd
import syslog
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_AT_ONCE = 50  # numbers in one line: syslog daemons cut lines at 1,024 bytes or soon after
_NO_LOGIN = 2**32 - 1


def write(action: str, queue: str, **fields: object) -> None:
    """Write one line: action, queue, who, and the fields."""
    values = {"action": action, "queue": queue, **_who(), **fields}
    text = " ".join(f"{key}={_plain(str(value))}" for key, value in values.items())
    syslog.openlog("qmail-exporter", syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_NOTICE, text)


@contextmanager
def trail(action: str, queue: str, **fields: object) -> Iterator[list[int]]:
    """Give a list to which the numbers of changed messages are added; they are written at the end, however it comes."""
    changed: list[int] = []
    try:
        yield changed
    finally:
        for start in range(0, len(changed), _AT_ONCE):
            part = changed[start : start + _AT_ONCE]
            write(action, queue, **fields, messages=len(part), ids=",".join(map(str, part)))


def _who() -> dict[str, object]:
    """Return who runs this: as whom, and as whom they came, by sudo's word and by the kernel's."""
    uid = os.getuid()
    found: dict[str, object] = {"uid": uid}
    with suppress(KeyError):
        found["user"] = pwd.getpwuid(uid).pw_name
    if sudo := os.environ.get("SUDO_USER"):
        found["sudo_user"] = sudo[:64]
    with suppress(OSError, ValueError), open("/proc/self/loginuid", encoding="ascii") as file:
        if (login := int(file.read())) != _NO_LOGIN:
            found["login_uid"] = login
    return found


def _plain(text: str) -> str:
    """Keep a value one word, so that it cannot pass for another key."""
    return "".join(c if "!" <= c <= "~" and c not in '="' else "_" for c in text)
