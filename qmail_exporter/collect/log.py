"""One log, followed into the models of the queues that it tells of.

At start the retained log is read for state only: who is deferred and why, which deliveries are open, when qmail-send
started.  That waits for the first scan, as state is kept only of messages that are there.  From then on every line counts,
once: when the retained log is read back again, another follower does that, and the first goes on where it was.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from time import monotonic, time
from typing import NamedTuple

from qmail_exporter import errors, logfmt
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.log import New, Record, parse
from qmail_exporter.formats.prefix import Prefixes
from qmail_exporter.queue import Flow
from qmail_exporter.sources.logs import Batch, Follower

logger = logfmt.get_logger(__name__)

PATIENCE = 5.0
"""Seconds between two attempts at a log that cannot be read."""
BLOCK = 1 << 18
"""Bytes of the log that are read at a time: some 2,000 lines, which take some 20 ms."""
LAST = 1 << 22
"""Bytes that are read at most, at the last moment, of a log that is about to be read back from its start again."""
TOLD = 10
"""Lines not understood that are shown in the exporter's own log; more would only fill it."""


class _Again(NamedTuple):
    """What reads back what was counted already: flows of its own, but for their queues, as nothing but state is wanted."""

    follower: Follower
    prefixes: Prefixes
    flows: dict[bytes, Flow]


