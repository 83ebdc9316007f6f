"""What the user who runs this can read of what `serve` reads, and how to let it where it cannot."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import NamedTuple, TypeAlias

from qmail_exporter.config import LogSpec, QueueSpec
from qmail_exporter.examine import rules, user
from qmail_exporter.examine.finding import Finding, blind, ok, warn
from qmail_exporter.examine.style import style
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.log import parse
from qmail_exporter.formats.prefix import Prefixes
from qmail_exporter.sources.host import ControlFiles, read_processes, read_tcpto
from qmail_exporter.sources.inotify import Watcher, WatchError
from qmail_exporter.sources.logs import open_log
from qmail_exporter.sources.scan import Tree

SAMPLE = 1000
"""Lines of qmail-send's that are tried of a log."""
PATIENCE = 3.0
"""Seconds at most that a log is searched for them."""

Modes: TypeAlias = Mapping[str, os.stat_result]
"""What `os.stat` tells, by path."""


class Exam(NamedTuple):
    """What is tried.

    Attributes:
        control: the directory of the control files.
        queues: the queues.
        logs: their logs.
        serve: by queue, the command that runs `serve` as the user who may read it.
    """

    control: Path
    queues: Sequence[QueueSpec]
    logs: Sequence[LogSpec]
    serve: Mapping[str, str]


def examine(exam: Exam, modes: Modes | None = None) -> list[Finding]:
    """Try every source of `serve`, as the user who runs this.

    Args:
        exam: what is tried.
        modes: what `survey` found out as somebody who could see more.
    """
    modes = modes or {}
    found = [*_program(), *(each for queue in exam.queues for each in _queue(queue, exam, modes))]
    control = str(exam.control)
    found.append(_source("control", lambda: ControlFiles(control).read(), control, modes))
    found += [_log(log.spec, modes) for log in exam.logs]
    if not exam.logs:
        text = "no log of qmail-send was found in the usual places: name it with --qmail.log"
        found.append(blind("log", text))
    return found


def survey(exam: Exam) -> Modes:
    """Return the modes and groups of all that is on the way to what another user may not be able to see."""
    paths = [str(exam.control), *(f"{queue.path}/lock/tcpto" for queue in exam.queues)]
    for log in exam.logs:
        paths += [] if log.spec.startswith("journal:") else [log.spec, f"{log.spec}/current"]
    found: dict[str, os.stat_result] = {}
    for path in paths:
        for place in _way(path):
            with suppress(OSError):
                found[place] = os.stat(place)
    return found


def _program() -> list[Finding]:
    """Whether this user can run this program at all; nothing if so."""
    needed = ((sys.executable, os.X_OK), (os.__file__, os.R_OK), (__file__, os.R_OK))
    closed = [path for path, right in needed if not os.access(path, right, effective_ids=True)]
    advice = "install it where every user may read, in /opt for example"
    return (
        [blind("program", f"this user cannot run it, for {closed[0]} is closed: {advice}")] if closed else []
    )


# --- queues


def _queue(queue: QueueSpec, exam: Exam, modes: Modes) -> list[Finding]:
    subject = f"queue {queue.name}"
    path = str(queue.path)

    def fix(error: OSError) -> str | None:
        return exam.serve[queue.name] if isinstance(error, PermissionError) else None

    try:
        tree = Tree(path)
    except OSError as error:
        return [blind(subject, _why(error), fix(error))]
    with closing(tree):
        _try_files(tree)
        layout = f"{path}: split {tree.split}{', big-todo patch' if tree.big_todo else ''}"
        found = [ok(subject, f"{layout}, channels {' '.join(tree.channels)}")]
        found += [blind(subject, f"{area}: {_why(e)}", fix(e)) for area, e in sorted(tree.broken.items())]
        if not tree.broken:
            found[0] = found[0]._replace(text=found[0].text + ", all of it can be read")
            found += _watches(subject, tree)
    found.append(_source(f"tcpto {queue.name}", lambda: read_tcpto(path), f"{path}/lock/tcpto", modes))
    found.append(_processes(queue, alone=len(exam.queues) == 1))
    return found


def _try_files(tree: Tree) -> None:
    """Try one message of each directory: a directory may be open to all and its files to nobody."""
    for number in range(tree.split):
        for area in ("info", *tree.channels):
            try:
                with os.scandir(f"{tree.path}/{area}/{number}") as entries:
                    names = [entry.name for entry in islice(entries, 1)]
            except OSError:
                continue
            for name in names:
                if name.isascii() and name.isdecimal():
                    tree.look(int(name))


def _watches(subject: str, tree: Tree) -> list[Finding]:
    try:
        watcher = Watcher(tree.path, {area: tree.directories(area) for area in tree.areas})
    except WatchError as error:
        return [blind(subject, _why(error), "sysctl -w fs.inotify.max_user_instances=1024")]
    with closing(watcher):
        if not watcher.unwatched:
            return []
        text = f"{len(watcher.unwatched)} directories cannot be watched: the kernel allows this user too few"
        return [blind(subject, text, "sysctl -w fs.inotify.max_user_watches=65536")]


