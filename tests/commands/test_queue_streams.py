"""`queue` lists as it reads: how much it holds, when it begins, and what it says meanwhile."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from queuedir import QueueDir
from stage import read_terminal

FEW, MANY = 200, 30_000


_RUN = """
import re, sys
from qmail_exporter.cli import main
try:
    main(prog_name="qmail-exporter")
finally:
    # Not ru_maxrss, in which what started this process counts.
    sys.stderr.write(re.search("VmHWM:.*", open("/proc/self/status").read())[0])
"""


def usage(queue: QueueDir, *words: str) -> tuple[int, int]:
    """Run `queue` on a queue directory without log; returns its lines and its peak memory, in kB."""
    argv = [sys.executable, "-c", _RUN, "queue", f"--qmail.queue={queue.path}", "--no-log", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = sum(1 for _ in process.stdout)
        said = process.stderr.read()
    assert process.returncode == 0
    found = re.search(rb"VmHWM:\s+(\d+) kB$", said)
    assert found is not None
    return lines, int(found[1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_queue(in_memory: Path) -> None:
    """As table, JSON or qmail-qread's lines, a long queue takes hardly more memory than a short one; sorted, what its lines take."""
    few, many = (QueueDir(in_memory / name) for name in ("few", "many"))
    for queue, count in ((few, FEW), (many, MANY)):
        for number in range(count):
            queue.message(1_000_000 + number)
    for form in ((), ("--json",), ("--qread",)):
        short, long = usage(few, *form), usage(many, *form)
        assert long[0] - short[0] == (MANY - FEW) * (2 if "--qread" in form else 1)
        assert long[1] - short[1] < 3000, form
    ordered = usage(many, "--sort=age")[1] - usage(few, "--sort=age")[1]
    assert 3000 < ordered < MANY * 600 // 1024


def test_first_line_comes_while_the_queue_is_read(in_memory: Path) -> None:
    """The first lines are there before the last directories are looked at."""
    queue = QueueDir(in_memory / "queue")
    for number in range(3000):
        queue.message(1_000_000 + number)
    argv = [sys.executable, "-m", "qmail_exporter", "queue", f"--qmail.queue={queue.path}", "--no-log"]
    # A pipe holds 64 KiB: the process waits until they are read, and what goes meanwhile it cannot have read before.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        for path in (queue.root / "mess").rglob("*"):
            if path.is_file():
                path.unlink()
        rest = process.stdout.read()
        while more := process.stdout.read():
            rest += more
    assert first == b"I"
    assert 0 < rest.count(b"\n") - 1 < 3000


def terminal(argv: list[str]) -> str:
    """What a command writes to stderr, where that is a terminal and stdout is none."""
    master, slave = pty.openpty()
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=slave) as process:
        os.close(slave)
        out = read_terminal(master)
    assert process.returncode == 0
    return out.decode()


def test_progress_is_shown_on_a_terminal_only(in_memory: Path) -> None:
    """On a terminal a line on stderr tells how far it has got, and is taken away in the end; elsewhere there is none."""
    queue = QueueDir(in_memory / "queue")
    for number in range(100):
        queue.message(1_000_000 + number)
    (in_memory / "control").mkdir()
    script = "from qmail_exporter.commands import progress; progress.PATIENCE = progress.INTERVAL = 0; "
    script += "from qmail_exporter.cli import main; main(prog_name='qmail-exporter')"
    for words in (
        ["queue", "--no-log"],
        ["queue", "--qread"],
        ["queue", "--no-log", "--sort=age"],
        ["doctor"],
    ):
        argv = [
            sys.executable,
            "-c",
            script,
            *words,
            f"--qmail.queue={queue.path}",
            f"--qmail.home={in_memory}",
        ]
        if words == ["doctor"]:
            argv.append(f"--qmail.log={in_memory}")
            (in_memory / "current").write_bytes(b"@400000006b06b627354978cc status: local 0/10 remote 0/20\n")
            (queue.root / "lock" / "tcpto").write_bytes(bytes(1024))
        shown = terminal(argv)
        assert re.search(r"qmail-exporter (queue|doctor): (reading|checking) .*\d%", shown), words
        assert shown.endswith("\r\x1b[K")
        done = subprocess.run(argv, capture_output=True, check=True)
        assert done.stderr == b""
