"""Recordings played to a real Prometheus with a real Alertmanager behind it, on a clock that runs faster."""

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from incidents import scaled
from incidents.host import BIRTH, SCRAPE
from incidents.served import Notice, Stage

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "qmail.rules.yml"
ALERTMANAGER = ROOT / "deploy" / "alertmanager"
_PATIENCE = 30.0
_MISSED = 0.05
"""The share of evaluations that a run may miss …"""
_FAILED = 3
"""… and the scrapes that may fail, for it to tell what a Prometheus with enough processor time would have told."""
_TRIES = 3


class Raised(NamedTuple):
    """An alert that Prometheus raised, whether or not somebody was told."""

    host: str
    alert: str


@dataclass
class Played:
    """What became of a run.

    Attributes:
        notices: what came, in order.
        raised: the alerts that fired in Prometheus.
        missed: evaluations of a group of rules that Prometheus left out, and how many there were.
        failed: scrapes that failed, of hosts that would have answered.
        programs: versions.
        factors: how much faster than the real clock, by host.
    """

    notices: list[Notice] = field(default_factory=list)
    raised: set[Raised] = field(default_factory=set)
    missed: tuple[int, int] = (0, 0)
    failed: int = 0
    programs: tuple[str, ...] = ()
    factors: dict[str, float] = field(default_factory=dict)

    @property
    def in_step(self) -> bool:
        """Whether the programs kept up with the clock, but for little that does not matter."""
        missed, runs = self.missed
        return missed <= _MISSED * runs and self.failed <= _FAILED

    def add(self, other: "Played") -> None:
        """Take in what became of other hosts."""
        self.notices += other.notices
        self.raised |= other.raised
        self.missed = self.missed[0] + other.missed[0], self.missed[1] + other.missed[1]
        self.failed += other.failed
        self.programs = other.programs
        self.factors |= other.factors


# --- the programs


def programs() -> tuple[str, str] | None:
    """Return the paths of Prometheus and Alertmanager; None if one is not installed."""
    prometheus = shutil.which("prometheus")
    manager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    return (prometheus, manager) if prometheus and manager else None


