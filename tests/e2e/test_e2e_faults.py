"""`serve` beside a simulated qmail when things go wrong: stopped, killed, forbidden, overrun."""

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rig import BOXES, Rig, Series, family, ledger_state, shown, still
from serving import Exporter, until, until_equal

MakeRig = Callable[..., Rig]


def flags(rig: Rig) -> list[str]:
    """Return the flags that name a rig's home and log."""
    return [f"--qmail.home={rig.home}", f"--qmail.log={rig.home}/log"]


# --- too many events


@pytest.mark.slow
def test_overflow_while_stopped_is_made_up_for(rig: MakeRig, in_memory: Path) -> None:
    """SIGSTOP, more events than the kernel holds, SIGCONT: exact again after one rescan, and no drift."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        pytest.skip(f"fs.inotify.max_queued_events is {most}: to fill that takes too long")
    made = rig(home=in_memory / "qmail")
    for _ in range(50):
        made.send(b"defer@x.example")
    made.qmail.pump()
    with Exporter(*flags(made), "--queue.rescan-interval=2s") as exporter:
        until(exporter.ready)
        exporter.process.send_signal(signal.SIGSTOP)
        for _ in range(most // 6):
            made.send(random.choice((b"ok@x.example", b"fail@y.example", b"joe")))
        for _ in range(20):
            made.send(b"full@z.example", b"defer@y.example")
        made.qmail.run_until(made.clock.now + 5)
        exporter.process.send_signal(signal.SIGCONT)
        until(lambda: exporter.value("qmail_exporter_event_overflows_total") and exporter.value("qmail_up"))
        until_equal(lambda: shown(exporter.series()), lambda: ledger_state(made.qmail))
        rescans = family(exporter.series(), "qmail_exporter_rescans_total")
        assert rescans["overflow",] == 1
        audits = rescans["audit",]
        until(lambda: family(exporter.series(), "qmail_exporter_rescans_total")["audit",] > audits + 1)
        assert exporter.value("qmail_exporter_rescan_drift_messages_total") == 0


# --- killed


@pytest.mark.slow
def test_killed_and_started_again_it_shows_the_same(rig: MakeRig) -> None:
    """After kill -9 at any moment the gauges are those of an exporter that went on; no line is counted twice."""
    made = rig(start=False)
    made.clock.now = float(
        int(time.time()) - 86400
    )  # ages and next attempts then lie among the bounds of the histograms
    made.qmail.start()
    chance = random.Random(3)

    def work() -> None:
        for _ in range(chance.randrange(40)):
            if chance.random() < 0.3:
                made.send(*chance.sample(BOXES, chance.randrange(1, 4)))
            made.qmail.pump(chance.randrange(1, 40))
            made.clock.now += chance.choice((0, 0, 1, 400))
            if chance.random() < 0.05:
                made.log.rotate()

    given = [*flags(made), "--web.scrape-budget=20s"]  # on a machine with much else to do
    with Exporter(*given) as steady:
        until(steady.ready)
        for _ in range(6):
            work()
            with Exporter(*given) as other:
                assert other.urls
                if chance.random() < 0.5:
                    until(other.ready)
                work()
                other.process.kill()
                other.process.wait()
            with Exporter(*given) as other:
                until(other.ready)
                began = dict(made.qmail.ledger.results)
                assert not all_counted(other.series())
                work()
                seen = other.series()
                assert shown(seen) == ledger_state(made.qmail)
                # A message may pass a bucket's bound between the two scrapes, and is past it for both a moment later.
                until(lambda exporter=other: same_gauges(exporter, steady))  # type: ignore[misc]
                results = made.qmail.ledger.results
                since = {key: results[key] - began.get(key, 0) for key in results}
                assert counted(seen) == {key: count for key, count in since.items() if count}
        assert family(steady.series(), "qmail_exporter_log_unparsed_lines_total") == {(): 0.0}


def counted(series: Series) -> dict[tuple[str, ...], float]:
    """Return the deliveries that the exporter has counted, mangled reports as the deferrals that they are."""
    found = family(series, "qmail_deliveries_total")
    return {key: count for key, count in found.items() if count}


def all_counted(series: Series) -> Series:
    """Return all that the exporter has counted of the log, of whatever kind, but what is zero."""
    own = (
        "qmail_exporter_",
        "qmail_queue_",
        "qmail_process_",
        "process_",
        "python_",
        "qmail_up",
        "qmail_hook_",
    )
    ends = ("_total", "_count", "_sum", "_bucket")
    return {k: v for k, v in series.items() if v and k[0].endswith(ends) and not k[0].startswith(own)}


def same_gauges(first: Exporter, second: Exporter) -> bool:
    """Whether two exporters show the same gauges, every one: the sums of times, too, as both clocks have gone on."""
    began = time.monotonic()
    one, other = first.series(), second.series()
    passed = time.monotonic() - began
    if still(one) != still(other):
        return False
    for (name, labels), value in one.items():
        if name.endswith("_gsum"):
            count = one[name.removesuffix("_gsum") + "_gcount", labels]
            assert abs(other[name, labels] - value) <= count * passed + 1, name
    return True


# --- forbidden

AREAS = {
    "mess": ("qmail_queue_messages", "qmail_queue_todo_messages", "qmail_queue_recipients", "qmail_domain_pending_recipients"),
    "todo": ("qmail_queue_todo_messages", "qmail_queue_recipients", "qmail_domain_pending_recipients"),
    "info": ("qmail_queue_recipients", "qmail_queue_oldest_message_timestamp_seconds"),
    "remote": ("qmail_domain_pending_recipients", "qmail_domain_deferred_recipients"),
    "local": (),
    "bounce": ("qmail_queue_failed_messages",),
}  # fmt: skip
"""What is not to be known without an area; of a channel, its own recipients besides."""


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A directory that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - others must get in
        yield Path(directory)


def everybody(rig: Rig) -> None:
    """Let everybody read a rig's queue and log."""
    for path in (rig.home, *rig.home.rglob("*")):
        if not path.is_fifo():
            os.chmod(path, 0o755 if path.is_dir() else 0o644)