def _processes(queue: QueueSpec, *, alone: bool) -> Finding:
    subject = f"processes {queue.name}"
    try:
        found = read_processes(str(queue.path), alone=alone).found
    except OSError as error:
        return blind(subject, _why(error))
    if not found:
        return warn(subject, "no qmail-send is seen to run on this queue: mail waits until one does")
    hidden = [process.program for process in found if process.memory is None]
    if hidden:
        return warn(subject, f"nothing but the names can be seen of {', '.join(hidden)}")
    return ok(subject, ", ".join(process.program for process in found))


# --- logs


class _Sample:
    """Lines of a log, and what becomes of them."""

    def __init__(self) -> None:
        self.lines = 0
        self.strange = 0
        self.styles: Counter[str] = Counter()  # of qmail-send's lines
        self._prefixes = Prefixes()

    def take(self, lines: Sequence[bytes]) -> None:
        """Try some lines."""
        self.lines += len(lines)
        for line in lines:
            for text, _ in self._prefixes.strip([line], None, 0.0):
                if _is_line(text):
                    self.styles[style(line)] += 1
                else:
                    self.strange += 1


def _is_line(text: bytes) -> bool:
    try:
        parse(text, 0.0)
    except FormatError:
        return False
    return True


def _log(spec: str, modes: Modes) -> Finding:
    sample = _Sample()
    with closing(open_log(spec)) as follower:
        until = monotonic() + PATIENCE
        try:
            for batch in follower.backfill():
                sample.take(batch.lines)
                if sample.styles.total() >= SAMPLE or monotonic() > until:
                    break
        except OSError as error:
            journal = spec.startswith("journal:")
            fix = f"usermod -aG systemd-journal {user.name()}" if journal else _fix(error, spec, modes)
            return blind("log", f"{spec}: {_why(error)}" if journal else _why(error), fix)
        if not follower.present:
            return blind("log", f"{spec}: there is no such log")
    return _judged(spec, sample)


def _judged(spec: str, sample: _Sample) -> Finding:
    if not sample.lines:
        return warn("log", f"{spec}: empty, so nothing is known yet of attempts and reasons")
    if not sample.styles:
        text = f"{spec}: none of {sample.lines} lines is qmail-send's: is it the log of another program?"
        return blind("log", text)
    # Not most_common, which imports a module when called: the user who is tried may not be able to read any.
    text = f"{spec}: written by {max(sample.styles, key=sample.styles.__getitem__)}"
    if sample.strange * 20 > sample.styles.total():
        return warn("log", f"{text}; {sample.strange} lines are not understood")
    return ok("log", text)


# --- what is in the way


def _source(subject: str, read: Callable[[], object], what: str, modes: Modes) -> Finding:
    try:
        read()
    except FileNotFoundError as error:
        return blind(subject, _why(error))
    except OSError as error:
        return blind(subject, _why(error), _fix(error, what, modes))
    except FormatError as error:
        return blind(subject, str(error))
    return ok(subject, what)


def _why(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _fix(error: OSError, what: str, modes: Modes) -> str | None:
    """Return what lets this user read `what`, a file or the directory of a log, where that failed."""
    if not isinstance(error, PermissionError):
        return None
    way = dict.fromkeys(_way(what)[:-1], "x")
    way[what] = "rx" if _is_directory(what, modes) else "r"
    way |= dict.fromkeys([f"{what}/current"] if f"{what}/current" in modes else [], "r")
    if error.filename:
        way.setdefault(str(error.filename), "r")
    commands = [_open_to(user.name(), place, rights, modes) for place, rights in way.items()]
    return " && ".join(dict.fromkeys(filter(None, commands))) or None


def _way(path: str) -> list[str]:
    return [*(str(place) for place in reversed(Path(path).parents)), path]


def _is_directory(path: str, modes: Modes) -> bool:
    found = modes.get(path)
    return os.path.isdir(path) or (found is not None and stat.S_ISDIR(found.st_mode))


def _open_to(who: str, place: str, rights: str, modes: Modes) -> str | None:
    """What opens one directory or file to this user, who is `who`; None if it is open.

    What this user cannot even look at is judged by its mode, which does not tell of ACLs.
    """
    try:
        found = os.stat(place)
        wanted = (os.R_OK if "r" in rights else 0) | (os.X_OK if "x" in rights else 0)
        is_open = os.access(place, wanted, effective_ids=True)
    except OSError:
        if place not in modes:
            return None
        found = modes[place]
        which = (
            6 if found.st_uid == os.geteuid() else 3 if found.st_gid in (os.getegid(), *os.getgroups()) else 0
        )
        is_open = rules.lets(found.st_mode >> which, rights)
    return None if is_open else rules.fix_access(place, found.st_mode, user.group(found.st_gid), who, rights)
