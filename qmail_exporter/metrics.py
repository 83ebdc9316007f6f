"""Every metric: name, type, labels and help.

`FAMILIES` is the whole of it; `readings` says where the samples come from.  At each scrape the collector makes fresh families
from it, one sample for each queue and label set of which something is known.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from platform import python_version
from time import time
from types import MappingProxyType
from typing import Literal, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from qmail_exporter import __version__
from qmail_exporter.collect import Collection
from qmail_exporter.hook import Hook
from qmail_exporter.readings import Distribution, Reading, Value, double, hook, host, log, own, queue, views

Kind = Literal["gauge", "counter", "histogram", "gaugehistogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of a queue.  The label `queue` stands before `labels`; a counter's name ends in `_total`."""

    name: str
    kind: Kind
    help: str
    read: Reading
    labels: tuple[str, ...] = field(default=())

    def empty(self) -> Metric:
        """The family without samples."""
        names = ("queue", *self.labels)
        return _CLASSES[self.kind](self.name.removesuffix("_total"), self.help, labels=names)


_CLASSES: dict[Kind, Callable[..., Metric]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
    "gaugehistogram": GaugeHistogramMetricFamily,
}

FAMILIES = (
    # The state of the queue.
    Family("qmail_up", "gauge", "1 if the picture of the queue is whole: scanned, all of it readable, nothing lost.", queue.up),
    Family("qmail_queue_messages", "gauge", "Messages in the queue, as qmail-qstat counts them.", queue.messages),
    Family("qmail_queue_todo_messages", "gauge", "Messages that qmail-send has not preprocessed yet.", queue.todo_messages),
    Family("qmail_queue_bytes", "gauge", "Sum of the sizes of the messages in the queue.", queue.queue_bytes),
    Family("qmail_queue_recipients", "gauge", "Recipients of queued messages.", queue.recipients, ("channel", "status")),
    Family("qmail_queue_bounce_messages", "gauge", "Queued messages with the sender of a bounce or of a double bounce.", queue.bounce_messages, ("kind",)),
    Family("qmail_queue_failed_messages", "gauge", "Messages with recipients that have failed: 'bouncing' in qmail-qread.", queue.failed_messages),
    Family("qmail_queue_message_age_seconds", "gaugehistogram", "Age of the queued messages as qmail sees it, by info mtime.", queue.message_age, ("kind",)),
    Family("qmail_queue_oldest_message_timestamp_seconds", "gauge", "Birth of the oldest message as qmail sees it, by info mtime.", queue.oldest_message),
    Family("qmail_queue_oldest_arrival_timestamp_seconds", "gauge", "Arrival of the oldest message, by mess mtime, which touching cannot change.", queue.oldest_arrival),
    Family("qmail_queue_expiring_messages", "gauge", "Messages that pass queuelifetime within that time; 0: have passed it.", queue.expiring_messages, ("within",)),
    Family("qmail_queue_next_attempt_seconds", "gaugehistogram", "Time to the next scheduled attempt of messages with pending recipients; negative where it is overdue.", queue.next_attempt, ("channel",)),
    Family("qmail_queue_orphan_messages", "gauge", "Files in mess without todo and info for over 36 hours.", queue.orphan_messages),
    Family("qmail_domain_pending_recipients", "gauge", "Recipients that wait for delivery, by remote domain.", queue.domain_pending, ("domain",)),
    Family("qmail_domain_deferred_recipients", "gauge", "Pending recipients whose last attempt was deferred, by remote domain and reason.", queue.domain_deferred, ("domain", "reason")),
    Family("qmail_domain_oldest_deferred_timestamp_seconds", "gauge", "Birth of the oldest message with a deferred recipient at the domain.", queue.domain_oldest_deferred, ("domain",)),
    # What qmail-send's log has told since the exporter started.
    Family("qmail_messages_total", "counter", "Messages that qmail-send began to preprocess.", log.log_messages),
    Family("qmail_message_bytes_total", "counter", "Sum of those messages' sizes.", log.log_bytes),
    Family("qmail_messages_ended_total", "counter", "Messages that left the queue.", log.log_ended),
    Family("qmail_deliveries_started_total", "counter", "Delivery attempts started.", log.deliveries_started, ("channel",)),
    Family("qmail_deliveries_total", "counter", "Delivery attempts ended, by result.", log.deliveries, ("channel", "result")),
    Family("qmail_delivery_problems_total", "counter", "Delivery attempts that were deferred or failed, by reason.", log.problems, ("channel", "result", "reason")),
    Family("qmail_domain_deliveries_total", "counter", "Delivery attempts ended, by remote domain and result.", log.domain_deliveries, ("domain", "result")),
    Family("qmail_bounces_total", "counter", "Bounces sent (single), bounces of bounces (double), and bounces discarded (triple).", log.bounces, ("kind",)),
    Family("qmail_bounced_recipients_total", "counter", "Recipients that failed for good, by reason.", log.bounced, ("reason",)),
    Family("qmail_delivery_duration_seconds", "histogram", "Duration of delivery attempts.", log.durations, ("channel", "result")),
    Family("qmail_message_queue_time_seconds", "histogram", "Time that messages had spent in the queue when they left it.", log.queue_time),
    Family("qmail_concurrency_used", "gauge", "Deliveries in progress, by the log's last status line.", log.concurrency("used"), ("channel",)),
    Family("qmail_concurrency_limit", "gauge", "Deliveries that may be in progress at once, by the log's last status line.", log.concurrency("limit"), ("channel",)),
    Family("qmail_send_alerts_total", "counter", "Alert lines in qmail-send's log.", log.alerts, ("kind",)),
    Family("qmail_send_warnings_total", "counter", "Warning lines in qmail-send's log.", log.warnings, ("kind",)),
    Family("qmail_send_restarts_total", "counter", "Starts of qmail-send.", log.restarts),
    # The host.
    Family("qmail_tcpto_hosts", "gauge", "Hosts in tcpto; qmail-remote passes over those that are dead.", host.tcpto_hosts, ("state",)),
    Family("qmail_tcpto_slots", "gauge", "Hosts that tcpto has room for.", host.tcpto_slots),
    Family("qmail_tcpto_latest_timeout_timestamp_seconds", "gauge", "The latest timeout of a connection in tcpto.", host.tcpto_latest),
    Family("qmail_process_up", "gauge", "1 if the program runs for this queue.", host.process_up, ("program",)),
    Family("qmail_process_cpu_seconds_total", "counter", "CPU time of the program.", host.process(lambda p: p.cpu), ("program",)),
    Family("qmail_process_resident_memory_bytes", "gauge", "Resident memory of the program.", host.process(lambda p: p.memory), ("program",)),
    Family("qmail_process_open_fds", "gauge", "Open file descriptors of the program.", host.process(lambda p: p.fds), ("program",)),
    Family("qmail_process_start_time_seconds", "gauge", "Start of the program.", host.process(lambda p: p.started), ("program",)),
    Family("qmail_running_deliveries", "gauge", "qmail-local and qmail-remote processes that run.", host.running_deliveries, ("channel",)),
    Family("qmail_queue_filesystem_size_bytes", "gauge", "Size of the file system that holds the queue.", host.file_system(lambda f: f.size)),
    Family("qmail_queue_filesystem_free_bytes", "gauge", "Free space there for unprivileged programs.", host.file_system(lambda f: f.free)),
    Family("qmail_queue_filesystem_size_inodes", "gauge", "Inodes of the file system that holds the queue.", host.file_system(lambda f: f.inodes)),
    Family("qmail_queue_filesystem_free_inodes", "gauge", "Free inodes there for unprivileged programs.", host.file_system(lambda f: f.free_inodes)),
    Family("qmail_control_queuelifetime_seconds", "gauge", "control/queuelifetime, or its default.", host.control(lambda c: c.queuelifetime)),
    Family("qmail_control_concurrency", "gauge", "control/concurrencylocal and concurrencyremote, or their defaults.", host.concurrency_control, ("channel",)),
    Family("qmail_control_smtproutes", "gauge", "Routes in control/smtproutes.", host.control(lambda c: c.smtproutes)),
    # Double bounces, as record-double-bounce has written them down.
    Family("qmail_double_bounces_total", "counter", "Double bounces recorded, by domain of the recipients that could not be reached.", double.by_domain, ("domain",)),
    Family("qmail_double_bounce_duplicates_total", "counter", "Double bounces that said the same as another within five minutes.", double.count(lambda d: d.duplicates)),
    Family("qmail_double_bounce_other_messages_total", "counter", "Messages to doublebounceto that were no double bounces.", double.count(lambda d: d.others)),
    Family("qmail_double_bounce_unparsed_lines_total", "counter", "Lines of that log that were not understood.", double.count(lambda d: d.unparsed)),
    # The outage hook.
    Family("qmail_outage_state", "gauge", "1 for the state that the network is in, as far as mail tells.", hook.outage_state, ("state",)),
    Family("qmail_outages_total", "counter", "Outages that have begun.", hook.outages),
    Family("qmail_outage_last_start_timestamp_seconds", "gauge", "Start of the last outage.", hook.outage_moment(lambda r: r.started)),
    Family("qmail_outage_last_clear_timestamp_seconds", "gauge", "End of the last outage.", hook.outage_moment(lambda r: r.cleared)),
    Family("qmail_hook_runs_total", "counter", "Runs of the hook's actions, by result.", hook.hook_runs, ("action", "result")),
    Family("qmail_hook_skipped_total", "counter", "Times that the hook did not act, or not at once, by reason.", hook.hook_skipped, ("reason",)),
    Family("qmail_hook_last_run_timestamp_seconds", "gauge", "Start of the last run of an action.", hook.hook_last_run, ("action",)),
    # The exporter itself.
    Family("qmail_exporter_source_up", "gauge", "1 if the source could be read the last time.", own.source_up, ("source",)),
    Family("qmail_exporter_source_errors_total", "counter", "What could not be read or was lost, by source and kind.", own.source_errors, ("source", "kind")),
    Family("qmail_exporter_events_total", "counter", "inotify events read.", own.watch_fact(lambda w: w.events)),
    Family("qmail_exporter_event_overflows_total", "counter", "Times that the kernel dropped inotify events; a rescan follows.", own.watch_fact(lambda w: w.overflows)),
    Family("qmail_exporter_rescans_total", "counter", "Scans of the whole queue, by why they were begun.", own.rescans, ("reason",)),
    Family("qmail_exporter_rescan_drift_messages_total", "counter", "Messages that a routine rescan found changed without an event; should stay 0.", own.watch_fact(lambda w: w.sweeps.drift)),
    Family("qmail_exporter_scan_progress_ratio", "gauge", "How much of the scan under way is done; 1 when none is.", own.watch_fact(lambda w: w.sweeps.progress)),
    Family("qmail_exporter_scan_duration_seconds", "gauge", "Duration of the last scan.", own.watch_fact(lambda w: w.sweeps.seconds)),
    Family("qmail_exporter_pending_looks", "gauge", "Messages of which an event told and that have not been looked at yet.", own.watch_fact(lambda w: len(w.pending))),
    Family("qmail_exporter_log_lines_total", "counter", "Log lines read, by kind; foreign ones are other programs'.", own.log_lines, ("kind",)),
    Family("qmail_exporter_log_unparsed_lines_total", "counter", "Log lines that were not understood.", own.log_unparsed),
    Family("qmail_exporter_log_lag_seconds", "gauge", "Age of the last log line that was read if more are waiting, else 0.", own.log_lag),
    Family("qmail_exporter_log_backfill_progress_ratio", "gauge", "How much of the retained log has been read back; 1 when all has, absent where that cannot be told.", own.log_backfill),
    Family("qmail_exporter_log_last_line_timestamp_seconds", "gauge", "When the last log line that was read had been written.", own.log_last),
)  # fmt: skip


