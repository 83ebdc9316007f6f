"""How qmail-send takes a message from `todo` (todo_do and rewrite in qmail-send.c, and qmail-clean.c).

Order: unlink what an interrupted run left; `info` created and the sender written; each channel's file created at its
first recipient; `info` closed; each channel written and closed; `intd` and `todo` unlinked. From then on the message
is preprocessed. fsync is left out: no other process can tell.
"""

import contextlib
import os
from collections.abc import Callable, Collection

from qmail_exporter.demo.host import CHANNELS, Host, Steps, read_file
from qmail_exporter.demo.ledger import Channel
from qmail_exporter.formats import envelope

_BUFFER = 1024


def rewrite(recipient: bytes, me: bytes, local_domains: Collection[bytes]) -> tuple[str, bytes]:
    """Return a recipient's channel and its full address: one without a domain is at `me`."""
    if b"@" not in recipient:
        recipient += b"@" + me
    domain = recipient.rpartition(b"@")[2].lower()
    return ("local" if domain in local_domains else "remote"), recipient


def preprocess(
    host: Host, number: int, log: Callable[[bytes], None], to_channel: Callable[[bytes], tuple[str, bytes]]
) -> Steps[list[str] | None]:
    """Preprocess a message; return the channels it has recipients in, or None if it could not be done.

    Args:
        host: where.
        number: a message that has a `todo` file.
        log: takes the lines `new msg`, `info msg` and warnings.
        to_channel: a recipient's channel and full address.
    """
    message = host.ledger.messages.get(number)
    try:
        todo = envelope.parse_todo(read_file(host.path("todo", number)))
    except OSError:
        log(b"warning: unable to open " + host.name("todo", number))
        return None
    if message is None:
        log(b"warning: unable to stat " + host.name("mess", number))
        return None
    for kind in ("local", "remote", "info"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(host.path(kind, number))
            yield f"{kind} unlink"
    info = host.path("info", number)
    files = {"info": os.open(info, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)}
    try:
        yield "info create"
        log(b"new msg %d" % number)
        host.ledger.preprocessed += 1
        os.write(files["info"], b"F%b\0" % todo.sender)
        yield "info write"
        sender = envelope.log_safe(todo.sender)
        log(
            b"info msg %d: bytes %d from <%b> qp %d uid %d"
            % (number, message.size, sender, todo.pid, todo.uid)
        )
        host.ledger.preprocessed_bytes += message.size
        channels = yield from _channels(host, number, todo.recipients, to_channel, files)
        age = host.backdated.get(number, 0)
        if age or host.stamp_files:
            os.utime(info, times=(host.clock() - age,) * 2)
            yield "info utime"
    finally:
        for descriptor in files.values():
            os.close(descriptor)
    for kind in ("intd", "todo"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(host.path(kind, number))
        if kind == "todo":
            message.birth = os.stat(info).st_mtime_ns // 10**9
            message.channels = channels
            message.state = "queued"
        yield f"{kind} unlink"
    return list(channels)


def _channels(
    host: Host,
    number: int,
    recipients: tuple[bytes, ...],
    to_channel: Callable[[bytes], tuple[str, bytes]],
    files: dict[str, int],
) -> Steps[dict[str, Channel]]:
    """Write the channels' files, creating each at its first recipient and writing when 1024 bytes are full."""
    channels: dict[str, Channel] = {}
    buffers: dict[str, bytearray] = {}
    places: dict[str, int] = {}
    for recipient in recipients:
        name, address = to_channel(recipient)
        if name not in channels:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            files[name] = os.open(host.path(name, number), flags, 0o600)
            channels[name], buffers[name], places[name] = Channel({}), bytearray(), 0
            yield f"{name} create"
        buffer = buffers[name]
        if len(buffer) + len(address) + 2 > _BUFFER and buffer:
            os.write(files[name], buffer)
            buffer.clear()
            yield f"{name} write"
        buffer += b"T%b\0" % address
        channels[name].pending[places[name]] = address
        places[name] += len(address) + 2
    os.close(files.pop("info"))
    yield "info close"
    for name in CHANNELS:
        if name in channels:
            os.write(files[name], buffers[name])
            yield f"{name} write"
            os.close(files.pop(name))
            host.stamp(host.path(name, number))
            yield f"{name} close"
    return channels