@contextmanager
def _running(directory: Path, name: str, *command: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a program that says in its log where it listens; gives that address, and the process."""
    log = directory / f"{name}.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, cwd=directory) as process:
        try:
            yield _until(lambda: _address(log, process)), process
        finally:
            process.kill()


def _address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    text = log.read_text(errors="replace")
    assert process.poll() is None, text
    found = re.search(r"Listening on.*address=\"?(?:\[::\]|127\.0\.0\.1):(\d+)", text)
    return f"127.0.0.1:{found[1]}" if found else ""


def _until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + _PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)
    return value


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - a program of this run
        return json.load(answer)


def play_in_turn(
    frames: Mapping[str, Sequence[bytes | None]],
    directory: Path,
    *,
    factor: float,
    at_once: int,
    prometheus: str,
    manager: str,
    tell: Callable[[str], object] = lambda _: None,
) -> Played:
    """Play recordings as `play` does, `at_once` of about one length at a time.

    Where the programs could not keep up, as on a busy machine, it is done again at half the speed, and so on, but not for ever.
    """
    whole = Played()
    hosts = sorted(frames, key=lambda host: len(frames[host]))
    for first in range(0, len(hosts), at_once):
        some = {host: frames[host] for host in hosts[first : first + at_once]}
        for turn in range(_TRIES):
            place = directory / f"{first}-{turn}"
            place.mkdir()
            played = play(
                some, place, factor=factor / 2**turn, prometheus=prometheus, manager=manager, tell=tell
            )
            if played.in_step:
                break
            tell(
                f"too fast: {played.missed[0]} of {played.missed[1]} evaluations missed, {played.failed} scrapes failed"
            )
        whole.add(played)
    return whole


def play(
    frames: Mapping[str, Sequence[bytes | None]],
    directory: Path,
    *,
    factor: float,
    prometheus: str,
    manager: str,
    tell: Callable[[str], object] = lambda _: None,
) -> Played:
    """Play all recordings at once and return what became of them.

    Args:
        frames: by host, what a scrape gets each minute.
        directory: an empty one.
        factor: how much faster than the real clock.
        prometheus: the program.
        manager: the program, Alertmanager.
        tell: is told now and then how far it is.
    """
    length = max(map(len, frames.values())) * SCRAPE / factor
    with ExitStack() as stack:
        stage = stack.enter_context(Stage(frames, factor))
        _write_manager(directory, stage)
        address, _ = stack.enter_context(_running(directory, "alertmanager", manager, *_MANAGER))
        (directory / "rules.yml").write_text("groups: []\n")
        (directory / "prometheus.yml").write_text(_configuration(stage, address))
        server, process = stack.enter_context(_running(directory, "prometheus", prometheus, *_PROMETHEUS))
        _until(lambda: stage.scraped >= frames.keys())  # it takes seconds to find them, whatever the factor
        start = stage.start = time.time() + 1.0
        written = scaled.rules(RULES.read_text(), factor, birth=BIRTH, start=start)
        (directory / "rules.yml").write_text(written)
        process.send_signal(signal.SIGHUP)
        while (left := start + length + 1.0 - time.time()) > 0:
            tell(f"minute {max(stage.minutes, 0):.0f} of {length * factor / 60:.0f}")
            time.sleep(min(left, 15.0))
        versions = (_version(prometheus), _version(manager))
        factors = dict.fromkeys(frames, factor)
        failed = _failed(server, frames)
        return Played(sorted(stage.notices), _raised(server), _missed(server), failed, versions, factors)


_LISTEN = "--web.listen-address=127.0.0.1:0"
_MANAGER = (
    "--config.file=alertmanager.yml",
    "--storage.path=alertmanager",
    "--cluster.listen-address=",
    _LISTEN,
)
_PROMETHEUS = (
    "--config.file=prometheus.yml", "--storage.tsdb.path=prometheus", "--rules.alert.resend-delay=2s", _LISTEN
)  # fmt: skip


def _write_manager(directory: Path, stage: Stage) -> None:
    base = f"http://127.0.0.1:{stage.port}/take"
    text = scaled.alertmanager(
        (ALERTMANAGER / "alertmanager.example.yml").read_text(),
        stage.factor,
        pager=f"{base}/pager",
        chat=f"{base}/chat",
        templates=str(ALERTMANAGER / "qmail.tmpl"),
    )
    (directory / "alertmanager.yml").write_text(text)


def _configuration(stage: Stage, manager: str) -> str:
    interval = scaled.shorter(f"{SCRAPE:.0f}s", stage.factor)
    targets = [
        {
            "targets": [f"127.0.0.1:{stage.port}"],
            "labels": {"instance": host, "__metrics_path__": f"/scrape/{host}"},
        }
        for host in stage.frames
    ]
    return json.dumps({
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
        "scrape_configs": [{"job_name": "qmail", "static_configs": targets}],
    })  # fmt: skip


def _raised(server: str) -> set[Raised]:
    query = urllib.parse.quote(
        'count by (instance, alertname) (max_over_time(ALERTS{alertstate="firing"}[1h]))'
    )
    found = _get(f"http://{server}/api/v1/query?query={query}")["data"]["result"]
    return {Raised(one["metric"].get("instance", ""), one["metric"]["alertname"]) for one in found}


def _failed(server: str, frames: Mapping[str, Sequence[bytes | None]]) -> int:
    query = urllib.parse.quote("count_over_time(up[1h]) - sum_over_time(up[1h])")
    found = _get(f"http://{server}/api/v1/query?query={query}")["data"]["result"]
    failed = {one["metric"]["instance"]: int(one["value"][1]) for one in found}
    return sum(max(failed.get(host, 0) - list(frames[host]).count(None) - 1, 0) for host in frames)


def _missed(server: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"http://{server}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    counts: dict[str, float] = defaultdict(float)
    for name, value in re.findall(
        r"^prometheus_rule_group_(iterations\w*_total)\{.*\} (\S+)$", text, re.MULTILINE
    ):
        counts[name] += float(value)
    return int(counts["iterations_missed_total"]), int(counts["iterations_total"])


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).partition(" (")[0].replace(", version", "")
