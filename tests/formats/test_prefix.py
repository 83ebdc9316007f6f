from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmail_exporter.formats.log import parse
from qmail_exporter.formats.prefix import Prefixes

DATA = Path(__file__).parents[1] / "data"
NOW = 5.0
TEXT = b"new msg 7"
AT = 1_795_344_341.664342
TAI = b"@400000006b02c7df27990ff0 "


def strip(*lines: bytes, prefixes: Prefixes | None = None) -> list[tuple[bytes, float]]:
    return list((prefixes or Prefixes()).strip(lines, None, NOW))


@pytest.mark.parametrize(
    ("prefix", "time"),
    [
        (TAI, AT),
        (b"2026-11-22_10:45:41.66434 ", 1_795_344_341.66434),
        (b"2026-11-22T10:45:41.664342 ", AT),
        (b"2026-11-22_10:45:41 ", 1_795_344_341.0),
        (b"2024-02-29_23:59:59.5 ", 1_709_251_199.5),
        (b"Nov 22 10:45:41 host qmail: 1795344341.664342 ", AT),
        (b"Nov  2 10:45:41 host qmail: 1795344341.664342 ", AT),
        (b"<22>Nov 22 10:45:41 qmail: 1795344341.664342 ", AT),
        (b"Nov 22 10:45:41 host qmail[123]: 1795344341.664342 ", AT),
        (b"2026-11-22T10:45:41.664342+00:00 host qmail: 1795344341.664342 ", AT),
        (b"2026-11-22T10:45:41Z host qmail: 1795344341.664342 ", AT),
        (b"1795344341.664342 ", AT),
        (b"", NOW),
    ],
)
def test_every_style_gives_text_and_time(prefix: bytes, time: float) -> None:
    """What each logger puts before a line comes off and gives its time; where there is nothing, it is now."""
    ((text, moment),) = strip(prefix + TEXT)
    assert text == TEXT
    assert moment == pytest.approx(time, abs=1e-6)


def test_times_of_the_source_are_used_where_a_line_has_none() -> None:
    """A time that came beside a line holds if the line itself tells none."""
    lines = [TEXT, TAI + TEXT, b"@nonsense " + TEXT, b"2026-13-22_10:45:41 " + TEXT]
    found = list(Prefixes().strip(lines, [1.0, 2.0, 3.0, 4.0], NOW))
    assert found == [(TEXT, 1.0), (TEXT, pytest.approx(AT)), (lines[2], 3.0), (TEXT, 4.0)]


@pytest.mark.parametrize(
    "date",
    [
        b"2026-00-22_10:45:41",
        b"2026-13-22_10:45:41",
        b"2026-02-30_10:45:41",
        b"2026-11-22_24:45:41",
        b"2026-11-22_10:60:41",
        b"2026-11-22_10:45:99",
        b"0000-11-22_10:45:41",
        b"1969-12-31_23:59:59",
    ],
)
def test_impossible_dates_are_no_time(date: bytes) -> None:
    """A date that is none, or from before 1970, does not lose the line: it has the time at which it was read."""
    assert strip(date + b".5 " + TEXT) == [(TEXT, NOW)]


@pytest.mark.parametrize(
    "line",
    [
        b"@",
        b"@ ",
        b"@4000",
        b"@400000006b02c7df27990ff " + TEXT,
        b"@400000006b02c7df27990ff00 " + TEXT,
        b"@400000006b02c7df2799_ff0 " + TEXT,
        b"@400000006b02c7df+799000f " + TEXT,
        b"@0x0000006b02c7df27990ff0 " + TEXT,
        b"@4_0000006b02c7df27990ff0 " + TEXT,
        b"@ffffffffffffffff00000000 " + TEXT,
        b"@400000000000000900000000 " + TEXT,
        b"@400000006b02c7df27990ff0\t" + TEXT,
    ],
)
def test_what_is_not_tai64n_stays(line: bytes) -> None:
    """A line that only begins like a TAI64N label comes out as it is, to be counted as not understood."""
    assert strip(line) == [(line, NOW)]
    assert strip(TAI + TEXT, line, TAI + TEXT)[1] == (line, NOW)


def test_seconds_of_tai64n_go_on() -> None:
    """Lines of one second and of the next have each their own time."""
    labels = (b"@400000006b02c7df00000000", b"@400000006b02c7df3b9ac9ff", b"@400000006b02c7e000000001")
    moments = [moment for _, moment in strip(*(label + b" x" for label in labels))]
    assert moments == pytest.approx(
        [1_795_344_341.0, 1_795_344_341.999999999, 1_795_344_342.000000001], abs=1e-6
    )


