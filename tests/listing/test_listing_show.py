import calendar
import errno
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.listing import show


@given(st.binary())
def test_visible_can_be_undone(raw: bytes) -> None:
    """What is shown of any bytes is printable ASCII, and gives the bytes back."""
    shown = show.visible(raw)
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == raw


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (17, "17s"),
        (61, "1m1s"),
        (3600, "1h0m"),
        (100000, "1d3h"),
        (-90, "-1m30s"),
        (-0.5, "0s"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    """A duration shows its two largest units."""
    assert show.span(seconds) == text


def read(**given: object) -> bytes:
    fields: dict[str, object] = {
        "msg": 7,
        "size": 9,
        "birth": 0,
        "info": b"Fa@b\0",
        "failed": False,
        "channels": (),
    }
    return show.qread(**(fields | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, b"1 Jan 1970 00:00:00 GMT  #7  9  <a@b> \n"),
        ({"failed": True}, b"1 Jan 1970 00:00:00 GMT  #7  9  <a@b>  bouncing\n"),
        ({"birth": 951782399}, b"28 Feb 2000 23:59:59 GMT  #7  9  <a@b> \n"),
        ({"birth": -1}, b"31 Dec 1969 23:59:59 GMT  #7  9  <a@b> \n"),
        ({"info": b"F\0"}, b"1 Jan 1970 00:00:00 GMT  #7  9  <> \n"),
        ({"info": b"Fa\n\x7f\xff \0more"}, b"1 Jan 1970 00:00:00 GMT  #7  9  <a___ > \n"),
        (
            {"channels": [("local", b"Ta\0Db\t\0"), ("remote", b"Tc\0Xno\0Tunfinished")]},
            b"1 Jan 1970 00:00:00 GMT  #7  9  <a@b> \n\tlocal\ta\n  done\tlocal\tb_\n\tremote\tc\n",
        ),
        (
            {"channels": [("local", None), ("remote", PermissionError(errno.EACCES, "Permission denied"))]},
            b"1 Jan 1970 00:00:00 GMT  #7  9  <a@b> \nwarning: trouble with #7: access denied\n",
        ),
    ],
)
def test_qread(fields: dict[str, object], text: bytes) -> None:
    """One message is printed as qmail-qread.c prints it."""
    assert read(**fields) == text


@given(st.integers(min_value=-(1 << 40), max_value=1 << 40))
def test_qread_dates(birth: int) -> None:
    """The date is that second of Universal Time, whatever the time zone and the locale."""
    found = re.match(rb"(\d+) (\w+) (-?\d+) (\d\d):(\d\d):(\d\d) GMT  #", read(birth=birth))
    assert found is not None
    day, month, year, *clock = found.groups()
    months = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"]
    at = time.gmtime(birth)
    assert (int(year), months.index(month) + 1, int(day)) == at[:3]
    assert tuple(map(int, clock)) == at[3:6]
    if 1970 <= at.tm_year < 9999:
        assert calendar.timegm(at) == birth


@given(st.binary(), st.binary(), st.binary())
def test_qread_of_anything(info: bytes, local: bytes, remote: bytes) -> None:
    """Whatever the files hold, what is printed is printable ASCII but for the tabs and newlines between fields."""
    shown = read(info=info, channels=[("local", local), ("remote", remote)])
    assert not re.search(rb"[^\x20-\x7e\t\n]", shown)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (
            b"192.0.2.1_does_not_like_recipient./Remote_host_said:_451_4.7.1_Grey/Giving_up_on_192.0.2.1./",
            "451 4.7.1 Grey",
        ),
        (b"CNAME_lookup_failed_temporarily._(#4.4.3)/", "CNAME lookup failed temporarily. (#4.4.3)"),
        (b"", ""),
    ],
)
def test_words(report: bytes, words: str) -> None:
    """Of a report the other host's words matter, or else qmail's own."""
    assert show.words(report) == words
