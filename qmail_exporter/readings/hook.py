"""Readings of the outage hook: nothing until the log has told, as what a delivery tells of the network stands there."""

from collections.abc import Callable, Iterator

from qmail_exporter.hook import RESULTS, Hook, Record
from qmail_exporter.outage import SKIPS, State
from qmail_exporter.readings.view import Reading, Sample, View


def outage_state(view: View) -> Iterator[Sample]:
    if hook := _told(view):
        for state in State:
            yield (state.value,), float(hook.state is state)


def outages(view: View) -> Iterator[Sample]:
    if hook := _told(view):
        yield (), hook.record.outages


def outage_moment(fact: Callable[[Record], float | None]) -> Reading:
    """A moment of the last outage, if there was one."""

    def reading(view: View) -> Iterator[Sample]:
        if (hook := _told(view)) and (moment := fact(hook.record)) is not None:
            yield (), moment

    return reading


def hook_runs(view: View) -> Iterator[Sample]:
    if hook := _told(view):
        for action in hook.actions:
            for result in RESULTS:
                yield (action, result), hook.record.runs[action, result]


def hook_skipped(view: View) -> Iterator[Sample]:
    if hook := _told(view):
        for reason in SKIPS:
            yield (reason,), hook.record.skipped[reason]


def hook_last_run(view: View) -> Iterator[Sample]:
    if hook := _told(view):
        for action, moment in hook.record.last_run.items():
            yield (action,), moment


def _told(view: View) -> Hook | None:
    return view.hook if view.log_told else None
