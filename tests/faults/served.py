"""`python -m faults.served serve …`: the exporter itself, for tests of faults.

It is impatient, so that tests need not wait seconds for what it tries again.  On SIGUSR2 it says how many tasks it has.  Of any file
that it, or a process of its scan, opens for writing, makes, changes or removes, it says that too.  And it may stop itself (SIGSTOP) at a
given step of its first scan, `FAULTS_STOP=child:3` or `self:0`, or of a later one, `self:0:2`, so that a fault can come exactly there.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from qmail_exporter import cli, daemon
from qmail_exporter.collect import directory, everywhere, log
from qmail_exporter.sources.logs import journal
from qmail_exporter.sources.scan import Tree

SHORT = 0.2
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGED = (
    "chmod",
    "chown",
    "link",
    "mkdir",
    "remove",
    "rename",
    "rmdir",
    "setxattr",
    "symlink",
    "truncate",
    "utime",
)
_CHANGES = frozenset(f"os.{name}" for name in _CHANGED)


def main() -> None:
    """Run the exporter."""
    sys.addaudithook(_watch_writes)
    directory.PATIENCE = log.PATIENCE = SHORT
    journal._FIRST_DELAY = journal._LONGEST_DELAY = SHORT
    began = daemon.Daemon.__init__

    def begin(self: daemon.Daemon, config: Any, *given: Any) -> None:
        object.__setattr__(config, "tick", SHORT / 2)
        began(self, config, *given)

    daemon.Daemon.__init__ = begin  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGUSR2, _tell)
    if where := os.environ.get("FAULTS_STOP"):
        who, step, *which = where.split(":")
        _stop_in_scan(who, int(step), int(which[0]) if which else 1)
    cli.main(prog_name="qmail-exporter")


def _watch_writes(event: str, given: tuple[Any, ...]) -> None:
    if event in _CHANGES or (event == "open" and _writes(*given)):
        os.write(2, b"faults: wrote %a\n" % ((event, *given),))


def _writes(path: object, _mode: object, flags: int) -> bool:
    """Whether a file is opened to be written to, that of a descriptor and /dev/null aside."""
    return bool(flags & _WRITING) and not isinstance(path, int) and path != os.devnull


def _tell(*_: object) -> None:
    os.write(2, b"faults: tasks=%d\n" % len(asyncio.all_tasks()))


def _stop_in_scan(who: str, step: int, which: int) -> None:
    """Stop at a step of a scan, the first is 1: where it is made, in the `child`, or in this process, which takes what the child found."""
    whole, part, parent, scans = everywhere.everywhere, Tree.walk, os.getpid(), [0]

    def everything(*given: Any) -> Iterator[float]:
        scans[0] += 1
        steps = whole(*given)
        return _stopping(steps, step) if who == "self" and scans[0] == which else steps

    def walk(self: Tree, *given: Any, **more: Any) -> Iterator[Any]:
        steps = part(self, *given, **more)
        return (
            _stopping(steps, step)
            if who == "child" and scans[0] == which and os.getpid() != parent
            else steps
        )

    setattr(directory, "everywhere", everything)  # noqa: B010 - mypy minds the other way
    setattr(Tree, "walk", walk)  # noqa: B010 - as above


def _stopping(steps: Iterator[Any], at: int) -> Iterator[Any]:
    for number in itertools.count():
        if number == at:
            os.kill(os.getpid(), signal.SIGSTOP)
        try:
            yield next(steps)
        except StopIteration:
            return


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]
