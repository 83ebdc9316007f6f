"""A simulated qmail with its log under multilog, and collections that watch it."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qmail_exporter.collect import Collection, HostWatch, LogWatch, QueueWatch
from qmail_exporter.demo import report
from qmail_exporter.demo.multilog import Multilog
from qmail_exporter.demo.qmail import Clock, Outcome, Qmail, run
from qmail_exporter.formats.envelope import domain
from qmail_exporter.metrics import QmailCollector
from qmail_exporter.sources.logs import open_log

if TYPE_CHECKING:
    from prometheus_client.core import Metric

NOW = 1_800_000_000.0
HOST = "192.0.2.1"
WHY = {b"defer": "greylist", b"full": "mailbox_full", b"hole": "connect", b"mangle": "system"}
"""Why the recipients of these boxes are deferred."""
BOXES = (
    b"ok@x.example",
    b"fail@x.example",
    b"defer@y.example",
    b"hole-3@z.example",
    b"joe",
    b"full@w.example",
)
"""One recipient for each way that a delivery may end."""
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def answer(_channel: str, recipient: bytes, _now: float) -> Outcome:
    """Answer by the first word of the recipient's box; `-N` after it is how many seconds it takes."""
    way, _, seconds = recipient.partition(b"@")[0].decode("ascii", "replace").partition("-")
    duration = float(seconds or 0)
    if way == "fail":
        return report.recipient_refused(HOST, "550 5.1.1 No such user here", duration)
    if way == "defer":
        return report.recipient_refused(HOST, "451 4.7.1 Greylisted", duration)
    if way == "full":
        return report.recipient_refused(HOST, "452 4.2.2 Mailbox full", duration)
    if way == "hole":
        return report.timed_out("192.0.2.9", duration)
    if way == "mangle":
        return Outcome("?", b"", duration)
    return report.accepted(HOST, "250 2.0.0 Ok: queued as 4F2A", duration)


class Rig:
    """A simulated qmail on a clock that the test moves.

    Args:
        home: of the qmail; its log is in `home/log`, unless there is a `log` already.
        start: start qmail-send.
        given: as `Qmail` takes it.
    """

    def __init__(self, home: Path, *, start: bool = True, log: Multilog | None = None, **given: Any) -> None:
        self.home = home
        self.clock = Clock(NOW)
        home.mkdir(parents=True, exist_ok=True)
        self.log = log or Multilog(home / "log", self.clock, count=1000)
        options: dict[str, Any] = {"respond": answer, "stamp_files": True, "split": 3} | given
        self.qmail = Qmail(home, clock=self.clock, log=self.log, **options)
        self._open = ExitStack()
        if start:
            self.qmail.start()

    @property
    def queue(self) -> Path:
        """The queue directory."""
        return Path(self.qmail.host.queue)

    def send(self, *recipients: bytes, sender: bytes = b"a@mail.test", **how: Any) -> int:
        """Queue a message and return its number."""
        return run(self.qmail.inject(sender, recipients, **how))

    def collection(self, **given: Any) -> Collection:
        """Return a collection that watches this qmail, closed at the end; nothing is read yet."""
        return self.keep(watching([self.home], **given))

    def keep(self, collection: Collection) -> Collection:
        """Have a collection closed at the end."""
        self._open.callback(collection.close)
        return collection

    def series(self, collection: Collection) -> Series:
        """Return what a scrape shows now."""
        return series(collection, self.clock.now)

    def __enter__(self) -> "Rig":  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self.qmail.kill()


def watching(
    homes: Sequence[Path], *, seats: int = 100, rescan_interval: float = 0.0, log: Path | None = None
) -> Collection:
    """Return a collection of the homes' queues: `default`, or named as their homes are where there are several."""
    names = [home.name if len(homes) > 1 else "default" for home in homes]
    watches = [
        QueueWatch(name, str(home / "queue"), seats=seats, rescan_interval=rescan_interval)
        for name, home in zip(names, homes, strict=True)
    ]
    hosts = {
        name: HostWatch(str(home / "queue"), str(home / "control"), alone=False)
        for name, home in zip(names, homes, strict=True)
    }
    logs = [
        LogWatch(partial(open_log, str(log or home / "log")), {watch.name: watch.flow})
        for home, watch in zip(homes, watches, strict=True)
    ]
    return Collection(watches, logs, hosts)


def settle(collection: Collection) -> None:
    """Let a collection do all that it has to do."""
    until = monotonic() + 60
    collection.tick()
    while collection.busy:
        collection.step()
        assert monotonic() < until, "a collection does not come to rest"
    collection.refresh(60.0)


def series(collection: Collection, now: float) -> Series:
    """Return what a scrape at `now` shows: values by name and labels."""
    return samples(QmailCollector(collection, lambda: now).collect())


