"""Time in proportion to length: of each reader of texts, on texts that repeat a piece of the input many times."""

import contextlib
from collections.abc import Callable
from functools import partial
from time import thread_time

from fuzz import seeds
from fuzz.target import Target
from qmail_exporter import config
from qmail_exporter.double_bounce import parse_entry as parse_bounce_entry
from qmail_exporter.formats import FormatError, control, envelope, log, qsbmf, reason
from qmail_exporter.formats.prefix import Prefixes
from qmail_exporter.sources.logs.entry import parse_entry
from qmail_exporter.sources.scan import _numbers
from qmail_exporter.status.text import speech
from qmail_exporter.web import app, auth

LENGTH = 64 * 1024
ENOUGH = 0.25
"""Seconds of the processor within which a text of `LENGTH` need not be looked at more closely; most take a hundredth."""
STEEPEST = 3.0
"""Times as long as for the half that a text may take: twice as long is proportion, four times is a square."""


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("latin-1"))


def _routes(data: bytes) -> object:
    return control.route_for((control.Route(b"", b"", 25),), data)


READERS: tuple[Callable[[bytes], object], ...] = (
    partial(log.parse, time=0.0),
    lambda data: list(Prefixes().strip([data], None, 0.0)),
    lambda data: list(Prefixes().strip(data.split(b"\n"), None, 0.0)),
    partial(reason._find, channel="remote"),
    partial(reason._find, channel="local"),
    reason.answered,
    qsbmf.parse,
    parse_bounce_entry,
    parse_entry,
    envelope.parse_todo,
    envelope.count_channel,
    envelope.pending_addresses,
    envelope.domain,
    control.parse_int,
    control.parse_routes,
    _routes,
    _text(config.parse_duration),
    _text(config.parse_address),
    _text(config.split_name),
    _text(config.parse_url_path),
    _text(auth.parse_basic),
    _text(app.wants_openmetrics),
    _text(app.accepts_gzip),
    app.parse_names,
    lambda data: _numbers([data.decode("latin-1")]),
    partial(speech, recipient=b"user@mail.test"),
    partial(speech, recipient=b"user@mail.test", cut=True),
    lambda data: speech(data, data[:64]),
)


def growth(data: bytes) -> None:
    """Twice the text takes no more than three times as long.

    The first byte says which reader, the second and third how much of the rest is the beginning and how much is repeated;
    what is left stands at the end.
    """
    if len(data) < 4:
        return
    read = READERS[data[0] % len(READERS)]
    head, piece, tail = data[3 : 3 + data[1]], data[3 + data[1] :][: data[2]], data[3 + data[1] + data[2] :]

    def seconds(length: int) -> float:
        text = head + piece * ((length - len(head)) // max(1, len(piece))) + tail[:1024]
        begun = thread_time()
        with contextlib.suppress(FormatError, ValueError):
            read(text)
        return thread_time() - begun

    # The half is tried first: what grows faster by far is to be found, not to be waited for.
    for length in (LENGTH // 16, LENGTH // 4, LENGTH):
        if seconds(length) > ENOUGH:
            whole, half = (min(seconds(each) for _ in range(3)) for each in (length, length // 2))
            assert whole < STEEPEST * half, (
                f"{length} bytes take {whole:.3f} s, and half of them {half:.3f} s"
            )


def _seeds() -> list[bytes]:
    pieces = [
        seeds.lines()[0],
        seeds.texts()[3],
        next(seeds.reports()),
        b"1",
        b"a.",
        b"<a>:\n\n",
        b"Ta@b\0",
        b"q=1,",
        b"{",
    ]
    return [
        bytes([reader, 0, len(piece)]) + piece + b"x" for reader in range(len(READERS)) for piece in pieces
    ]


TARGETS = {"growth": Target(growth, _seeds)}
