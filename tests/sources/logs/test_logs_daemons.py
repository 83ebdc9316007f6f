"""multilog and svlogd themselves write; no line may be missing or come twice."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from qmail_exporter.sources.logs import Follower

Follow = Callable[[object], Follower]

DEADLINE = 100.0  # loggers wait for the disk at each rotation, and it may have much to do


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    with subprocess.Popen([program, *command[1:]], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def multilog(path: Path, processor: str) -> list[str]:
    return ["multilog", "t", "s4096", "n50", *([f"!{processor}"] if processor else []), str(path)]


def svlogd(path: Path, processor: str) -> list[str]:
    path.mkdir(exist_ok=True)
    (path / "config").write_text("s4096\nn50\n" + (f"!{processor}\n" if processor else ""))
    return ["svlogd", "-t", str(path)]


def stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin
    return process.stdin


def collect(follower: Follower, lines: list[bytes], count: int) -> None:
    """Read until there are `count` lines, each without its timestamp."""
    deadline = time.monotonic() + DEADLINE
    while len(lines) < count:
        batch = follower.read().lines
        lines += [line.partition(b" ")[2] for line in batch]
        assert time.monotonic() < deadline, f"{len(lines)} of {count} lines, losses {dict(follower.losses)}"
        if not batch:
            os.sched_yield()


@pytest.mark.parametrize("processor", ["", "gzip", "cat"])
@pytest.mark.parametrize("logger", [multilog, svlogd])
def test_followed_through_rotations(
    logger: Callable[[Path, str], list[str]], processor: str, tmp_path: Path, follow: Follow
) -> None:
    """Every line that the logger was given comes once and in order, rotated twice between reads or amid one."""
    path = tmp_path / "log"
    follower = follow(path)
    lines: list[bytes] = []
    written: list[bytes] = []
    with running(logger(path, processor)) as process:
        assert list(follower.backfill()) == []
        for burst in range(12):
            new = [b"delivery %d: success: %s/" % (burst * 100 + n, b"x" * (n % 90)) for n in range(150)]
            stdin(process).write(b"".join(line + b"\n" for line in new))
            stdin(process).flush()
            written += new
            if burst % 3:
                collect(follower, lines, len(written) - 40)  # in the middle of things
        stdin(process).close()
        assert process.wait(DEADLINE) == 0
        collect(follower, lines, len(written))
    assert lines == written
    assert not follower.losses
    assert len(list(path.glob("@*"))) > 10


@pytest.mark.parametrize("processor", ["", "gzip"])
@pytest.mark.parametrize("logger", [multilog, svlogd])
def test_backfilled(
    logger: Callable[[Path, str], list[str]], processor: str, tmp_path: Path, follow: Follow
) -> None:
    """What a logger left behind is backfilled whole, with lines longer than what is left of a file."""
    path = tmp_path / "log"
    written = [b"%d %s" % (n, b"y" * (n * 37 % 3000)) for n in range(40)]
    with running(logger(path, processor)) as process:
        stdin(process).write(b"".join(line + b"\n" for line in written))
        stdin(process).close()
        assert process.wait(DEADLINE) == 0
    follower = follow(path)
    lines = [line.partition(b" ")[2] for batch in follower.backfill() for line in batch.lines]
    assert lines == written
    assert follower.read().lines == []
    assert not follower.losses


def test_a_logger_that_is_killed_and_started_again(tmp_path: Path, follow: Follow) -> None:
    """multilog, killed, leaves `current` without the mark; started again it sets that aside as `.u`: nothing is lost."""
    path = tmp_path / "log"
    follower = follow(path)
    lines: list[bytes] = []
    for life in range(3):
        with running(multilog(path, "")) as process:
            list(follower.backfill())
            stdin(process).write(b"life %d\n" % life)
            stdin(process).flush()
            collect(follower, lines, life + 1)
            process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE)
    assert lines == [b"life 0", b"life 1", b"life 2"]
    assert len(list(path.glob("@*.u"))) == 2
    assert not follower.losses


def test_alarm_rotates(tmp_path: Path, follow: Follow) -> None:
    """A rotation asked for by SIGALRM, at a size that would need none, is followed too."""
    path = tmp_path / "log"
    follower = follow(path)
    lines: list[bytes] = []
    with running(["multilog", "t", str(path)]) as process:
        list(follower.backfill())
        for number in range(5):
            stdin(process).write(b"%d\n" % number)
            stdin(process).flush()
            collect(follower, lines, number + 1)
            before = len(list(path.glob("@*")))
            process.send_signal(signal.SIGALRM)
            deadline = time.monotonic() + DEADLINE
            while len(list(path.glob("@*"))) == before:
                assert time.monotonic() < deadline
    assert lines == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("method", ["create", "copytruncate"])
def test_logrotate(method: str, tmp_path: Path, follow: Follow) -> None:
    """The rotations of logrotate, by renaming with compression and by copying, lose nothing that was read in time."""
    if shutil.which("logrotate") is None:
        pytest.skip("logrotate is not installed")
    log = tmp_path / "maillog"
    log.touch()
    config = tmp_path / "logrotate.conf"
    config.write_text(f"{log} {{\n rotate 5\n {method}\n compress\n delaycompress\n su root root\n}}\n")
    config.chmod(0o600)
    tmp_path.chmod(0o755)
    follower = follow(log)
    lines: list[bytes] = []
    for number in range(4):
        with log.open("ab") as file:
            file.write(b"%d\n" % number)
        lines += (
            follower.read().lines
            if number
            else [line for batch in follower.backfill() for line in batch.lines]
        )
        command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(config)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        if result.returncode:
            pytest.skip(f"logrotate does not run here: {result.stderr.strip()}")
    lines += follower.read().lines
    assert lines == [b"0", b"1", b"2", b"3"]
