"""What must be so whenever the mail rests: the exporter beside the simulator's ledger, and beside one that has just begun.

The rules, exactly:

- Drift: every series of the present is that of a new collection that reads the queue and what the exporter was told of the
  log, at the same moment.  With fewer seats than domains, which of them have series of their own depends on the past; then
  those that both show, and the sums over all domains, are the same.
- The queue's figures are those of the ledger.  Deferrals and next attempts are so while the exporter could know: the log
  that it was told goes back to the arrival of the oldest message, and nothing was lost since.
- Counters are what the ledger has counted since the exporter began to count: when it found out how far the retained log
  goes.  Lines that were truncated away before they could be read are what the ledger counted from the last read to the
  truncation.  A delivery whose start was among them is counted under the channel `unknown`, with neither duration nor
  domain, and a message whose arrival was may lack its time in the queue; there are no more of those than such lines.  Of what
  the log no longer told the arrival when the exporter began, that time is not compared.
  Deliveries by domain are compared while each has a seat: of one that has lost it, the count is not shown.
  Bounces are compared while nothing is in `todo`, as it is their arrival that tells their kind.  Of those in `todo` when the
  exporter began to count, or when lines were lost, it may know what announced them or not: it may count so many more or fewer.
- A start of qmail-send is counted unless it follows a kill between a delivery's line and the status line that belongs to it,
  which no log tells: `mishaps` does not kill there.
- Of a message that is still being received there is no event: it is looked at first.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import TypeAlias

from rig import Series, attempts_due, attempts_shown, family, ledger_state, own_state, shown
from rig import series as series_of
from soak.subject import Counts, Subject
from soak.traffic import Traffic, why

Sums: TypeAlias = Counter[tuple[str, ...]]
_BY_DOMAIN = "qmail_domain_"
_OLDEST = "qmail_domain_oldest_deferred_timestamp_seconds"
_REST = "(other)"
_MANY = 500  # more seats than there are domains


def judge(subject: Subject, traffic: Traffic) -> list[str]:
    """Return all that is not as it must be, a line each."""
    watch = subject.collection.queues[0]
    watch.pending |= {m for m, message in subject.ledger.messages.items() if message.state == "arriving"}
    subject.settle()
    seen = subject.series()
    with closing(subject.anew()) as other:
        fresh = series_of(other, traffic.clock.now)
    few = len(watch.queue.sums.domains) > watch.queue.sums.domains.seats
    wrong = [
        *_own(seen),
        *_drift(seen, fresh, few=few),
        *_beside_ledger(seen, subject, traffic),
        *_counted(seen, subject),
        *_consistent(seen, subject),
    ]
    return [f"{subject.name}: {line}" for line in wrong]


def _own(seen: Series) -> Iterator[str]:
    """What the exporter must say of itself."""
    for name, due in (
        ("qmail_up", 1.0),
        ("qmail_exporter_rescan_drift_messages_total", 0.0),
        ("qmail_exporter_log_unparsed_lines_total", 0.0),
        ("qmail_exporter_pending_looks", 0.0),
    ):
        if (value := family(seen, name).get(())) != due:
            yield f"{name} is {value}, not {due}"


# --- drift


def _drift(seen: Series, fresh: Series, *, few: bool) -> Iterator[str]:
    """Tell the series that are others than a new collection's."""
    one, other = own_state(seen), own_state(fresh)
    if few:
        shared = {key for key in one.keys() & other.keys() if ("domain", _REST) not in key[1]}
        yield from _differ({k: one[k] for k in shared}, {k: other[k] for k in shared})
        one, other = _folded(one), _folded(other)
    yield from _differ(one, other)


def _folded(series: Series) -> Series:
    """Return the series with sums over all domains in place of those of each."""
    folded: Series = {}
    for (name, labels), value in series.items():
        if name == _OLDEST:
            continue
        kept = tuple(label for label in labels if label[0] != "domain" or not name.startswith(_BY_DOMAIN))
        folded[name, kept] = folded.get((name, kept), 0.0) + value
    return folded


def _differ(one: Series, other: Series) -> Iterator[str]:
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            labels = ",".join(f"{name}={value}" for name, value in key[1])
            yield f"drift: {key[0]}{{{labels}}} is {one.get(key)}, and {other.get(key)} anew"


# --- the queue


