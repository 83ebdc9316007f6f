"""qmail-queue: put one message into the queue (qmail-queue.c).

Order: `pid` file, link to `mess/S/INODE`, unlink `pid`, write the message; `intd`, write the envelope; link it to
`todo`; pull the trigger. The descriptors are closed last, as by a process that exits, so that the message's own
CLOSE_WRITE is reported for the `pid` name that it was opened by.
"""

import os
import time
from collections.abc import Sequence

from qmail_exporter.demo.host import Host, Steps
from qmail_exporter.demo.ledger import Message

_ENVELOPE_BUFFER = 256
_MESSAGE_BUFFER = 2048


def enqueue(  # noqa: PLR0913 - what qmail-queue is given
    host: Host,
    sender: bytes,
    recipients: Sequence[bytes],
    body: bytes,
    *,
    pid: int,
    uid: int = 1000,
    invoked: str = "",
    age: float = 0,
) -> Steps[int]:
    """Queue a message and return its number.

    Args:
        host: where.
        sender: the envelope sender; any bytes but NUL, as the recipients.
        recipients: one or more.
        body: the message as qmail-queue reads it; a Received line is put before it.
        pid: the process number of this qmail-queue, which the log calls `qp`.
        uid: who calls it.
        invoked: what the Received line says of the caller, if not `by uid …`.
        age: seconds: the message is made to look as if queued so long ago, with utime(2).
    """
    now = host.clock() - age
    receiving = f"{host.queue}/pid/{pid}.{int(now)}.1"
    files = [os.open(receiving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)]
    try:
        yield "pid create"
        number = host.number(files[0])
        mess, intd = host.path("mess", number), host.path("intd", number)
        if host.stamp_files:
            # Before the link: qmail-send removes what in mess was not read for 36 hours, by a clock that may be far ahead.
            os.utime(receiving, (now, now))
        os.link(receiving, mess)
        message = host.ledger.messages[number] = Message(arrival=now)
        yield "mess link"
        os.unlink(receiving)
        yield "pid unlink"
        for block in _blocks(_received(pid, uid, invoked, now), body):
            message.size += os.write(files[0], block)
            yield "mess write"
        if age:
            host.backdated[number] = age
        if age or host.stamp_files:
            os.utime(mess, (now, now))
            yield "mess utime"
        files.append(os.open(intd, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        yield "intd create"
        envelope = b"u%d\0p%d\0F%b\0" % (uid, pid, sender) + b"".join(b"T%b\0" % r for r in recipients)
        for start in range(0, len(envelope), _ENVELOPE_BUFFER):
            os.write(files[1], envelope[start : start + _ENVELOPE_BUFFER])
            yield "intd write"
        os.link(intd, host.path("todo", number))
        message.state = "todo"
        message.sender = sender
        host.ledger.injected += 1
        host.ledger.injected_bytes += message.size
        yield "todo link"
        host.pull_trigger()
        yield "trigger pull"
    finally:
        while files:
            os.close(files.pop())
    yield "exit"
    return number


def _received(pid: int, uid: int, invoked: str, now: float) -> bytes:
    date = time.strftime("%d %b %Y %H:%M:%S -0000", time.gmtime(now)).lstrip("0")
    return f"Received: (qmail {pid} invoked {invoked or f'by uid {uid}'}); {date}\n".encode()


def _blocks(received: bytes, body: bytes) -> list[bytes]:
    """Cut the message into the writes that substdio makes of it: a short one is a single write."""
    if len(received) + len(body) <= _ENVELOPE_BUFFER:
        return [received + body]
    return [received, *(body[at : at + _MESSAGE_BUFFER] for at in range(0, len(body), _MESSAGE_BUFFER))]
