import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.config import (
    LogSpec,
    QueueSpec,
    check_logs,
    name_queues,
    parse_address,
    parse_duration,
    parse_log_spec,
    parse_path,
    parse_queue_spec,
    parse_url_path,
)


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("/var/qmail/queue", None, "/var/qmail/queue"),
        ("bulk=/var/qmail2/queue", "bulk", "/var/qmail2/queue"),
        ("a.b_c-1=/q", "a.b_c-1", "/q"),
        ("/odd=name/queue", None, "/odd=name/queue"),
        ("a=b=c", "a", "b=c"),
        ("not a name=x", None, "not a name=x"),
        ("/a/../b//c/", None, "/b/c"),
    ],
)
def test_queue(text: str, name: str | None, path: str) -> None:
    """What stands before an equals sign is a name if it has only letters, digits, dots, dashes and underscores."""
    assert parse_queue_spec(text) == (name, Path.cwd() / path)


@pytest.mark.parametrize("text", ["", "a=", "a\0b"])
def test_no_queue(text: str) -> None:
    """A queue needs a directory."""
    with pytest.raises(ValueError, match="is no path"):
        parse_queue_spec(text)


def named(*texts: str) -> list[str]:
    return [queue.name for queue in name_queues([parse_queue_spec(text) for text in texts])]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], []),
        (["/var/qmail/queue"], ["default"]),
        (["x=/var/qmail/queue"], ["x"]),
        (["/q/queue1", "/q/queue2"], ["queue1", "queue2"]),
        (["/var/a/queue", "/var/b/queue", "/other"], ["a/queue", "b/queue", "other"]),
        (["/a/x/queue", "/b/x/queue"], ["a/x/queue", "b/x/queue"]),
        (["/queue", "/a/queue"], ["/queue", "a/queue"]),
        (["main=/var/a/queue", "/var/b/queue"], ["main", "queue"]),
        (["/a/\udcff", "/b"], ["\\xff", "b"]),
    ],
)
def test_names_of_queues(texts: list[str], names: list[str]) -> None:
    """One queue is `default`; several have the shortest end of their path that no other has, or their own name."""
    assert named(*texts) == names


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["a=/x", "a=/y"], "queue name 'a' is given 2 times"),
        (["queue=/x", "/y/queue"], "queue name 'queue' is given 2 times"),
        (["a=/x", "b=/x"], "queue directory '/x' is given 2 times"),
        (["/x", "/x/", "/x/../x"], "queue directory '/x' is given 3 times"),
    ],
)
def test_queues_given_twice(texts: list[str], reason: str) -> None:
    """Two queues can share neither name nor directory: their series would be the same."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        named(*texts)


@given(
    st.lists(st.lists(st.sampled_from("abq"), min_size=1, max_size=3).map("/".join), min_size=2, unique=True)
)
def test_names_are_unique(paths: list[str]) -> None:
    """Different directories without names always get different names."""
    names = named(*(f"/{path}" for path in paths))
    assert len(set(names)) == len(paths)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("/var/log/qmail", LogSpec(None, "/var/log/qmail")),
        ("bulk=/var/log/qmail2/", LogSpec("bulk", "/var/log/qmail2")),
        ("journal:qmail-send.service", LogSpec(None, "journal:qmail-send.service")),
        ("bulk=journal:x@1.service", LogSpec("bulk", "journal:x@1.service")),
    ],
)
def test_log(text: str, spec: LogSpec) -> None:
    """A log is a path, made absolute, or a unit's journal, perhaps with a queue's name before it."""
    assert parse_log_spec(text) == spec


@pytest.mark.parametrize("text", ["", "a=", "journal:", "a=journal:", "/a\0", "journal:a\0b"])
def test_no_log(text: str) -> None:
    """A log needs a path or a unit."""
    with pytest.raises(ValueError, match=r"names no log|is no path"):
        parse_log_spec(text)


def test_log_of_an_unknown_queue() -> None:
    """A log's queue must be one of those given; if none is given, the queues found later decide."""
    log = LogSpec("b", "/x")
    check_logs([log, LogSpec(None, "/y")], [QueueSpec("b", Path("/b"))])
    check_logs([log], [])
    with pytest.raises(ValueError, match=r"^log '/x' is for queue 'b', and there is no queue of that name$"):
        check_logs([log], [QueueSpec("a", Path("/a"))])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1w2d", 777600),
        ("1m1ms", 60.001),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    """A duration is seconds, or numbers with units."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-1", "1x", "h", "1h 30m", "1h30", "nan", "inf", "1e3", "1.h", ".5", "\u0663", "1h\n"]
)
def test_no_duration(text: str) -> None:
    """Anything else is refused, with the text and an example."""
    with pytest.raises(
        ValueError, match=f"^{re.escape(repr(text))} is no duration such as 90, 30m or 1h30m$"
    ):
        parse_duration(text)


def test_a_long_text_is_refused_at_once() -> None:
    """Digits without a unit are looked at once, not once from each of them on."""
    begin = time.process_time()
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration("1" * 100_000 + "x")
    assert time.process_time() - begin < 5


def test_endless_duration() -> None:
    """A duration is finite."""
    with pytest.raises(ValueError, match="is too long"):
        parse_duration("9" * 400)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10225", ("", 10225)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_address(text: str, address: tuple[str, int]) -> None:
    """An address is a host, perhaps empty, and a port."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "10225", ":", "host", "host:", "host:http", ":-1", ":65536", ":123456", ":\u0661"),
        *("::1:80", "[::1]", "[::1]80", "[]:80", "[a]b:80", "http://host:80", "unix:/run/x"),
        *("a" * 64 + ":80", "a..b:80", "\udcff:80"),
    ],
)
def test_no_address(text: str) -> None:
    """Anything else is refused, with the text and the three ways to write an address."""
    with pytest.raises(ValueError, match=re.escape("write HOST:PORT, [IPv6]:PORT or :PORT")) as caught:
        parse_address(text)
    assert str(caught.value).startswith(f"{text!r} ")


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text makes a parser fail in another way than by ValueError."""
    for parse in (
        parse_address,
        parse_duration,
        parse_log_spec,
        parse_path,
        parse_queue_spec,
        parse_url_path,
    ):
        with suppress(ValueError):
            parse(text)


@pytest.mark.parametrize("text", ["/metrics", "/", "/-/qmail~2/metrics.txt"])
def test_url_path(text: str) -> None:
    """A URL path is taken as it is."""
    assert parse_url_path(text) == text


@pytest.mark.parametrize("text", ["", "metrics", "/a b", "/a?b", "/a#b", "/%41", "/é", "/a\n"])
def test_no_url_path(text: str) -> None:
    """What a URL would have to encode, or does not begin with a slash, is refused."""
    with pytest.raises(ValueError, match="is no path such as /metrics"):
        parse_url_path(text)
