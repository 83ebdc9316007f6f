"""What qmail-send does with failures: note them, and at a message's end tell its sender (qmail-send.c).

A failed recipient's report is appended to `bounce/ID`. When no recipient is left, that text and a copy of the message
are queued as a new message: a bounce, with an empty sender, or, if the message was a bounce itself, a double bounce from
`#@[]` to the postmaster. What a double bounce would bounce is thrown away: a triple bounce.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from qmail_exporter.demo.enqueue import enqueue
from qmail_exporter.demo.host import CHANNELS, Host, Steps, read_file

_EMPTY_LINE = re.compile(rb"(?<=\n)\n")
_QMAILS = 990  # uid of qmail-send, as the recordings have it

_SORRY = b""".
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

"""
_BOUNCED = b""".
I tried to deliver a bounce message to this address, but the bounce bounced!

"""


@dataclass(frozen=True)
class Names:
    """Where bounces come from and go to: control files bouncehost, bouncefrom and doublebounceto."""

    host: bytes
    sender: bytes = b"MAILER-DAEMON"
    double_to: bytes = b"postmaster"


def add(host: Host, number: int, recipient: bytes, report: bytes) -> Steps[None]:
    """Append a failure to the message's `bounce` file (addbounce): no empty line within, one at the end."""
    if report and not report.endswith(b"\n"):
        report += b"\n"
    text = b"<%b>:\n%b" % (recipient.replace(b"\n", b"_"), report)
    text = _EMPTY_LINE.sub(b"/", text[:-1]) + text[-1:]
    path = host.path("bounce", number)
    existed = os.path.exists(path)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        host.ledger.messages[number].failed = True
        yield "bounce open" if existed else "bounce create"
        os.write(file, text + b"\n")
        yield "bounce write"
    finally:
        os.close(file)
    host.stamp(path)
    yield "bounce close"


def finish(host: Host, number: int, names: Names, log: Callable[[bytes], None]) -> Steps[None]:
    """End a message that has no recipients left (messdone): bounce it if need be, then remove it.

    Order: the bounce is queued, `bounce/ID` unlinked, `info` unlinked, `mess` unlinked. Killed in between, qmail
    bounces twice, or leaves a `mess` file that it removes 36 hours later.
    """
    if any(os.path.exists(host.path(channel, number)) for channel in CHANNELS):
        return
    sender, _ = host.read_info(number)
    message = host.ledger.messages[number]
    if os.path.exists(host.path("bounce", number)):
        yield from _bounce(host, number, sender, names, log)
        os.unlink(host.path("bounce", number))
        message.failed = False
        yield "bounce unlink"
    log(b"end msg %d" % number)
    host.ledger.ended += 1
    os.unlink(host.path("info", number))
    message.state = "ending"
    yield "info unlink"
    yield from remove(host, number)


def remove(host: Host, number: int) -> Steps[None]:
    """Remove what `info` no longer stands for, as qmail-clean does: `intd` and `mess`."""
    if os.path.exists(host.path("intd", number)):
        os.unlink(host.path("intd", number))
        yield "intd unlink"
    os.unlink(host.path("mess", number))
    del host.ledger.messages[number]
    host.release(number)
    yield "mess unlink"


def _bounce(
    host: Host, number: int, sender: bytes, names: Names, log: Callable[[bytes], None]
) -> Steps[None]:
    if sender == b"#@[]":
        log(b"triple bounce: discarding " + host.name("bounce", number))
        host.ledger.bounces["triple"] += 1
        return
    if sender.endswith(b"-@[]"):
        sender = sender[:-4]
    to, sender_of_bounce = (sender, b"") if sender else (names.double_to + b"@" + names.host, b"#@[]")
    pid = host.next_pid()
    yield from enqueue(
        host,
        sender_of_bounce,
        [to],
        _text(host, number, sender, to, names),
        pid=pid,
        uid=_QMAILS,
        invoked="for bounce",
    )
    log(b"bounce msg %d qp %d" % (number, pid))
    host.ledger.bounces["single" if sender else "double"] += 1


def _text(host: Host, number: int, sender: bytes, to: bytes, names: Names) -> bytes:
    failures = read_file(host.path("bounce", number))
    original = read_file(host.path("mess", number))
    return b"".join(
        (
            b"From: %b@%b\nTo: %b\nSubject: failure notice\n\n" % (names.sender, names.host, to),
            b"Hi. This is the qmail-send program at %b" % names.host,
            _SORRY if sender else _BOUNCED,
            failures,
            b"--- Below this line is a copy of the message.\n\n"
            if sender
            else b"--- Below this line is the original bounce.\n\n",
            b"Return-Path: <%b>\n" % sender,
            original,
        )
    )
