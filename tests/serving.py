"""`qmail-exporter serve` as a process of its own, and what its pages say."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from rig import Series, samples

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0
T = TypeVar("T")


def until(what: Callable[[], T], patience: float = PATIENCE) -> T:
    """Return what `what` returns as soon as that is true of it."""
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        time.sleep(0.02)
    return found


def wait_for(what: Callable[[], bool], why: Callable[[], str]) -> None:
    """Wait until something is so; say why it is not where it does not become so."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, why()
        time.sleep(0.05)


def until_equal(one: Callable[[], Any], other: Callable[[], Any]) -> None:
    """Wait until two things are equal; tell how they differ where they do not become so."""
    seen: list[Any] = []

    def equal() -> bool:
        seen[:] = one(), other()
        return bool(seen[0] == seen[1])

    wait_for(equal, lambda: difference(*seen))


def difference(first: Any, second: Any) -> str:
    """Say how two things differ: of dictionaries, what is not the same in both."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
        return "; ".join(f"{key}: {first.get(key)} and not {second.get(key)}" for key in keys[:9])
    return f"{first} and not {second}"


class Exporter:
    """A running exporter.

    Args:
        arguments: of `serve`, beside the address.
        addresses: to listen on; port 0 is any.
        before: a command that runs it, strace for example.
        environment: variables to add.
        module: what is run; `serve` is its first argument.
        given: as subprocess.Popen takes it.

    Attributes:
        log: its lines on stderr so far.
    """

    def __init__(
        self,
        *arguments: str,
        addresses: Sequence[str] = ("127.0.0.1:0",),
        before: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        module: str = "qmail_exporter",
        **given: Any,
    ) -> None:
        command = [*before, sys.executable, "-m", module, "serve", *arguments]
        command += [f"--web.listen-address={address}" for address in addresses]
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(environment or {}),
        }
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, env=variables, cwd="/", start_new_session=True, **given
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        self._count = len(addresses)

    @property
    def urls(self) -> list[str]:
        """Where it listens, once it does."""
        return until(self._listening)

    def get(self, path: str, accept: str = "", url: str | None = None) -> tuple[int, str]:
        """Return status and body of a page."""
        request = urllib.request.Request((url or self.urls[0]) + path, headers={"Accept": accept})  # noqa: S310 - a URL of the test
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - as above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def series(self) -> Series:
        """Return what a scrape shows."""
        status, body = self.get("/metrics")
        assert status == 200, body
        return samples(text_string_to_metric_families(body))

    def ready(self) -> bool:
        """Tell whether it says that it is ready."""
        return self.get("/-/ready")[0] == 200

    def value(self, name: str, **labels: str) -> float | None:
        """Return one sample of the queue `default`, None if there is no such series."""
        key = name, tuple(sorted({"queue": "default", **labels}.items()))
        return self.series().get(key)

    def said(self, text: str) -> list[str]:
        """Return the lines of its log with that text in them."""
        return [line for line in self.log if text in line]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> "Exporter":  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # what strace runs must not outlive it
            self.process.wait()
        self._reader.join()
        if self.process.stderr:
            self.process.stderr.close()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.decode().rstrip("\n"))

    def _listening(self) -> list[str]:
        assert self.process.poll() is None, self.log
        found = [match[1] for line in self.log if (match := re.search(r"msg=listening address=(\S+)", line))]
        return [f"http://{address}" for address in found] if len(found) >= self._count else []