@pytest.mark.slow
def test_unreadable_area_is_unknown(open_home: Path, refused: list[str]) -> None:
    """What depends on an unreadable directory is absent, its source is down and its path is logged; the rest is right."""
    with ExitStack() as stack:
        rigs = {area: stack.enter_context(Rig(open_home / area)) for area in AREAS}
        arguments = []
        for area, made in rigs.items():
            made.send(b"defer@x.example", b"fail@x.example", b"defer@mail.test", b"joe")
            made.qmail.pump()
            everybody(made)
            os.chmod(made.queue / area, 0)
            arguments += [f"--qmail.queue={area}={made.queue}", f"--qmail.log={area}={made.home}/log"]
        home = f"--qmail.home={rigs['mess'].home}"
        exporter = stack.enter_context(Exporter(home, *arguments, before=refused))
        until(exporter.ready)
        hidden = exporter.series()
        for area, made in rigs.items():
            check_hidden(area, of(area, hidden))
            (line,) = exporter.said(f"path={made.queue / area}")
            assert "Permission denied" in line
            os.chmod(made.queue / area, 0o755)  # noqa: S103 - others must get in
        until(
            lambda: (
                len([1 for (name, _), up in exporter.series().items() if name == "qmail_up" and up])
                == len(AREAS)
            )
        )
        whole = exporter.series()
        for area, made in rigs.items():
            assert shown(of(area, whole)) == ledger_state(made.qmail)
            check_rest(area, of(area, hidden), of(area, whole))


def check_hidden(area: str, hidden: Series) -> None:
    """Check what the exporter says of itself while an area cannot be read."""
    assert family(hidden, "qmail_up") == {(): 0.0}
    down = {name for (name,), up in family(hidden, "qmail_exporter_source_up").items() if not up}
    assert area in down
    assert down <= {area, "inotify", "processes"} or area == "mess"


