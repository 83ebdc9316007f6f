"""What the picture is made from: each source of a queue, whether it can be read, and why not."""

import os
from collections.abc import Iterator

from qmail_exporter import errors
from qmail_exporter.readings import View
from qmail_exporter.status.facts import Source

AREAS = ("mess", "todo", "info", "local", "remote", "bounce")
_PATHS = {"tcpto": "lock/tcpto", "filesystem": ""}


def sources(view: View) -> tuple[Source, ...]:
    """Return every source of a queue."""
    return (*_queue(view), _log(view), *_host(view))


def unread(view: View, *names: str) -> str:
    """Tell why what takes these sources is not known."""
    watch = view.watch
    down = [source for source in sources(view) if not source.up and source.name in (*names, "queue")]
    if down and not (
        down[0].name == "queue" and names[0] in ("control", "processes", "filesystem", "tcpto", "log")
    ):
        return f"{down[0].name}: {down[0].why}"
    if "log" in names:
        done = view.log.progress if view.log else None
        return "the retained log is still being read back" + ("" if done is None else f", {done:.0%} done")
    if not watch.scanned:
        return f"the queue is being scanned, {watch.sweeps.progress:.0%} done"
    return "not read yet"


def _queue(view: View) -> Iterator[Source]:
    watch = view.watch
    if watch.tree is None:
        yield _broken("queue", watch.path, watch.why_absent)
        return
    for area in watch.tree.areas:
        error = watch.tree.broken.get(area)
        path = f"{watch.path}/{area}"
        yield Source(area, True, path) if error is None else _broken(area, path, error)
    if watch.watched:
        yield Source("inotify", True, watch.path)
    elif watch.watcher is not None:
        yield _broken("inotify", watch.path, next(iter(watch.watcher.unwatched.values())))
    else:
        yield _broken("inotify", watch.path, watch.why_unwatched)


def _log(view: View) -> Source:
    log = view.log
    if log is None:
        return Source("log", False, "", "no log of qmail-send was found")
    path = log.follower.path
    if log.error is not None:
        return _broken("log", path, log.error)
    # Before the first read of it nobody can say.
    absent = not log.follower.present and (log.recalled or log.read_once)
    return Source("log", not absent, path, "there is no such log" if absent else "")


def _host(view: View) -> Iterator[Source]:
    host = view.host
    for name, up in host.up().items():
        path = host.control if name == "control" else os.path.join(host.queue, _PATHS.get(name, ""))
        if name == "processes":
            path = "/proc"
        yield Source(name, True, path) if up else _broken(name, path, host.failing.get(name))


def _broken(name: str, path: str, error: Exception | None) -> Source:
    if isinstance(error, OSError):
        denied = isinstance(error, PermissionError)
        return Source(name, False, str(error.filename or path), errors.words(error), denied)
    return Source(name, False, path, "not read yet" if error is None else str(error))
