"""What the user who runs this can read of what `serve` reads, and how to let it where it cannot."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from time import monotonic

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
_AS_QMAIL_SEND = "runuser -u qmails -g qmail -- qmail-exporter serve"
"""qmail-send makes its files in the queue for itself alone, each anew, so that neither a group nor an ACL lets others in."""


def examine(control: Path, queues: Sequence[QueueSpec], logs: Sequence[LogSpec]) -> list[Finding]:
    """Try every source of `serve`, as the user who runs this."""
    found = [each for queue in queues for each in _queue(queue, alone=len(queues) == 1)]
    found.append(_source("control", lambda: ControlFiles(str(control)).read(), str(control)))
    for log in logs:
        found += _log(log.spec)
    if not logs:
        text = "no log of qmail-send was found in the usual places: name it with --qmail.log"
        found.append(blind("log", text))
    return found


# --- queues


def _queue(queue: QueueSpec, *, alone: bool) -> list[Finding]:
    subject = f"queue {queue.name}"
    try:
        tree = Tree(str(queue.path))
    except OSError as error:
        return [blind(subject, _why(error), _as_qmail_send(error))]
    with closing(tree):
        _try_files(tree)
        layout = f"{queue.path}: split {tree.split}{', big todo' if tree.big_todo else ''}"
        found = [ok(subject, f"{layout}, channels {' '.join(tree.channels)}")]
        found += [
            blind(subject, f"{area}: {_why(e)}", _as_qmail_send(e)) for area, e in sorted(tree.broken.items())
        ]
        if not tree.broken:
            found[0] = found[0]._replace(text=found[0].text + ", all of it can be read")
            found += _watches(subject, tree)
    path = str(queue.path)
    found.append(_source(f"tcpto {queue.name}", lambda: read_tcpto(path), f"{path}/lock/tcpto"))
    found.append(_processes(queue, alone=alone))
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
        return warn(subject, "no qmail-send is seen to run on this queue")
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


def _log(spec: str) -> list[Finding]:
    subject = f"log {spec}"
    sample = _Sample()
    with closing(open_log(spec)) as follower:
        until = monotonic() + PATIENCE
        try:
            for batch in follower.backfill():
                sample.take(batch.lines)
                if sample.styles.total() >= SAMPLE or monotonic() > until:
                    break
        except OSError as error:
            fix = f"usermod -aG systemd-journal {user.name()}" if spec.startswith("journal:") else _fix(error)
            return [blind(subject, _why(error), fix)]
        if not follower.present:
            return [blind(subject, "there is no such log")]
    return [_judged(subject, sample)]


def _judged(subject: str, sample: _Sample) -> Finding:
    if not sample.lines:
        return warn(subject, "empty: nothing is known yet of attempts and reasons")
    if not sample.styles:
        return blind(
            subject, f"none of {sample.lines} lines is qmail-send's: is it the log of another program?"
        )
    # Not most_common, which imports a module when called: the user who is tried may not be able to read any.
    text = f"written by {max(sample.styles, key=sample.styles.__getitem__)}"
    if sample.strange * 20 > sample.styles.total():
        return warn(subject, f"{text}; {sample.strange} lines are not understood")
    return ok(subject, text)


# --- what is in the way


def _source(subject: str, read: Callable[[], object], what: str) -> Finding:
    try:
        read()
    except FileNotFoundError as error:
        return blind(subject, _why(error))
    except OSError as error:
        return blind(subject, _why(error), _fix(error))
    except FormatError as error:
        return blind(subject, str(error))
    return ok(subject, what)


def _why(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _as_qmail_send(error: OSError) -> str | None:
    return _AS_QMAIL_SEND if isinstance(error, PermissionError) else None


def _fix(error: OSError) -> str | None:
    """Return what lets this user read what it could not."""
    if not isinstance(error, PermissionError) or not error.filename:
        return None
    who = user.name()
    return next((rules.fix_access(*way, who) for way in _barred(str(error.filename))), None)


def _barred(path: str) -> list[tuple[str, int, str]]:
    """The first directory on the way to `path`, or itself, that this user may not use: path, mode, group."""
    for place in (*reversed(Path(path).parents), Path(path)):
        try:
            found = os.stat(place)
        except OSError:
            return []
        wanted = os.R_OK | os.X_OK if place.is_dir() else os.R_OK
        if place != Path(path):
            wanted = os.X_OK
        if not os.access(place, wanted, effective_ids=True):
            return [(str(place), found.st_mode, user.group(found.st_gid))]
    return []
