"""The message with which qmail-send tells of a bounce that bounced: who sent what to whom, and why that failed.

injectbounce() in qmail-send.c makes it, in QSBMF (cr.yp.to/proto/qsbmf.txt): an introduction, a paragraph for each
failed recipient (`<address>:` and the report, without an empty line), a paragraph that begins with `-`, and the message
that bounced. In a double bounce that is a bounce, so the same again, one level down:

    <sender>:                                         why the bounce did not reach the sender
    --- Below this line is the original bounce.
    Return-Path: <>
    <recipient>:                                      why the message did not reach the recipient
    --- Below this line is a copy of the message.
    Return-Path: <sender>

Forks write other introductions (control/doublebouncemessage of indimail) and wrap the parts in MIME ("--- Enclosed is the
original bounce."); neither matters here. If the inner bounce came from another mail system, its recipients are taken from
the fields of RFC 3464, where it has them.

A program that starts for each delivery imports this module, so it imports nothing itself.
"""

_BREAK = b"---"
_RETURN_PATH = b"Return-Path: <"
_NEAR = 1000
"""Bytes after the break within which the message begins: in MIME it has a small header of its own before."""


class DoubleBounce:
    """What a double bounce tells.

    Attributes:
        sender: who sent the message that bounced, as far as its envelope can be trusted.
        why: why the bounce could not be delivered to the sender.
        failures: recipient and report, of each recipient to whom the message could not be delivered; none if the
            bounce does not say.
    """

    __slots__ = ("failures", "sender", "why")

    def __init__(self, sender: bytes, why: bytes, failures: list[tuple[bytes, bytes]]) -> None:
        self.sender = sender
        self.why = why
        self.failures = failures


def parse(message: bytes) -> DoubleBounce | None:
    """Read a message, or the beginning of one; None if it is no double bounce."""
    outer, rest = _qsbmf(_body(message))
    # What a double bounce encloses is a bounce, so it has an empty sender.
    start = rest.find(_RETURN_PATH, 0, _NEAR)
    if not outer or start < 0 or not rest.startswith(b">", start + len(_RETURN_PATH)):
        return None
    sender, why = outer[0]
    bounce = _body(rest[start:])
    inner, original = _qsbmf(bounce)
    start = original.find(_RETURN_PATH, 0, _NEAR)
    if inner and start >= 0:
        line = original[start + len(_RETURN_PATH) :].split(b"\n", 1)[0]
        sender = _unquoted(line.rpartition(b">")[0]) or sender
    return DoubleBounce(sender, why, inner or _report(bounce))


def _body(message: bytes) -> bytes:
    return message.partition(b"\n\n")[2]


def _qsbmf(body: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return address and report of each recipient paragraph, and what follows the break paragraph, if it is there."""
    failures: list[tuple[bytes, bytes]] = []
    start = 0
    while start < len(body):
        end = body.find(b"\n\n", start)
        end = len(body) if end < 0 else end
        paragraph = body[start:end].strip(b"\n")
        start = end + 2
        if paragraph.startswith(_BREAK):
            return failures, body[start:]
        # A report may be empty, and an address may hold anything but a newline.
        address, colon, report = (paragraph + b"\n").partition(b">:\n")
        if colon and address.startswith(b"<") and b"\n" not in address:
            failures.append((address[1:], report.rstrip(b"\n")))
    return failures, b""


def _report(bounce: bytes) -> list[tuple[bytes, bytes]]:
    """Return recipients and diagnostics of a delivery status notification (RFC 3464, 2.3)."""
    failures: list[tuple[bytes, bytes]] = []
    for line in bounce.replace(b"\n ", b" ").replace(b"\n\t", b" ").split(b"\n"):
        name, _, value = line.partition(b":")
        text = value.partition(b";")[2].strip()
        if name.lower() == b"final-recipient" and text:
            failures.append((text, b""))
        elif name.lower() == b"diagnostic-code" and failures:
            failures[-1] = (failures[-1][0], text)
    return failures


def _unquoted(address: bytes) -> bytes:
    """Undo quote2() of qmail's quote.c."""
    if not address.startswith(b'"'):
        return address
    box, _, domain = address[1:].rpartition(b'"')
    plain, escaped = bytearray(), False
    for byte in box:
        if byte == 92 and not escaped:
            escaped = True
        else:
            plain.append(byte)
            escaped = False
    return bytes(plain) + domain
