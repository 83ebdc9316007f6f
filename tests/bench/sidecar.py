"""The exporter's share: its processor time over that of the mail system that it watches, for the same mail."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from bench.process import Exporter
from bench.report import Figure, Row, progress

RATE = 20
"""Messages a second: 1.7 million a day."""
SCRAPE_INTERVAL = 15.0
_SHARE = "{:.2f} s"


def measure(place: Path, seconds: int) -> Iterator[Row]:
    """Yield the row, if there is an installed qmail and this process has a mount namespace of its own."""
    home = Path(os.environ.get("QMAIL_HOME", "/var/qmail"))
    if not (home / "bin/qmail-start").exists() or not shutil.which("multilog"):
        progress("no qmail is installed: no figures for the exporter's share")
        return
    progress(f"{RATE} messages a second through qmail, for {seconds} s")
    with (
        _own_qmail(home, place / "qmail"),
        _sending(home, home / "log") as send,  # where qmaill may write, wherever the place is
        closing(Exporter(home / "queue", home / "log")) as exporter,
    ):
        exporter.wait(scraping=False)
        exporter.settle()
        before, injected, mail = exporter.cpu(), _cpu_of_children(), _processes(send)
        _mail(home, exporter, seconds)
        ours = exporter.cpu() - before
        theirs = _processes(send) - mail + _cpu_of_children() - injected
        if not (home / "alias" / "Mailbox").exists():
            raise RuntimeError(f"no mail was delivered: the home of the user alias must be {home}/alias")
    what = f"processor, {RATE} messages a second for {seconds} s, watched and scraped"
    yield Row(what, Figure([ours], _SHARE), "qmail", Figure([theirs], _SHARE), ("≤", 0.02))


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


def _mail(home: Path, exporter: Exporter, seconds: int) -> None:
    """Inject mail, nine tenths of it for a mailbox here and the rest to be deferred, and scrape meanwhile."""
    body = b"Subject: benchmark\n\n" + b"All is well.\n" * 200
    begun = time.perf_counter()
    scraped, sent = begun, 0
    while (now := time.perf_counter()) < begun + seconds:
        if sent < (now - begun) * RATE:
            host = b"remote.example" if sent % 10 == 9 else b"mail.test"
            recipient = b"user%d@%b" % (sent, host)
            argv = [f"{home}/bin/qmail-inject", "-f", "sender@mail.test", recipient.decode("ascii")]
            subprocess.run(argv, input=body, check=True)
            sent += 1
        else:
            time.sleep(0.002)
        if now > scraped + SCRAPE_INTERVAL:
            scraped = now
            exporter.scrape()
