"""What a read of an inotify descriptor returns."""

from contextlib import suppress

from fuzz import seeds
from fuzz.target import Target
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import message_id
from qmail_exporter.sources.inotify import _ODD, nominate, parse_events

OVERFLOW = 0x4000
"""IN_Q_OVERFLOW of inotify(7)."""


def inotify(data: bytes) -> None:
    """The quick way gives what the events one by one give, and buffers at once what they give one after the other."""
    try:
        events = list(parse_events(data))
    except FormatError:
        assert _is_refused(data)
        return
    news = nominate(data)
    numbers = {message_id(event.name.rstrip(b"\0")) for event in events} - {None}
    masks = 0
    for event in events:
        masks |= event.mask
    assert news.messages == numbers
    assert news.events == len(events)
    assert news.overflow == bool(masks & OVERFLOW)
    assert news.replaced == bool(masks & _ODD & ~OVERFLOW)
    assert all(number > 0 for number in news.messages)


def _is_refused(data: bytes) -> bool:
    with suppress(FormatError):
        nominate(data)
        return False
    return True


TARGETS = {"inotify": Target(inotify, seeds.events)}
