import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.demo.multilog import Multilog, Style, stamped, tai64n
from qmail_exporter.demo.qmail import Clock

NOW = 1795344341.664342
DATAGRAMS = Path(__file__).parents[1] / "data" / "splogger-dgrams.raw"


def test_tai64n_adds_ten_seconds() -> None:
    """The label is 2**62 + 10 + Unix seconds in 16 hex digits, then nanoseconds in 8."""
    assert tai64n(NOW) == b"@400000006b02c7df27990df0"
    assert int(tai64n(NOW)[1:17], 16) - 2**62 - 10 == 1795344341


def test_directory_is_rotated_at_size(tmp_path: Path) -> None:
    """Old files are complete, in order, mode 0744, and `count` - 1 of them; `current` has mode 0644."""
    log = Multilog(tmp_path, Clock(NOW), size=4096, count=3)
    for number in range(200):
        log(b"line %d" % number)
    files = sorted(path for path in tmp_path.iterdir() if path.name.startswith("@"))
    assert len(files) == 2
    assert all(re.fullmatch(r"@[0-9a-f]{24}\.s", path.name) for path in files)
    assert [path.stat().st_mode & 0o777 for path in [*files, tmp_path / "current"]] == [0o744, 0o744, 0o644]
    text = b"".join(path.read_bytes() for path in [*files, tmp_path / "current"])
    numbers = [int(line.split()[-1]) for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 200))
    log.close()


def test_no_file_is_removed_while_there_are_few(tmp_path: Path) -> None:
    """Every file is kept until there are `count` of them, `current` included."""
    log = Multilog(tmp_path, Clock(NOW), count=6)
    for files in (2, 3, 4, 5, 6, 6, 6):
        log.rotate()
        assert len([path for path in tmp_path.iterdir() if path.name.startswith(("@", "current"))]) == files
    log.close()


def test_clean_exit_is_told_by_the_mode(tmp_path: Path) -> None:
    """A `current` that was closed is appended to; one that was not becomes an unfinished file, `@….u`."""
    first = Multilog(tmp_path, Clock(NOW))
    first(b"one")
    first.close()
    second = Multilog(tmp_path, Clock(NOW + 1))
    second(b"two")
    assert (tmp_path / "current").read_bytes().count(b"\n") == 2
    third = Multilog(tmp_path, Clock(NOW + 2))
    assert (tmp_path / "current").read_bytes() == b""
    assert [path.suffix for path in tmp_path.iterdir() if path.name.startswith("@")] == [".u"]
    second.close()
    third.close()


@pytest.mark.skipif(shutil.which("multilog") is None, reason="multilog is not installed")
def test_rotation_is_seen_as_multilog_s(tmp_path: Path, record: Any) -> None:
    """A watcher sees the same events in the same order as from daemontools' multilog."""
    (tmp_path / "real").mkdir()
    (tmp_path / "simulated").mkdir()
    lines = [b"line %05d of a log that is going to be rotated" % number for number in range(45)]
    recorder = record(tmp_path)
    log = Multilog(tmp_path / "simulated", Clock(NOW), size=4096)
    for line in lines:
        log(line)
    log.close()
    text = b"".join(line + b"\n" for line in lines)
    subprocess.run(["multilog", "t", "s4096", str(tmp_path / "real")], input=text, check=True)
    seen: dict[str, list[tuple[str, str]]] = {"real": [], "simulated": []}
    for directory, event, name in recorder.events():
        entry = (event, "@" if name.startswith("@") else name)
        if name not in ("lock", "state") and seen[directory][-1:] != [entry]:
            seen[directory].append(entry)
    assert ("CREATE", "@") in seen["real"]
    assert seen["simulated"] == seen["real"]


@pytest.mark.parametrize(
    ("style", "start"),
    [
        ("multilog", b"@400000006b02c7df27990df0 "),
        ("svlogd", b"2026-11-22_10:45:41.66434 "),
        ("syslog", b"Nov 22 10:45:41 mx1 qmail: 1795344341.664342 "),
        ("iso", b"2026-11-22T10:45:41.664342+00:00 mx1 qmail: 1795344341.664342 "),
        ("bare", b""),
    ],
)
def test_styles(style: Style, start: bytes) -> None:
    """Each style puts its own stamp before the line."""
    assert stamped(style, NOW, b"end msg 1") == [start + b"end msg 1\n"]


def test_long_lines_are_cut_as_splogger_cuts_them() -> None:
    """Parts of 799 bytes; those after the first begin with the first one's stamp and a plus sign."""
    parts = stamped("syslog", NOW, b"x" * 799 + b"y" * 799 + b"z")
    texts = [part.split(b": ", 1)[1].rstrip() for part in parts]
    stamp = b"1795344341.664342"
    assert texts == [stamp + b" " + b"x" * 799, stamp + b"+" + b"y" * 799, stamp + b"+z"]


def test_splogger_lines_are_those_recorded() -> None:
    """For the recorded datagrams' times and texts the syslog style gives what splogger sent, the host name apart."""
    for datagram in DATAGRAMS.read_bytes().splitlines():
        stamp, text = datagram.split(b"qmail: ", 1)[1].split(b" ", 1)
        line = stamped("syslog", float(stamp), text)[0]
        assert line.replace(b" mx1", b"") == re.sub(rb"^<\d+>", b"", datagram) + b"\n"
