"""The host's facts."""

from collections.abc import Callable, Iterator

from qmail_exporter.formats.tcpto import is_dead
from qmail_exporter.readings.view import Reading, Sample, View
from qmail_exporter.sources.host import PROGRAMS, Controls, FileSystem, Process


def tcpto_hosts(view: View) -> Iterator[Sample]:
    if view.host.tcpto is not None:
        hosts = view.host.tcpto.hosts
        dead = sum(map(is_dead, hosts))
        yield ("suspect",), len(hosts) - dead
        yield ("dead",), dead


def tcpto_slots(view: View) -> Iterator[Sample]:
    if view.host.tcpto is not None:
        yield (), view.host.tcpto.slots


def tcpto_latest(view: View) -> Iterator[Sample]:
    if view.host.tcpto is not None and view.host.tcpto.hosts:
        yield (), max(host.last for host in view.host.tcpto.hosts)


def process_up(view: View) -> Iterator[Sample]:
    if view.host.processes is not None:
        found = {process.program for process in view.host.processes.found}
        for program in PROGRAMS:
            yield (program,), float(program in found)


def process(fact: Callable[[Process], float | None]) -> Reading:
    """One fact of each of qmail's long-running processes, where this user may know it."""

    def reading(view: View) -> Iterator[Sample]:
        for found in view.host.processes.found if view.host.processes else ():
            value = fact(found)
            if value is not None:
                yield (found.program,), value

    return reading


def running_deliveries(view: View) -> Iterator[Sample]:
    if view.host.processes is not None and view.host.processes.found:
        for channel, count in view.host.processes.deliveries.items():
            yield (channel,), count


def file_system(fact: Callable[[FileSystem], float]) -> Reading:
    """One fact of the queue's file system."""

    def reading(view: View) -> Iterator[Sample]:
        if view.host.file_system is not None:
            yield (), fact(view.host.file_system)

    return reading


def control(fact: Callable[[Controls], float]) -> Reading:
    """One control file's value."""

    def reading(view: View) -> Iterator[Sample]:
        if view.host.controls is not None:
            yield (), fact(view.host.controls)

    return reading


def concurrency_control(view: View) -> Iterator[Sample]:
    if view.host.controls is not None:
        yield ("local",), view.host.controls.concurrencylocal
        yield ("remote",), view.host.controls.concurrencyremote
