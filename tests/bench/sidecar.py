"""The exporter's share: its processor time over that of the mail system that it watches, for the same mail."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from bench.installed import HOME
from bench.process import Exporter, cpu
from bench.report import Figure, Row, progress
from qmail_exporter.demo.multilog import Multilog
from qmail_exporter.demo.qmail import Outcome, Qmail, run
from qmail_exporter.demo.report import accepted, refused

RATE = 20
"""Messages a second: 1.7 million a day."""
SCRAPE_INTERVAL = 15.0
_SHARE = "{:.2f} s"
_BODY = b"Subject: benchmark\n\n" + b"All is well.\n" * 200
_LOOP = """
import asyncio

async def wake():
    while True:
        await asyncio.sleep(1)

asyncio.run(wake())
"""
Send = Callable[[int], object]
"""Sends the message of that number."""


def measure(place: Path, seconds: int, runs: int, *, own: bool) -> Iterator[Row]:
    """Yield the rows; `own`: this process has a mount namespace of its own, in which an installed qmail can be measured."""
    if own and (HOME / "bin/qmail-start").exists() and shutil.which("multilog"):
        yield from _beside_qmail(place, seconds, runs)
    else:
        progress(
            "no qmail is installed, or it is not root who asks: the exporter's share is that beside a simulated one"
        )
    yield _beside_simulation(place, seconds, runs)


def _beside_qmail(place: Path, seconds: int, runs: int) -> Iterator[Row]:
    loops = []

    def idle() -> None:
        progress(f"a loop that does nothing, for {seconds} s")
        loops.append(_loop(seconds))

    ours, theirs, _ = _runs(place / "steady", seconds, RATE, runs, idle)
    what = f"processor, {RATE} messages a second for {seconds} s, watched and scraped"
    yield Row(what, ours, "qmail", theirs, ("≤", 0.02))
    what = "of that, what a loop of asyncio takes that wakes every second"
    yield Row(what, Figure(loops, _SHARE), "qmail", theirs)
    ours, theirs, sent = _runs(place / "busy", seconds, float("inf"), runs)
    what = f"the same, {sent / seconds:.0f} messages a second, as fast as it takes them"
    yield Row(what, ours, "qmail", theirs, ("≤", 0.02))


def _runs(
    copy: Path, seconds: int, rate: float, runs: int, after: Callable[[], object] = lambda: None
) -> tuple[Figure, Figure, float]:
    """Return the exporter's processor time, qmail's, and the median of the messages; `after` is called after each run."""
    ours, theirs, sent = [], [], []
    for turn in range(runs):
        many = f"{rate}" if rate < float("inf") else "as many as it takes"
        progress(f"messages a second through qmail: {many}, for {seconds} s, run {turn + 1} of {runs}")
        here, beside, messages = _shares(HOME, copy.with_name(f"{copy.name}{turn}"), seconds, rate)
        ours.append(here)
        theirs.append(beside)
        sent.append(messages)
        after()
    return Figure(ours, _SHARE), Figure(theirs, _SHARE), median(sent)


def _shares(home: Path, copy: Path, seconds: int, rate: float) -> tuple[float, float, int]:
    """Return the exporter's processor time, qmail's, and how many messages there were."""
    with (
        _own_qmail(home, copy),
        _sending(home, home / "log") as send,  # where qmaill may write, wherever the place is
        closing(Exporter(home / "queue", home / "log")) as exporter,
    ):
        exporter.wait(scraping=False)
        exporter.settle()
        before, injected, mail = exporter.cpu(), _cpu_of_children(), _processes(send)
        sent = _mail(exporter, seconds, rate, partial(_inject, home))
        ours = exporter.cpu() - before
        theirs = _processes(send) - mail + _cpu_of_children() - injected
        if not (home / "alias" / "Mailbox").exists():
            raise RuntimeError(f"no mail was delivered: the home of the user alias must be {home}/alias")
    return ours, theirs, sent


@contextmanager
def _own_qmail(home: Path, copy: Path) -> Iterator[None]:
    """Have a copy of the installed qmail where it is; its programs have that path built in."""
    subprocess.run(["cp", "-a", str(home), str(copy)], check=True)
    subprocess.run(["mount", "--bind", str(copy), str(home)], check=True)
    try:
        for area in ("mess", "info", "local", "remote", "bounce", "todo", "intd", "pid"):
            for path in (home / "queue" / area).rglob("*"):
                if path.is_file():
                    path.unlink()
        for name in ("me", "locals", "rcpthosts"):
            (home / "control" / name).write_text("mail.test\n")
        (home / "control" / "smtproutes").write_text(":127.0.0.1:9\n")  # where nobody listens
        (home / "alias" / ".qmail-default").write_text("./Mailbox\n")
        yield
    finally:
        # Lazy, as qmail-send's children end a moment after it.
        subprocess.run(["umount", "--lazy", str(home)], check=True)


@contextmanager
def _sending(home: Path, log: Path) -> Iterator[psutil.Process]:
    log.mkdir(mode=0o755)
    shutil.chown(log, "qmaill")
    argv = [f"{home}/bin/qmail-start", "./Mailbox", "multilog", "t", "s10000000", str(log)]
    send = subprocess.Popen(argv, cwd="/", env={"PATH": f"{home}/bin:/usr/bin:/bin"})
    try:
        deadline = time.perf_counter() + 30
        while not (log / "current").exists():
            if time.perf_counter() > deadline:
                raise RuntimeError("qmail's multilog does not write its log")
            time.sleep(0.01)
        yield psutil.Process(send.pid)
    finally:
        send.terminate()
        send.wait(60)


def _processes(send: psutil.Process) -> float:
    """Return the processor time of qmail-send and its children, and of those that these have waited for."""
    times = [process.cpu_times() for process in (send, *send.children())]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _inject(home: Path, number: int) -> None:
    recipient = _recipient(number).decode("ascii")
    subprocess.run([f"{home}/bin/qmail-inject", "-f", "sender@mail.test", recipient], input=_BODY, check=True)


def _recipient(number: int) -> bytes:
    """Return the recipient of a message: nine in ten are for a mailbox here, and the others are to be deferred."""
    return b"user%d@%b" % (number, b"remote.example" if number % 10 == 9 else b"mail.test")


def _mail(
    exporter: Exporter, seconds: int, rate: float, send: Send, meanwhile: Callable[[], object] = lambda: None
) -> int:
    """Send mail, and scrape; returns how many messages there were."""
    begun = time.perf_counter()
    scraped, sent = begun - SCRAPE_INTERVAL / 2, 0  # a minute has four scrapes
    while (now := time.perf_counter()) < begun + seconds:
        if sent < (now - begun) * rate:
            send(sent)
            sent += 1
        else:
            time.sleep(0.002)
        meanwhile()
        if now > scraped + SCRAPE_INTERVAL:
            scraped = now
            exporter.scrape()
    return sent


def _loop(seconds: int) -> float:
    """Return the processor time of a loop of asyncio that does nothing but wake once a second."""
    loop = subprocess.Popen([sys.executable, "-c", _LOOP])
    try:
        time.sleep(2)
        before = cpu(loop.pid)
        time.sleep(seconds)
        return cpu(loop.pid) - before
    finally:
        loop.terminate()
        loop.wait()


def _beside_simulation(place: Path, seconds: int, runs: int) -> Row:
    """Measure beside the simulated qmail of the demo: what that takes is no mail system's, but it is there on any host."""
    ours, theirs = [], []
    for turn in range(runs):
        progress(
            f"{RATE} messages a second through a simulated qmail for {seconds} s, run {turn + 1} of {runs}"
        )
        here, beside = _simulated_shares(place / f"simulated{turn}", seconds)
        ours.append(here)
        theirs.append(beside)
    what = f"processor, {RATE} simulated messages a second for {seconds} s"
    return Row(what, Figure(ours, _SHARE), "simulated qmail", Figure(theirs, _SHARE))


def _simulated_shares(home: Path, seconds: int) -> tuple[float, float]:
    """Return the exporter's processor time, and that of a simulated qmail in this process."""
    log = Multilog(home / "log", time.time, size=10_000_000)
    qmail = Qmail(home, clock=time.time, respond=_respond, log=log)
    qmail.start()
    took = 0.0

    def timed(work: Callable[[], object]) -> None:
        nonlocal took
        begun = time.thread_time()
        work()
        took += time.thread_time() - begun

    def send(number: int) -> None:
        timed(lambda: run(qmail.inject(b"sender@mail.test", [_recipient(number)], _BODY)))

    with closing(Exporter(home / "queue", home / "log")) as exporter:
        exporter.wait(scraping=False)
        exporter.settle()
        before = exporter.cpu()
        _mail(exporter, seconds, RATE, send, lambda: timed(qmail.pump))
        return exporter.cpu() - before, took


def _respond(channel: str, _recipient: bytes, _now: float) -> Outcome:
    return accepted("192.0.2.1", "250 ok") if channel == "local" else refused("192.0.2.1")
