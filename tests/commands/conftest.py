"""Runs commands, on a simulated qmail."""

import itertools
import syslog
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter import cli
from stage import Command, Done, Simulated, StandIn, simulation, standing_in


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that go to syslog."""
    lines: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda _priority, text: lines.append(text))
    return lines


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], audit: list[str]) -> Command:
    """Run a command line; its audit lines are caught, too."""
    assert isinstance(audit, list)

    def call(*words: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words], prog_name="qmail-exporter")
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, printed.out, printed.err)

    return call


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Callable[..., Simulated]]:
    """Make simulated qmails."""
    with ExitStack() as stack:
        count = itertools.count()

        def make(**given: Any) -> Simulated:
            return stack.enter_context(simulation(tmp_path / f"home{next(count)}", **given))

        yield make


@pytest.fixture
def simulated(simulate: Callable[..., Simulated]) -> Simulated:
    return simulate()


@pytest.fixture
def stopped(simulate: Callable[..., Simulated]) -> Simulated:
    """A queue without a qmail-send, for a stand-in to take."""
    return simulate(start=False)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Callable[..., StandIn]]:
    """Start stand-ins for qmail-send."""
    with ExitStack() as stack:

        def make(queue: Path, how: str = "locked", name: str = "qmail-send") -> StandIn:
            return stack.enter_context(standing_in(tmp_path, queue, how, name))

        yield make