def _beside_ledger(seen: Series, subject: Subject, traffic: Traffic) -> Iterator[str]:
    """Tell what of the queue is not as the ledger has it."""
    ours, theirs = shown(seen), ledger_state(traffic.qmail, why)
    oldest = min((message.arrival for message in subject.ledger.messages.values()), default=traffic.clock.now)
    known = subject.told.since <= oldest
    for state in (ours, theirs):
        deferred = state.pop("deferred")
        assert isinstance(deferred, dict)
        by_reason: Counter[str] = Counter()
        for (_, reason), count in deferred.items():
            by_reason[reason] += int(count)
        if known:
            state["deferred"] = by_reason
    if known and (due := attempts_due(traffic.qmail)) is not None:
        ours["attempts"], theirs["attempts"] = _rounded(attempts_shown(seen)), _rounded(due)
    for name, value in theirs.items():
        if ours[name] != value:
            yield f"queue: {name} is {ours[name]}, and {value} in the ledger"


def _rounded(attempts: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return sums of times to the millisecond: those of floats depend on their order."""
    return {channel: (count, round(seconds, 3)) for channel, (count, seconds) in attempts.items()}


# --- counters


def counted(seen: Series) -> Counts:
    """Return what the exporter has counted, as `tally` has it."""
    found: Counts = Counter()
    for name, metric in (
        ("messages", "qmail_messages_total"),
        ("bytes", "qmail_message_bytes_total"),
        ("ended", "qmail_messages_ended_total"),
        ("restarts", "qmail_send_restarts_total"),
        ("started", "qmail_deliveries_started_total"),
        ("result", "qmail_deliveries_total"),
        ("bounce", "qmail_bounces_total"),
    ):
        for labels, value in family(seen, metric).items():
            key = (name, *labels)
            found[key] = int(value)
    found["lines",] = int(sum(family(seen, "qmail_exporter_log_lines_total").values()))
    return found


def _counted(seen: Series, subject: Subject) -> Iterator[str]:
    """Tell which counters are not what the ledger has counted."""
    ours, due = counted(seen), subject.due()
    starts_lost = sum(count for key, count in subject.lost.items() if key[0] == "started")
    unknown = {key: count for key, count in ours.items() if key[:2] == ("result", "unknown")}
    if sum(unknown.values()) > starts_lost:
        yield f"counters: {sum(unknown.values())} deliveries of unknown start, and {starts_lost} starts were lost"
    for key in sorted(ours.keys() | due.keys() - unknown.keys()):
        if key in unknown or (key[0] == "bounce" and _todo(subject)):
            continue
        short = due[key] - ours[key]
        if key[0] == "result" and short > 0 and unknown:
            took = min(short, unknown.get(("result", "unknown", key[2]), 0))
            unknown["result", "unknown", key[2]] = unknown.get(("result", "unknown", key[2]), 0) - took
            short -= took
        if key[0] == "bounce" and abs(short) <= subject.unsure[key[1]]:
            continue
        if short:
            yield f"counters: {' '.join(key)} is {ours[key]}, and {due[key]} in the ledger"
    if any(unknown.values()):
        yield f"counters: too many deliveries of unknown start: {unknown}"


def _todo(subject: Subject) -> bool:
    return any(message.state == "todo" for message in subject.ledger.messages.values())


def _consistent(seen: Series, subject: Subject) -> Iterator[str]:
    """Tell which counters do not add up to one another."""
    results = _sum(seen, "qmail_deliveries_total", 0, 1)
    problems = Counter({key: count for key, count in results.items() if key[1] != "success"})
    timed = Counter({key: count for key, count in results.items() if key[0] != "unknown"})
    failures: int = sum(count for (_, result), count in results.items() if result == "failure")
    sums: list[tuple[str, Sums, Sums]] = [
        ("problems", _sum(seen, "qmail_delivery_problems_total", 0, 2), problems),
        ("durations", _sum(seen, "qmail_delivery_duration_seconds_count", 0, 1), timed),
        ("bounced", _sum(seen, "qmail_bounced_recipients_total"), Counter({(): failures})),
    ]
    if subject.seats > _MANY:
        remote: Sums = Counter({(key[1],): count for key, count in results.items() if key[0] == "remote"})
        sums.append(("by domain", _sum(seen, "qmail_domain_deliveries_total", 1), remote))
    for name, one, other in sums:
        if +one != +other:
            yield f"counters: {name} are {dict(+one)}, and the deliveries {dict(+other)}"
    times = int(family(seen, "qmail_message_queue_time_seconds_count")[()])
    ended = int(family(seen, "qmail_messages_ended_total")[()])
    if subject.knows_arrivals and not 0 <= ended - times <= subject.lost["messages",]:
        yield f"counters: {times} times in the queue, and {ended} messages ended"


def _sum(seen: Series, metric: str, *places: int) -> Sums:
    """Return the sums of a metric by its labels in these places."""
    sums: Sums = Counter()
    for labels, value in family(seen, metric).items():
        sums[tuple(labels[place] for place in places)] += int(value)
    return sums