def test_foreign_lines_are_counted() -> None:
    """In a shared log, other programs' lines are counted as theirs, and none comes out."""
    prefixes = Prefixes()
    foreign = (
        b"Nov 22 10:45:41 host postfix/smtpd[99]: connect from x",
        b"Nov 22 10:45:41 host qmail-queue-handlers[7]: to=a@b",
        b"Nov 22 10:45:41 host qmail: no stamp",
        b"Nov 22 10:45:41 host kernel",
        b"2026-11-22T10:45:41+00:00 host sshd[1]: hi",
        b"1795344341.664342+the rest of a line that began elsewhere",
        b"Uppercase",
        b"12 monkeys",
        b"<22>",
    )
    assert strip(*foreign, prefixes=prefixes) == []
    assert prefixes.foreign == len(foreign)


def test_program_may_have_another_name() -> None:
    """The argument of splogger is the program's name in syslog; several may be qmail-send's."""
    line = b"Nov 22 10:45:41 host %b: 1795344341.664342 new msg 7"
    prefixes = Prefixes((b"qmail-out", b"qmail-in"))
    names = (b"qmail-out", b"qmail-in", b"qmail")
    assert len(strip(*(line % name for name in names), prefixes=prefixes)) == 2
    assert prefixes.foreign == 1


def parts(text: bytes, stamp: bytes = b"1795344341.664342") -> list[bytes]:
    """A line as splogger.c breaks it."""
    pieces = [text[at : at + 799] for at in range(0, len(text), 799)] or [b""]
    return [stamp + (b"+" if number else b" ") + piece for number, piece in enumerate(pieces)]


@pytest.mark.parametrize("length", [0, 1, 798, 799, 800, 1597, 1598, 1599, 9999])
def test_broken_line_is_put_together(length: int) -> None:
    """A line that splogger broke comes out whole and once; the next one ends it, if its last part was full."""
    text = bytes(33 + at % 90 for at in range(length))
    found = strip(*parts(text), *parts(TEXT, b"1795344342.000000"))
    assert found == [(text, AT), (TEXT, 1_795_344_342.0)]


def test_broken_line_may_lie_in_two_readings() -> None:
    """The parts of a line may come in different batches, with other programs' lines between them."""
    prefixes = Prefixes()
    first, second = parts(b"x" * 1000)
    assert strip(first, b"Nov 22 10:45:41 host cron: x", prefixes=prefixes) == []
    assert strip(second, prefixes=prefixes) == [(b"x" * 1000, AT)]


def test_part_of_another_line_does_not_belong() -> None:
    """A part with another stamp than the line before it is one whose beginning is missing."""
    prefixes = Prefixes()
    first, second = parts(b"x" * 1000)
    found = strip(first, b"1795344341.664343+y", second, prefixes=prefixes)
    assert found == [(b"x" * 1000, AT)]
    assert prefixes.foreign == 1


def test_line_without_end_is_bounded() -> None:
    """A line of ever more parts is given out at a limit, and what follows is foreign."""
    prefixes = Prefixes()
    found = strip(*parts(b"x" * 799 * 200), prefixes=prefixes)
    assert [len(text) for text, _ in found] == [64 * 799]
    assert prefixes.foreign == 136


@given(
    st.lists(
        st.one_of(
            st.binary(),
            st.tuples(
                st.sampled_from(
                    [b"@", b"@4000000", TAI, b"<22>", b"Nov 22 10:45:41 ", b"2026-11-22_", b"17953.664342"]
                ),
                st.binary(max_size=40),
            ).map(b"".join),
            st.from_regex(rb"@[0-9a-fA-F_+x ]{20,28} ?x", fullmatch=True),
            st.from_regex(
                rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T_][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})? x", fullmatch=True
            ),
        )
    )
)
@example([b"9999-12-31_23:59:59 x"])
def test_any_bytes_give_texts_and_sane_times(lines: list[bytes]) -> None:
    """Whatever the lines are, each gives at most one text, never an error, and a time that is finite and not negative."""
    prefixes = Prefixes()
    found = strip(*lines, prefixes=prefixes)
    assert len(found) + prefixes.foreign <= len(lines)
    assert all(0 <= moment < 1e12 + 10 for _, moment in found)


def test_recorded_datagrams_of_splogger() -> None:
    """Every line that a real splogger sent to syslog is understood, and its time is that of its stamp."""
    prefixes = Prefixes()
    lines = (DATA / "splogger-dgrams.raw").read_bytes().splitlines()
    found = strip(*lines, prefixes=prefixes)
    records = [parse(text, moment) for text, moment in found]
    assert (len(records), prefixes.foreign) == (len(lines), 0)
    assert [record.time for record in records] == sorted(record.time for record in records)
    assert [b"%b %b" % (b"%.6f" % moment, text) for text, moment in found] == [
        line.split(b" qmail: ", 1)[1] for line in lines
    ]