def samples(families: Any) -> Series:
    """Return the families' samples by name and sorted labels; none may be there twice."""
    found: Series = {}
    family: Metric
    for family in families:
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def family(series: Series, name: str) -> dict[tuple[str, ...], float]:
    """Return one metric's values by its labels' values, in the labels' order, without `queue`."""
    return {
        tuple(value for label, value in labels if label != "queue"): number
        for (found, labels), number in series.items()
        if found == name
    }


COUNTED = (
    "qmail_messages_", "qmail_message_bytes", "qmail_deliveries_", "qmail_delivery_", "qmail_domain_deliveries",
    "qmail_bounces", "qmail_bounced", "qmail_message_queue_time", "qmail_send_", "qmail_exporter_",
    "qmail_queue_filesystem_",
)  # fmt: skip


def state(series: Series) -> Series:
    """Return the series that tell of the present, and not of what was counted or of the exporter itself."""
    return {key: value for key, value in series.items() if not key[0].startswith(COUNTED)}


PROCESSES = ("process_", "python_", "qmail_process_", "qmail_running_")


def own_state(series: Series) -> Series:
    """Return what of `state` does not tell of processes.

    Beside a simulated qmail a real qmail-send of the host is taken for the one of the only queue.
    """
    return {key: value for key, value in state(series).items() if not key[0].startswith(PROCESSES)}


def still(series: Series) -> Series:
    """Return what of `own_state` does not move with the clock."""
    return {key: value for key, value in own_state(series).items() if not key[0].endswith("_gsum")}


def why(address: bytes, _report: bytes) -> str:
    """Return the reason of a deferral by the recipient's box."""
    return WHY[address.partition(b"@")[0].partition(b"-")[0]]


def ledger_state(qmail: Qmail, why: Callable[[bytes, bytes], str] = why) -> dict[str, object]:
    """Return what the simulator itself says of its queue, as `shown` does of the exporter's series.

    Args:
        qmail: the simulated qmail.
        why: the reason of a deferral, by the recipient's address and the report.
    """
    ledger = qmail.ledger
    queued = ledger.queued().values()
    ready = [message for message in ledger.messages.values() if message.state != "arriving"]
    deferred: Counter[tuple[str, str]] = Counter()
    for message in queued:
        if remote := message.channels.get("remote"):
            for place, said in remote.deferred.items():
                address = remote.pending[place]
                deferred[domain(address), why(address, said)] += 1
    return {
        "messages": len(ledger.messages),
        "todo": sum(message.state == "todo" for message in ledger.messages.values()),
        "recipients": {key: count for key, count in ledger.recipients().items() if count},
        "deferred": dict(deferred),
        "failed": sum(message.failed for message in ledger.messages.values()),
        "bounces": sum(message.sender == b"" for message in ready if message.state != "ending"),
        "double": sum(message.sender == b"#@[]" for message in ready if message.state != "ending"),
    }


def shown(series: Series) -> dict[str, object]:
    """Return what the exporter's series say of the queue, as `ledger_state` does of the simulator."""
    recipients = family(series, "qmail_queue_recipients")
    bounces = family(series, "qmail_queue_bounce_messages")
    return {
        "messages": family(series, "qmail_queue_messages")[()],
        "todo": family(series, "qmail_queue_todo_messages")[()],
        "recipients": {key: count for key, count in recipients.items() if count},
        "deferred": family(series, "qmail_domain_deferred_recipients"),
        "failed": family(series, "qmail_queue_failed_messages")[()],
        "bounces": bounces[("bounce",)],
        "double": bounces[("double",)],
    }


def attempts_shown(series: Series) -> dict[str, tuple[float, float]]:
    """Return for each channel how many attempts are planned, and the sum of the times until then."""
    name = "qmail_queue_next_attempt_seconds"
    sums = family(series, f"{name}_gsum")
    return {labels[0]: (count, sums[labels]) for labels, count in family(series, f"{name}_gcount").items()}


def attempts_due(qmail: Qmail) -> dict[str, tuple[float, float]] | None:
    """Return what `attempts_shown` should show by qmail-send's own schedule; None while that is in flux.

    A message is not in it while deliveries of it are under way, a touch shows there only after the next attempt, and
    what an alarm makes due is known to qmail-send alone.
    """
    send = qmail._send
    if send is None or send.rush or any(qmail.deliveries.values()) or send.exited:
        return None
    ledger, now = qmail.ledger, qmail.clock()
    held = {(n, name) for n, message in ledger.queued().items() for name in message.channels}
    if held != {(n, name) for name, due in send.schedule.due.items() for _, n in due}:
        return None
    pending = {(n, name): len(ledger.messages[n].channels[name].pending) for n, name in held}
    return {
        name: (
            sum(bool(pending[n, name]) for _, n in due),
            sum(at - now for at, n in due if pending[n, name]),
        )
        for name, due in send.schedule.due.items()
    }