def check_rest(area: str, hidden: Series, whole: Series) -> None:
    """Check that while an area could not be read what depends on it was absent, and all else as it is now."""
    gone = {name for name, _ in still(whole)} - {name for name, _ in still(hidden)}
    assert set(AREAS[area]) <= gone
    for key, value in still(hidden).items():
        if key[0] not in ("qmail_up", "qmail_exporter_source_up"):
            assert whole[key] == value, key
    channels = {channel for channel, _ in family(hidden, "qmail_queue_recipients")}
    readable = {"local", "remote"} - {area} if area in ("local", "remote", "bounce") else set()
    assert channels == readable


def of(queue: str, series: Series) -> Series:
    """Return the series of one queue."""
    return {key: value for key, value in series.items() if ("queue", queue) in key[1]}


def test_unreadable_log_is_unknown(open_home: Path, refused: list[str]) -> None:
    """Without the log what it tells is absent and the queue is right; it is read as soon as it may be."""
    with Rig(open_home / "qmail") as made:
        made.send(b"defer@x.example")
        made.qmail.pump()
        everybody(made)
        os.chmod(made.home / "log" / "current", 0)
        with Exporter(*flags(made), before=refused) as exporter:
            until(exporter.ready)
            series = exporter.series()
            assert exporter.value("qmail_exporter_source_up", source="log") == 0
            assert family(series, "qmail_queue_messages") == {(): 1.0}
            assert not family(series, "qmail_domain_deferred_recipients")
            assert not family(series, "qmail_messages_total")
            until(lambda: exporter.said(f"log={made.home}/log/current"))  # what it said is read by a thread
            os.chmod(made.home / "log" / "current", 0o644)
            until(
                lambda: (
                    exporter.value("qmail_domain_deferred_recipients", domain="x.example", reason="greylist")
                    == 1
                )
            )


# --- what it does to the queue


@pytest.mark.slow
def test_it_only_reads(rig: MakeRig, tmp_path: Path) -> None:
    """Under strace: nothing below the queue is opened for writing or changed, and no message is opened."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace")
    trace = tmp_path / "trace"
    made = rig()
    before = [strace, "-f", "-qq", "-y", "-s", "300", "-o", str(trace), "-e", "trace=%file,%desc"]
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    with Exporter(*flags(made), before=before) as exporter:
        until(exporter.ready)
        for box in (b"ok@x.example", b"defer@y.example", b"fail@z.example", b"joe"):
            made.send(box, b"defer@w.example")
            made.qmail.pump(25)
            exporter.series()
        made.qmail.run_until(made.clock.now + 5000)
        until_equal(lambda: shown(exporter.series()), lambda: ledger_state(made.qmail))
        os.kill(_child(exporter.process.pid), signal.SIGTERM)
        exporter.process.wait(30)
    calls = [
        call for line in trace.read_text(errors="replace").splitlines() if (call := _call(line, made.queue))
    ]
    assert {"openat", "newfstatat", "read", "getdents64", "inotify_add_watch"} <= {
        name for name, _, _ in calls
    }
    assert {name for name, _, _ in calls} <= READING
    for name, path, arguments in calls:
        if name == "openat":
            assert not WRITING.search(arguments), arguments
            assert not re.fullmatch(r"mess/\d+/\d+", path), arguments


READING = {"openat", "newfstatat", "stat", "lstat", "statx", "fstat", "getdents64", "read", "pread64", "close", "statfs", "fstatfs",
           "inotify_add_watch", "lseek", "fcntl", "ioctl", "readlink", "access", "faccessat", "faccessat2"}  # fmt: skip
WRITING = re.compile("O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)")
_CALL = re.compile(r'\d+ +(\w+)\((?:(?:AT_FDCWD|-?\d+)<?([^>,]*)>?(?:, )?)?(?:"([^"]*)")?(.*)')


def _call(line: str, queue: Path) -> tuple[str, str, str] | None:
    """Return name, path below the queue, and all arguments of a call in strace's output; None if it is about another file."""
    match = _CALL.match(line)
    if match is None:
        return None
    path = os.path.join(match[2] or "", match[3] or "")
    return (match[1], os.path.relpath(path, queue), match[4]) if path.startswith(str(queue)) else None


def _child(pid: int) -> int:
    """Return the process that strace runs."""
    return int(until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text()).split()[0])
