"""What qmail-send's log has told: counters since the start, and the last status line."""

from collections.abc import Callable, Iterator
from operator import itemgetter

from qmail_exporter.formats.log import KINDS
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.queue.traffic import Histogram, Traffic
from qmail_exporter.readings.view import CHANNELS, RESULTS, Distribution, Reading, Sample, View


def _counter(read: Callable[[Traffic], Iterator[Sample]]) -> Reading:
    """A reading of what was counted since the start; nothing until a log was there to be read."""

    def reading(view: View) -> Iterator[Sample]:
        if view.log is not None and view.log.read_once:
            yield from read(view.watch.flow.traffic)

    return reading


def _log_messages(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.messages


def _log_bytes(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.message_bytes


def _log_ended(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.messages_ended


def _deliveries_started(traffic: Traffic) -> Iterator[Sample]:
    for channel in dict.fromkeys((*CHANNELS, *sorted(traffic.started))):
        yield (channel,), traffic.started[channel]


def _deliveries(traffic: Traffic) -> Iterator[Sample]:
    usual = [(channel, result) for channel in CHANNELS for result in RESULTS]
    for labels in dict.fromkeys((*usual, *sorted(traffic.results))):
        yield labels, traffic.results[labels]


def _problems(traffic: Traffic) -> Iterator[Sample]:
    usual = [("remote", result, reason) for result in RESULTS[1:] for reason in REASONS]
    for labels in dict.fromkeys((*usual, *sorted(traffic.problems))):
        yield labels, traffic.problems[labels]


def _domain_deliveries(traffic: Traffic) -> Iterator[Sample]:
    for domain, counts in sorted(traffic.domains.shown().items()):
        for result in RESULTS:
            yield (domain, result), counts[result]


def _bounces(traffic: Traffic) -> Iterator[Sample]:
    for kind in ("single", "double", "triple"):
        yield (kind,), traffic.bounces[kind]


def _bounced(traffic: Traffic) -> Iterator[Sample]:
    for reason in REASONS:
        yield (reason,), traffic.bounced[reason]


def _durations(traffic: Traffic) -> Iterator[Sample]:
    for labels, histogram in sorted(sorted(traffic.durations.items(), key=itemgetter(0))):
        yield labels, _classic(histogram)


def _queue_time(traffic: Traffic) -> Iterator[Sample]:
    yield (), _classic(traffic.queue_time)


def _complaints(severity: str) -> Callable[[Traffic], Iterator[Sample]]:
    def read(traffic: Traffic) -> Iterator[Sample]:
        for kind in KINDS[severity]:
            yield (kind,), traffic.complaints[severity, kind]

    return read


def _restarts(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.restarts


log_messages = _counter(_log_messages)
log_bytes = _counter(_log_bytes)
log_ended = _counter(_log_ended)
deliveries_started = _counter(_deliveries_started)
deliveries = _counter(_deliveries)
problems = _counter(_problems)
domain_deliveries = _counter(_domain_deliveries)
bounces = _counter(_bounces)
bounced = _counter(_bounced)
durations = _counter(_durations)
queue_time = _counter(_queue_time)
alerts = _counter(_complaints("alert"))
warnings = _counter(_complaints("warning"))
restarts = _counter(_restarts)


def concurrency(attribute: str) -> Reading:
    """Deliveries in progress (`used`), or allowed (`limit`), by channel, as the last status line said."""

    def reading(view: View) -> Iterator[Sample]:
        if view.log_told:
            for use in view.watch.flow.use:
                yield (use.channel,), getattr(use, attribute)

    return reading


def _classic(histogram: Histogram) -> Distribution:
    return Distribution(tuple(histogram.bounds), histogram.cumulative(), histogram.sum)