class Followed(Protocol):
    """A file of settings that is read again when it changes; `sound` unless what it says now could not be used."""

    sound: bool


class QmailCollector(Collector):
    """Makes the families of all queues; registered on a registry of its own."""

    def __init__(
        self,
        collection: Collection,
        clock: Callable[[], float] = time,
        *,
        hooks: Mapping[str, Hook] = MappingProxyType({}),
        door: Followed | None = None,
    ) -> None:
        self._door = door
        self._collection = collection
        self._hooks = hooks
        self._clock = clock

    def describe(self) -> Iterator[Metric]:
        """The families without samples, which is what `name[]` is resolved with."""
        yield _build_info()
        yield _web_config(self._door)
        for family in FAMILIES:
            yield family.empty()

    def collect(self) -> Iterator[Metric]:
        """The families, with what is known now."""
        yield _build_info()
        if self._door is not None:
            yield _web_config(self._door)
        now = self._clock()
        present = views(self._collection, self._hooks, now)
        for family in FAMILIES:
            metric = family.empty()
            for view in present:
                for labels, value in family.read(view):
                    _add(metric, (view.watch.name, *labels), value)
            if metric.samples:
                yield metric


_in_words = cache(floatToGoString)  # of bounds, of which there are few


def _add(metric: Metric, labels: tuple[str, ...], value: Value) -> None:
    if isinstance(value, Distribution):
        bounds = [_in_words(bound) for bound in (*value.bounds, float("inf"))]
        buckets = list(zip(bounds, map(float, value.counts), strict=True))
        metric.add_metric(labels, buckets, value.sum)  # type: ignore[attr-defined]
    else:
        metric.add_metric(labels, value)  # type: ignore[attr-defined]


def _build_info() -> Metric:
    info = GaugeMetricFamily(
        "qmail_exporter_build_info",
        "Always 1; versions of the exporter and of Python.",
        labels=("version", "python"),
    )
    info.add_metric((__version__, python_version()), 1)
    return info


def _web_config(door: Followed | None) -> Metric:
    metric = GaugeMetricFamily(
        "qmail_exporter_web_config_last_reload_successful",
        "1 if --web.config.file, as it is now, is in force; 0 while it is wrong and what it said before is.",
    )
    if door is not None:
        metric.add_metric((), door.sound)
    return metric
