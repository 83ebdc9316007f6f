"""What a process takes is counted whole, and an exporter that cannot be measured is told at once."""

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bench.process import Exporter, cpu

# It takes 0.3 s in a thread that ends, in a child that ends, or in a child that lives.
_BURN = """
import os, sys, threading, time

def burn():
    while time.thread_time() < 0.3:
        pass

def child():
    if not os.fork():
        burn()
        if sys.argv[1] == "living":
            print(flush=True)
            time.sleep(60)
        os._exit(0)

if sys.argv[1] == "thread":
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
else:
    child()
if sys.argv[1] == "child":
    os.wait()
if sys.argv[1] != "living":
    print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("who", ["thread", "child", "living"])
def test_cpu(who: str) -> None:
    """Threads and children count, whether they have ended or not."""
    argv = [sys.executable, "-c", _BURN, who]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert 0.3 <= cpu(process.pid) < 2
        finally:
            os.killpg(process.pid, 9)


def test_no_exporter(tmp_path: Path) -> None:
    """One that ends before it listens is not waited for."""
    begun = time.monotonic()
    with closing(Exporter(tmp_path / "queue", tmp_path / "log")) as exporter:
        exporter._process.kill()
        with pytest.raises(TimeoutError, match="has ended"):
            exporter.wait(scraping=False)
    assert time.monotonic() - begun < 60
