"""The exporter's own health: what is wrong with the picture, in words, and what to do about it.  Pure."""

from collections.abc import Iterator

from qmail_exporter.status.facts import QueueFacts, Source
from qmail_exporter.status.mail import SPOKE
from qmail_exporter.status.trouble import Trouble, count, duration

LAG = 5.0
"""Seconds that the log may be behind before it is worth a word."""
_AREAS = frozenset({"queue", "mess", "todo", "info", "local", "remote", "bounce"})
_DOCTOR = "qmail-exporter doctor"
_ADVICE = {
    "queue": "If the queue is elsewhere, name it with --qmail.queue or --qmail.home. It is tried again every 5 seconds.",
    "log": "Name it with --qmail.log: multilog's directory, a file, or journal:UNIT. Until then nothing is known of deliveries and reasons.",
    "inotify": "Raise fs.inotify.max_user_watches or max_user_instances. Until then the queue is read every 30 seconds.",
    "tcpto": "Until then nobody can say which hosts qmail passes over.",
    "control": "Until then it is not known when mail expires.",
    "filesystem": "Until then it is not known how much room is left.",
    "processes": "Until then it is not known whether qmail-send runs.",
}
_DENIED = "Run the exporter as user qmails with group qmail, or let its user read this; the doctor, run as that user, gives the command."


def troubles(queue: QueueFacts, now: float) -> Iterator[Trouble]:
    """Yield what is wrong with the picture of one queue."""
    yield from _sources(queue)
    yield from _picture(queue)
    yield from _log(queue, now)


def _sources(queue: QueueFacts) -> Iterator[Trouble]:
    down = [source for source in queue.sources if not source.up]
    if not any(source.name == "queue" for source in down):
        areas = [source for source in down if source.name in _AREAS]
        if areas:
            yield _unreadable(areas)
        # What cannot be read cannot be watched either.
        paths = {source.path for source in areas}
        down = [
            each
            for each in down
            if each.name not in _AREAS and not (each.name == "inotify" and each.path in paths)
        ]
    else:  # its areas, tcpto and room are part of it, and are not told of again
        down = [source for source in down if source.name not in {"tcpto", "filesystem"}]
    for source in down:
        yield _broken(source)


def _unreadable(areas: list[Source]) -> Trouble:
    """Several areas of the queue, mostly barred by the same right."""
    names = " and ".join(filter(None, (", ".join(each.name for each in areas[:-1]), areas[-1].name)))
    what = f"{names} {'is' if len(areas) == 1 else 'are'} not read: figures that take {'it' if len(areas) == 1 else 'them'} are not known."
    why = f"{areas[0].path}: {areas[0].why}."
    return Trouble(
        "act", what, why, _DENIED if areas[0].denied else "Check the queue's directories.", (_DOCTOR,)
    )


def _broken(source: Source) -> Trouble:
    names = {
        "queue": "The queue directory cannot be opened: nothing is known of it.",
        "log": "qmail-send's log is not read.",
        "inotify": "The queue is not wholly watched: the figures may be 30 seconds old.",
        "tcpto": "qmail's table of hosts that timed out is not read.",
        "control": "qmail's control files are not read.",
        "filesystem": "The queue's file system cannot be asked.",
        "processes": "The list of processes is not read.",
    }
    why = f"{source.path}: {source.why}." if source.path else f"{source.why.capitalize()}."
    advice = _ADVICE[source.name]
    if source.denied:
        advice = f"{_DENIED} {advice if source.name == 'log' else ''}".strip()
    level = "act" if source.name in {"queue", "log"} else "look"
    return Trouble("act" if level == "act" else "look", names[source.name], why, advice, (_DOCTOR,))


def _picture(queue: QueueFacts) -> Iterator[Trouble]:
    own = queue.own
    if own.in_doubt:
        done = f"{own.scan:.0%} are done." if own.scan is not None else ""
        yield Trouble(
            "note",
            "The queue is being read: until that is done its figures are not known, or may be old.",
            done,
        )
    if own.pending:
        what = f"{count(own.pending, 'changed message')} {'is' if own.pending == 1 else 'are'} still to be looked at."
        yield Trouble("note", what, "The figures are behind by as much.")
    if own.overflows:
        yield Trouble(
            "note",
            f"The kernel has dropped events {count(own.overflows, 'time')} since the start.",
            "Each time the queue was read again, so the figures are right.",
            "If it goes on, raise fs.inotify.max_queued_events.",
        )
    if own.drift:
        yield Trouble(
            "look",
            f"{count(own.drift, 'message')} had changed without an event when the whole queue was checked.",
            "That should not be: the figures may have been wrong for up to an hour.",
            "Is something else writing into the queue, or is it on a network file system?",
        )
    if own.malformed:
        what = f"{count(own.malformed, 'message')} {'has' if own.malformed == 1 else 'have'} files that are not in qmail's format."
        yield Trouble(
            "look",
            what,
            "They are counted as they were, or not at all.",
            "The doctor names them.",
            (_DOCTOR,),
        )


def _log(queue: QueueFacts, now: float) -> Iterator[Trouble]:
    own = queue.own
    if own.recalling:
        done = "" if own.recalled is None else f", {own.recalled:.0%} done"
        yield Trouble(
            "note", f"The retained log is being read back{done}: reasons and deliveries are not known yet."
        )
    if own.lag > LAG:
        yield Trouble(
            "note", f"The log is read {duration(own.lag)} late.", "More is written than could be read so far."
        )
    if own.unparsed:
        yield Trouble(
            "note",
            f"{count(own.unparsed, 'line')} of the log {'was' if own.unparsed == 1 else 'were'} not understood.",
            do="The exporter's own log shows the first ones.",
        )
    if own.lost:
        yield Trouble(
            "look",
            f"{count(own.lost, 'line or file', 'lines or files')} of the log could not be read.",
            do="The exporter's own log says why.",
        )
    if queue.sending is False and queue.heard is not None and now - queue.heard <= SPOKE:
        yield Trouble(
            "note",
            "No qmail-send is seen to run, though its log speaks.",
            "The exporter may not be able to see it: another PID namespace, or /proc with hidepid.",
        )
