"""Files below `control/`, read as qmail reads them (control.c, constmap.c, qmail-control(5)).

Spaces, tabs and newlines at the end of a line do not count; a carriage return does, so a file with DOS line ends is as
broken here as it is to qmail. Nothing is an error: what qmail ignores is ignored. Whether a file exists, and what
stands in for one that does not, is the caller's matter; the defaults of qmail's programs are the constants here.
"""

import re
from typing import NamedTuple

CONCURRENCY_LOCAL = 10
CONCURRENCY_REMOTE = 20
QUEUE_LIFETIME = 604800
TIMEOUT_CONNECT = 60
TIMEOUT_REMOTE = 1200
SMTP_PORT = 25

_BLANK = b" \t\n"
_DIGITS = re.compile(rb"[0-9]*")
# Where stock qmail-remote ends a route, patches for SMTP authentication go on: a user and a password follow.
_SECRET = re.compile(rb"[ \t|]")


class Route(NamedTuple):
    """One line of `smtproutes`: mail for `domain` goes to `relay`, or by MX as usual if that is empty."""

    domain: bytes
    relay: bytes
    port: int


def parse_value(content: bytes) -> bytes:
    """Return the first line (control_readline): b"" for an empty file, which is a value too, not a missing one."""
    return content.partition(b"\n")[0].rstrip(_BLANK)


def parse_int(content: bytes) -> int | None:
    """Return the number that the first line begins with, or None if it begins with none (control_readint).

    None means that qmail stays with its default; so "7d" is 7, and "-1" or " 7" are the default. As in qmail the
    number is cut to a C int, so that what is too large comes out small or negative.
    """
    digits = _DIGITS.match(content)
    if not digits or not digits[0]:
        return None
    # 2**32 divides 10**32, so the digits before the last 32 do not count; a file may hold a great many.
    return (int(digits[0][-32:]) + 2**31) % 2**32 - 2**31


def parse_list(content: bytes) -> tuple[bytes, ...]:
    """Return the lines that are neither empty nor a comment (control_readfile).

    A NUL within a line ends an entry and begins another, since qmail keeps the list as strings of C.
    """
    entries: list[bytes] = []
    for line in content.split(b"\n"):
        entry = line.rstrip(_BLANK)
        if entry and entry[0] not in b"#\0":
            entries += entry.split(b"\0")
    return tuple(entries)


def parse_routes(content: bytes) -> tuple[Route, ...]:
    """Return the routes of `smtproutes`, one for each line with a colon, as `domain:relay[:port]`.

    What follows a port, a space, a tab or a `|` is dropped: patched qmail-remotes keep passwords there. A port that is no
    number is 0, as in qmail; one above 65535 is cut to 16 bits, as in the address that qmail connects to.
    """
    return tuple(_route(*entry.split(b":", 1)) for entry in parse_list(content) if b":" in entry)


def route_for(routes: tuple[Route, ...], domain: bytes) -> Route | None:
    """Return the route that qmail-remote takes to a domain, or None if none applies.

    It looks for the whole domain, then for what begins at each of its dots (the dot included), then for the empty
    domain, without regard to ASCII case. Of several lines for one name the last counts.
    """
    table = {route.domain.lower(): route for route in routes}
    name = domain.lower()
    dots = (index for index in range(1, len(name)) if name[index] == ord("."))
    # Only what is as long as some name of the file is cut off and looked up: a name may be nothing but dots.
    lengths = {len(known) for known in table}
    starts = [start for start in (0, *dots, len(name)) if len(name) - start in lengths]
    return next((table[name[start:]] for start in starts if name[start:] in table), None)


def _route(domain: bytes, target: bytes) -> Route:
    """Split the second half of a route."""
    relay, colon, port = target.partition(b":")
    relay = _SECRET.split(relay, maxsplit=1)[0]
    return Route(domain, relay, (parse_int(port) or 0) % 2**16 if colon else SMTP_PORT)
