"""A real exporter as a process of its own, asked over HTTP as Prometheus asks."""

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

_ROOT = Path(__file__).parents[2]
# What Prometheus 2.42 sends.
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
_LISTENING = re.compile(rb"msg=listening address=127\.0\.0\.1:(\d+)")
_PATIENCE = 300.0
_LOOK = 1.0  # seconds, in which an idle exporter takes less than a twentieth


class Exporter:
    """`qmail-exporter serve` on a queue and a log, either of which may be missing.

    Attributes:
        begun: when it was started, by `time.perf_counter`.
        waits: what each scrape took while it was not ready, seconds.
    """

    def __init__(self, queue: Path, log: Path) -> None:
        self.waits: list[float] = []
        self._connection: http.client.HTTPConnection | None = None
        self._said = threading.Event()
        argv = [sys.executable, "-m", "qmail_exporter", "serve", f"--qmail.home={queue.parent}"]
        argv += [f"--qmail.queue={queue}", f"--qmail.log={log}", "--web.listen-address=127.0.0.1:0"]
        self.begun = time.perf_counter()
        self._process = subprocess.Popen(argv, cwd=_ROOT, stderr=subprocess.PIPE)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def settle(self) -> None:
        """Let it do what it does once when the scan is done, and what every scrape needs, until it is idle.

        Raises:
            TimeoutError: it is not after five minutes.
        """
        self.memory()
        time.sleep(2)
        deadline, now = time.perf_counter() + _PATIENCE, self.cpu()
        while time.perf_counter() < deadline:
            time.sleep(_LOOK)
            before, now = now, self.cpu()
            if now - before < _LOOK / 20:
                return
        raise TimeoutError("the exporter does not come to rest")

    def close(self) -> None:
        """End it."""
        if self._connection is not None:
            self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(30)

    def get(self, path: str, **headers: str) -> int:
        """Ask for a page as soon as it listens, and return the status when all of the answer has come.

        Raises:
            TimeoutError: it has ended, or does not listen within five minutes.
        """
        return self._ask(path, _HEADERS | headers)[0]

    def page(self) -> tuple[float, int]:
        """Return the seconds that the status page takes, and its bytes, not compressed.

        Raises:
            RuntimeError: it failed.
        """
        begun = time.perf_counter()
        status, size = self._ask("/", {})
        if status != 200:
            raise RuntimeError(f"the status page was answered with status {status}")
        return time.perf_counter() - begun, size

    def _ask(self, path: str, headers: dict[str, str]) -> tuple[int, int]:
        self._said.wait(_PATIENCE)
        if self._connection is None:
            raise TimeoutError("the exporter has ended, or does not listen after five minutes")
        try:
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
            size = len(answer.read())
        except http.client.RemoteDisconnected:  # the connection has been idle for long
            self._connection.close()
            return self._ask(path, headers)
        return answer.status, size

    def _listen(self) -> None:
        """Learn from its log where it listens, and read on, so that it never waits for a reader; pass on what is wrong."""
        assert self._process.stderr is not None
        with self._process.stderr as log:
            for line in log:
                if found := _LISTENING.search(line):
                    self._connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
                    self._said.set()
                elif b" level=INFO " not in line and b" level=WARN" not in line:
                    sys.stderr.buffer.write(line)
                    sys.stderr.buffer.flush()
        self._said.set()

    def scrape(self, **headers: str) -> float:
        """Return the seconds that a scrape takes, with some headers in place of Prometheus's.

        Raises:
            RuntimeError: it failed.
        """
        begun = time.perf_counter()
        status = self.get("/metrics", **headers)
        if status != 200:
            raise RuntimeError(f"a scrape was answered with status {status}")
        return time.perf_counter() - begun

    def wait(self, *, scraping: bool) -> float:
        """Wait until it is ready and return the seconds since it was started; `scraping`: some ten times a second.

        Raises:
            TimeoutError: it is not ready after five minutes.
        """
        deadline = time.perf_counter() + _PATIENCE
        while self.get("/-/ready") != 200:
            if self._process.poll() is not None or time.perf_counter() > deadline:
                raise TimeoutError("the exporter has ended, or is not ready after five minutes")
            if scraping:
                self.waits.append(self.scrape())
            time.sleep(0.1)
        return time.perf_counter() - self.begun

    def cpu(self) -> float:
        """Return the seconds of processor time that it has taken, with its threads and children."""
        return cpu(self._process.pid)

    def peak(self) -> int:
        """Return the most bytes that were ever resident."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell the peak of the memory")

    def memory(self) -> int:
        """Return the resident bytes, after a few scrapes, so that what every scrape needs is there."""
        for _ in range(5):
            self.scrape()
        return int(psutil.Process(self._process.pid).memory_info().rss)


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has taken: with threads that have ended, and with children.

    Of children that have ended the kernel tells hundredths of a second; all else is in nanoseconds.

    Raises:
        OSError: there is no such process.
        psutil.NoSuchProcess: it ends just now.
    """
    process = psutil.Process(pid)
    ended = process.cpu_times()
    took = _clock(pid) + ended.children_user + ended.children_system
    for child in process.children(recursive=True):
        with suppress(OSError):  # it has ended meanwhile
            took += _clock(child.pid)
    return took


def _clock(pid: int) -> float:
    """Read a process's own clock, whose number the C library's clock_getcpuclockid() makes like this."""
    return time.clock_gettime(~pid << 3 | 2)


def run_timed(argv: list[str]) -> tuple[float, float]:
    """Run a program, its output thrown away; return the seconds of wall time and of processor time that it took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before = os.times()
    begun = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_PATIENCE)
    wall = time.perf_counter() - begun
    after = os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system