class LogWatch:
    """A log's follower, and what became of its lines.

    Args:
        follow: makes a follower of the log.
        flows: the log's queues by name.  Where there are several, lines end in the name of theirs (indimail); the
            lines of a single one may, and it may be another name.

    Attributes:
        error: why the log cannot be read now; None while it can.
        unparsed: lines that should be qmail-send's and are not understood.
        recalled: the retained log has been read.
        read_once: it was there and read since the start.
        owed: it is to be read back again when it is there.
    """

    def __init__(self, follow: Callable[[], Follower], flows: Mapping[str, Flow]) -> None:
        self.follower = follow()
        self.flows = list(flows.values())
        self.error: OSError | None = None
        self.errors: Counter[str] = Counter()
        self.unparsed = 0
        self.recalled = False
        self.read_once = False
        self.owed = False
        self._follow = follow
        self._named = {name.encode(): flow for name, flow in flows.items()}
        self._prefixes = Prefixes()
        self._again: _Again | None = None
        self._counting = False  # from where the first reading back has ended
        self._backfill: Iterator[Batch] | None = None
        self._retained = 0  # bytes that it is of, as they are on disk
        self._since: float | None = None
        self._next_try = 0.0

    @property
    def up(self) -> bool:
        """Whether the log is there and can be read."""
        return self.error is None and self.follower.present

    @property
    def due(self) -> bool:
        """Whether a log that could not be read may be tried again."""
        return monotonic() >= self._next_try

    @property
    def behind(self) -> bool:
        """Whether more lines wait to be read."""
        return self.recalled and self.error is None and self.follower.behind

    @property
    def progress(self) -> float | None:
        """How much of the retained log has been read back, 0 to 1; None where that cannot be told or read, as of a journal."""
        if self.recalled:
            return 1.0
        if self.error is not None:
            return None
        if self._backfill is None:
            return 0.0
        return max(0.0, 1.0 - self._reader.lag_bytes() / self._retained) if self._retained else None

    @property
    def foreign(self) -> int:
        """Lines of other programs."""
        return self._prefixes.foreign

    @property
    def losses(self) -> Counter[str]:
        """Lines or files that could not be read, by kind."""
        return self.errors + self.follower.losses

    def begin(self) -> bool:
        """Find out how far the retained log goes, unless that is known; returns whether it was not.

        Before `recall` is called, everything that came by then must have been looked at.
        """
        if self._backfill is not None:
            return False
        try:
            self._backfill = self._reader.backfill()
            self._retained = self._reader.lag_bytes()
        except OSError as error:
            self._failed(error)
        return True

    def recall(self) -> bool:
        """Read some of the retained log for state; returns whether all of it has been."""
        try:
            batch = next(self._backfill, None) if self._backfill is not None else None
        except OSError as error:
            self._failed(error)
            self._backfill = None
            return False
        self.error = None
        if batch is not None:
            self._recall(batch)
            return False
        self._backfill = None
        self._done_again()
        self.recalled = self._counting = True
        for flow in self.flows:
            flow.queue.log_since = time() if self._since is None else self._since
        if self.follower.present:
            logger.info("log is being followed", log=self.follower.path, since=self._since)
        else:
            logger.warning("no log to be read yet", log=self.follower.path)
        return True

    def start_over(self) -> None:
        """Read the retained log back again, if it was: there are other messages now, of which it may have told.

        It is read back as far as it has been counted: to its end, for it is not to be `behind` when this is called.
        Then everything that came by then must be looked at, as after `begin`.
        """
        if not self.recalled and self._backfill is None and self._again is None:
            return
        self.owed = not self.follower.present
        if self.owed:  # there is nothing to be read back, until the log comes back
            return
        if self._counting:
            self.recalled = True
            self.observe(self.read(LAST))
            self._done_again()
            flows = {name: Flow(flow.queue) for name, flow in self._named.items()}
            self._again = _Again(self._follow(), Prefixes(), flows)
        else:
            self.errors += self.follower.losses
            self.follower.close()
            self.follower = self._follow()
            for flow in self.flows:
                flow.open.clear()
        self.recalled = False
        self._backfill = self._since = None
        self.begin()

    def read(self, limit: int = BLOCK) -> list[Record]:
        """The records of the lines that came since; what is no record is counted.

        They are to be given to `observe` after a look at the messages that events have nominated by now.
        """
        if not self.recalled or not self.due:
            return []
        try:
            batch = self.follower.read(limit)
        except OSError as error:
            self._failed(error)
            return []
        if self.error is not None:
            logger.info("log is readable again", log=self.follower.path)
            self.error = None
        self.read_once |= self.follower.present
        return self._records(batch, self._prefixes)

    def messages(self, records: list[Record], flow: Flow) -> Iterator[int]:
        """The messages of one queue that the records name."""
        for record in records:
            msg = getattr(record, "msg", None)
            if msg is not None and self._flow(record) is flow:
                yield msg

    def new_messages(self, records: list[Record], flow: Flow) -> Iterator[int]:
        """The messages of one queue with which qmail-send begins."""
        return (record.msg for record in records if isinstance(record, New) and self._flow(record) is flow)

    def observe(self, records: list[Record]) -> None:
        """Take the records into the models."""
        self._observe(records, self._named)

    def close(self) -> None:
        """Let go of the log."""
        self._done_again()
        self.follower.close()

    @property
    def _reader(self) -> Follower:
        """What reads back."""
        return self._again.follower if self._again else self.follower

    def _done_again(self) -> None:
        if self._again is not None:
            self._again.follower.close()
            self._again = None

    def _flow(self, record: Record) -> Flow | None:
        return self.flows[0] if len(self.flows) == 1 else self._named.get(record.queue)

    def _observe(self, records: list[Record], flows: Mapping[bytes, Flow]) -> None:
        if len(flows) == 1:
            next(iter(flows.values())).observe(records)
            return
        told: defaultdict[bytes, list[Record]] = defaultdict(list)
        for record in records:
            told[record.queue].append(record)
        for name, of_one in told.items():
            if flow := flows.get(name):
                flow.observe(of_one)
            else:
                self.unparsed += len(of_one)

    def _recall(self, batch: Batch) -> None:
        prefixes, flows = (
            (self._again.prefixes, self._again.flows) if self._again else (self._prefixes, self._named)
        )
        unparsed, foreign = self.unparsed, prefixes.foreign
        with ExitStack() as stack:
            for flow in flows.values():
                stack.enter_context(flow.recalling())
            records = self._records(batch, prefixes)
            if records and self._since is None:
                self._since = records[0].time
            self._observe(records, flows)
        for flow in flows.values():
            flow.unplaced.clear()
        self.unparsed, prefixes.foreign = unparsed, foreign

    def _records(self, batch: Batch, prefixes: Prefixes) -> list[Record]:
        records: list[Record] = []
        for text, moment in prefixes.strip(batch.lines, batch.times, time()):
            try:
                records.append(parse(text, moment))
            except FormatError:  # noqa: PERF203 - a line that is not understood must not cost the next
                self.unparsed += 1
                if self.unparsed <= TOLD:
                    logger.warning("a log line is not understood", log=self.follower.path, line=text[:200])
        return records

    def _failed(self, error: OSError) -> None:
        self._next_try = monotonic() + PATIENCE
        self.errors["read"] += 1
        if self.error is None or str(self.error) != str(error):
            path = error.filename or self.follower.path
            logger.warning("cannot read the log", why=errors.words(error), log=path)
        self.error = errors.kept(error)
