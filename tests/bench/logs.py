"""What a log line costs, from the file to the model, and what it costs mtail with a program that counts the same."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from prometheus_client.parser import text_string_to_metric_families

from bench.report import Figure, Row, progress
from qmail_exporter.demo.multilog import tai64n
from qmail_exporter.demo.qmail import Clock, Qmail, run
from qmail_exporter.demo.world import World

_BEGIN = 1_790_000_000.0
_ROOT = Path(__file__).parents[2]
_RATE = "{:,.0f} lines/s"
_MICROSECONDS = "{:.2f} µs"


def measure(place: Path, lines: int, runs: int) -> Iterator[Row]:
    """Yield the rows; `place` is a directory on a tmpfs.  Without mtail there are none."""
    mtail = shutil.which("mtail")
    if mtail is None:
        progress("mtail is not installed: no figures for the log")
        return
    progress(f"making a log of {lines:,} lines")
    path = place / "log"
    lines = _write(path, lines)
    ours, theirs = [], []
    for turn in range(runs):
        progress(f"following the log, run {turn + 1} of {runs}")
        ours.append(_follow(path))
        progress(f"mtail, run {turn + 1} of {runs}")
        theirs.append(_mtail(mtail, path))
        if ours[-1][2] != theirs[-1][2]:
            different = sorted(set(ours[-1][2].items()) ^ set(theirs[-1][2].items()))
            raise RuntimeError(f"mtail counted something else: {different}")
    path.unlink()
    here, beside = (Figure([lines / wall for wall, _, _ in runs], _RATE) for runs in (ours, theirs))
    yield Row("log, line to model", here, "mtail", beside, ("≥", 4))
    here, beside = (
        Figure([cpu * 1e6 / lines for _, cpu, _ in runs], _MICROSECONDS) for runs in (ours, theirs)
    )
    yield Row("processor time a log line", here, "mtail", beside, ("≤", 0.25))


def _follow(path: Path) -> tuple[float, float, dict[str, float]]:
    argv = [sys.executable, "-m", "bench.follow", str(path)]
    done = subprocess.run(
        argv, cwd=_ROOT, env={**os.environ, "PYTHONPATH": "tests"}, check=True, stdout=subprocess.PIPE
    )
    told = json.loads(done.stdout)
    return told["wall"], told["cpu"], told["counts"]


def _mtail(program: str, path: Path) -> tuple[float, float, dict[str, float]]:
    argv = [program, "--one_shot", "--one_shot_format=prometheus", "--emit_prog_label=false", "--logtostderr"]
    argv += [f"--logs={path}", f"--progs={Path(__file__).with_name('qmail.mtail')}"]
    before = os.times()
    begun = perf_counter()
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    wall = perf_counter() - begun
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu, dict(_samples(done.stdout))


def _samples(text: str) -> Iterator[tuple[str, float]]:
    labels = ("channel", "result", "reason", "kind")
    for family in text_string_to_metric_families(text[text.index("# ") :]):
        for sample in family.samples:
            if sample.value:
                values = (sample.labels[label] for label in labels if label in sample.labels)
                yield " ".join((sample.name.removesuffix("_total"), *values)), sample.value


# --- the log


def _write(path: Path, lines: int) -> int:
    """Have a simulated qmail for each processor write a part of the log, one after the other in time; return the lines."""
    workers = os.cpu_count() or 1
    parts = [path.with_name(f"{path.name}.{worker}") for worker in range(workers)]
    with ProcessPoolExecutor(workers) as pool:
        written = list(pool.map(_write_part, parts, [lines // workers] * workers, range(workers)))
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
            part.unlink()
    return sum(written)


def _write_part(path: Path, lines: int, seed: int) -> int:
    """Write about that many lines: ten messages a second, a twentieth to several recipients, and a restart now and then."""
    world, chance = World(seed), random.Random(seed)
    clock = Clock(_BEGIN + seed * 10_000_000)
    written = 0
    with TemporaryDirectory(dir=path.parent) as home, path.open("wb", buffering=1 << 20) as file:

        def log(line: bytes) -> None:
            nonlocal written
            written += 1
            file.write(tai64n(clock()) + b" " + line + b"\n")

        qmail = Qmail(
            Path(home), clock=clock, respond=world.respond, log=log, concurrency={"local": 10, "remote": 200}
        )
        qmail.start()
        restart = lines // 5
        while written < lines:
            _mail_for_a_second(qmail, world, chance)
            qmail.run_until(clock.now + 1)
            if written >= restart:
                restart += lines // 5
                qmail.kill()
                qmail.start()
    return written


def _mail_for_a_second(qmail: Qmail, world: World, chance: random.Random) -> None:
    for _ in range(10):
        draw = chance.random()
        if draw < 0.15:
            recipients = [b"user%d@mail.test" % chance.randrange(400)]
        elif draw < 0.17:
            recipients = [b"nobody@mail.test"]
        else:
            number = chance.randrange(2, 12) if draw < 0.22 else 1
            recipients = [
                b"user%d@%b" % (chance.randrange(400), world.pick().name.encode()) for _ in range(number)
            ]
        sender = b"" if 0.17 > draw > 0.165 else b"user%d@mail.test" % chance.randrange(200)
        run(
            qmail.inject(
                sender, recipients, b"Subject: benchmark\n\n" + b"All is well.\n" * chance.randrange(200)
            )
        )
