import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmail_exporter import logfmt

logger = logfmt.get_logger("qmail_exporter.test")
TIME = re.compile(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    root.handlers[:] = [
        handler for handler in root.handlers if not isinstance(handler.formatter, logfmt.Formatter)
    ]
    logging.getLogger("pyinotify").removeFilter(logfmt._reroute)


Capture = pytest.CaptureFixture[str]


def line(
    fmt: Literal["logfmt", "json"], message: str = "m", /, *, tracebacks: bool = False, **fields: Any
) -> str:
    """Return a record of 1970-01-01 as `fmt`."""
    exc_info = fields.pop("exc_info", None)
    record = logging.LogRecord("qmail_exporter.test", logging.INFO, __file__, 1, message, None, exc_info)
    record.created, record.fields = 1.25, fields
    return logfmt.Formatter(fmt, tracebacks=tracebacks).format(record)


def fields(**values: Any) -> str:
    return line("logfmt", **values).removeprefix("time=1970-01-01T00:00:01.250Z level=INFO msg=m ")


def test_whole_line() -> None:
    """A record has the time in UTC, level and message, and its fields in the order of the call."""
    assert line("logfmt", "scan finished", queue="default", messages=12) == (
        'time=1970-01-01T00:00:01.250Z level=INFO msg="scan finished" queue=default messages=12'
    )
    assert json.loads(line("json", "scan finished", queue="default", messages=12)) == {
        "time": "1970-01-01T00:00:01.250Z",
        "level": "INFO",
        "msg": "scan finished",
        "queue": "default",
        "messages": 12,
    }


def test_fields_of_any_name(capsys: Capture) -> None:
    """A field may have any name; one that each record has already gets an underscore."""
    logfmt.configure("info", "logfmt")
    logger.info("m", self=1, msg=2, text=3, level=4, name=5)
    assert capsys.readouterr().err.endswith("level=INFO msg=m self=1 msg_=2 text=3 level_=4 name=5\n")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
        (float("inf"), "inf"),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines\r\t", r'"two\nlines\r\t"'),
        ("\x1b[2J\x07\x7f", r'"\x1b[2J\x07\x7f"'),
        ("c1 \x9b", r'"c1 \u009b"'),
        ("\u202egpj.exe", r'"\u202egpj.exe"'),
        ("tag \U000e0001", r'"tag \U000e0001"'),
        ("müller@例.jp", "müller@例.jp"),
        (b"raw\xff", r'"raw\\xff"'),
        ("name\udcff", r'"name\\xff"'),
        ("\ud800", r'"\\ud800"'),
        (Path("/var/qmail"), "/var/qmail"),
        (OSError(2, "No such file"), '"[Errno 2] No such file"'),
    ],
)
def test_values(value: object, written: str) -> None:
    """Plain values stand as they are, others in quotes as Go writes them, with bytes that are no UTF-8 in hex."""
    assert fields(a=value) == f"a={written}"


@given(st.text() | st.binary(), st.sampled_from(["logfmt", "json"]))
@example("\x85\u2028\n\x1b]0;x\x07", "json")
@example("\x7f", "json")
def test_hostile_values_stay_on_their_line(value: str | bytes, fmt: Literal["logfmt", "json"]) -> None:
    """Whatever the value, the record is one line of printable characters that can be encoded."""
    for written in (line(fmt, a=value), line(fmt, value if isinstance(value, str) else "m")):
        assert written.isprintable()
        written.encode()
        assert fmt == "logfmt" or json.loads(written)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=1000))
def test_json_gives_text_back(value: str) -> None:
    """Text that is UTF-8 comes out of JSON as it went in."""
    assert json.loads(line("json", a=value))["a"] == value


def test_long_values_are_cut() -> None:
    """A value has at most 2000 characters and a sign that it is cut."""
    assert json.loads(line("json", a="x" * 3000))["a"] == "x" * 2000 + "…"


def failure() -> Any:
    try:
        fail()
    except ValueError:
        return sys.exc_info()


def fail() -> None:
    raise ValueError("first\nsecond")


def test_exceptions() -> None:
    """An exception is a field, and its traceback another if wanted, on the one line."""
    assert fields(exc_info=failure()) == r'error="ValueError: first\nsecond"'
    written = line("logfmt", tracebacks=True, exc_info=failure())
    assert r'traceback="Traceback (most recent call last):\n  File' in written
    assert "\n" not in written


def test_exception_without_text() -> None:
    """An exception without a text is its name."""
    assert fields(exc_info=(KeyError, KeyError(), None)) == "error=KeyError"


def test_configure(capsys: Capture) -> None:
    """Records below the level are left out; levels have Prometheus's names."""
    logfmt.configure("info", "logfmt")
    logger.debug("unseen")
    logger.info("seen", n=1)
    logger.warning("look out")
    logger.error("100%")
    lines = capsys.readouterr().err.splitlines()
    assert [TIME.sub("", written) for written in lines] == [
        "level=INFO msg=seen n=1",
        'level=WARN msg="look out"',
        "level=ERROR msg=100%",
    ]
    assert all(TIME.match(written) for written in lines)


def test_configure_again(capsys: Capture) -> None:
    """The last configuration counts, and a record is written once."""
    logfmt.configure("debug", "logfmt")
    logfmt.configure("error", "json")
    logger.warning("unseen")
    logger.error("seen", path="/x")
    written = json.loads(capsys.readouterr().err)
    assert (written["level"], written["msg"], written["path"]) == ("ERROR", "seen", "/x")


def test_traceback_only_at_debug(capsys: Capture) -> None:
    """At the level debug a logged exception has its traceback, at others not."""
    for level, count in (("info", 0), ("debug", 1)):
        logfmt.configure(level, "logfmt")
        try:
            fail()
        except ValueError:
            logger.exception("failed", path="/x")
        written = capsys.readouterr().err
        assert (written.count("traceback="), written.count("\n")) == (count, 1)


def test_libraries(capsys: Capture) -> None:
    """A library's record is formatted like all others and names its logger."""
    logfmt.configure("info", "logfmt")
    logging.getLogger("asyncio").error("task %s\nfailed", 7)
    assert capsys.readouterr().err.endswith('level=ERROR msg="task 7\\nfailed" logger=asyncio\n')


def test_pyinotify(capsys: Capture) -> None:
    """The records of pyinotify are formatted too, and its own handler, added before or after, sees none."""
    library, own = logging.getLogger("pyinotify"), io.StringIO()
    handlers = [logging.StreamHandler(own), logging.StreamHandler(own)]
    library.addHandler(handlers[0])
    logfmt.configure("info", "logfmt")
    library.addHandler(handlers[1])
    library.error("add_watch: cannot watch")
    for handler in handlers:
        library.removeHandler(handler)
    assert own.getvalue() == ""
    assert capsys.readouterr().err.endswith('level=ERROR msg="add_watch: cannot watch" logger=pyinotify\n')
