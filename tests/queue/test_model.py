"""The model against a slow recomputation from what was last applied and what the log told."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import isqrt

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qmail_exporter.formats.envelope import ChannelFile, Message, Sender
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.queue import Queue

T0 = 1_795_340_000
SECOND = 10**9
SHORT = {"local": 10}
DOMAINS = {
    b"a@x.example": "x.example",
    b"B@X.Example.": "x.example",
    b"c d%@y.example": "y.example",
    b"e@": "(none)",
    b"none": "(none)",
    b"f\n@z_.example": "z_.example",
}
ADDRESSES = st.lists(st.sampled_from(sorted(DOMAINS)), min_size=1, max_size=4)

CHANNELS = ("local", "remote", "slow-1")
RECIPIENTS = st.one_of(
    st.builds(
        lambda channel, address: {channel: [address]},
        st.sampled_from(CHANNELS),
        st.sampled_from(sorted(DOMAINS)),
    ),
    st.dictionaries(st.sampled_from(CHANNELS), ADDRESSES),
)


def log_form(address: bytes) -> bytes:
    return address.replace(b" ", b"_").replace(b"%", b"_").replace(b"\n", b"/")


@dataclass
class Told:
    """What the log told of one file since its message came."""

    attempt: int | None = None
    number: int = 0  # of the pass
    reasons: dict[bytes, str] = field(default_factory=dict)
    passes: dict[bytes, int] = field(default_factory=dict)  # in which pass an address was deferred


@dataclass
class Life:
    """One message from its arrival to its end: who its recipients are, and which of them are done."""

    arrival_ns: int
    size: int
    sender: Sender
    birth: int
    changed: int
    recipients: dict[str, list[bytes]]
    done: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    stage: str = "mess"
    failed: bool = False
    mtimes: dict[str, int] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=lambda: defaultdict(Told))

    def files(self) -> tuple[ChannelFile, ...]:
        """The files of the channels; one whose recipients are all done is gone, or about to be."""
        return tuple(
            ChannelFile(
                channel,
                b"".join(
                    (b"D" if at in self.done[channel] else b"T") + address + b"\0"
                    for at, address in enumerate(addresses)
                ),
                self.mtimes.get(channel, self.arrival_ns // SECOND),
            )
            for channel, addresses in self.recipients.items()
            if channel not in self.mtimes or self.mtimes[channel] >= 0
        )

    def message(self) -> Message:
        """What a look at it finds."""
        if self.stage == "mess":
            return Message(self.arrival_ns, self.size, False, None, None, 0, (), False)
        if self.stage == "todo":
            return Message(self.arrival_ns, self.size, True, self.sender, None, 0, (), False)
        return Message(
            self.arrival_ns,
            self.size,
            False,
            self.sender,
            self.birth,
            self.changed,
            self.files(),
            self.failed,
        )


class Machine(RuleBasedStateMachine):
    """Messages live and die, the log tells of them, and looks come whenever they like."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(seats=2)
        self.now = T0
        self.living: dict[int, Life] = {}
        self.applied: dict[int, tuple[Message, Life]] = {}

    @initialize(log_since=st.sampled_from([None, T0 - 50, T0 + 50]))
    def begin(self, log_since: float | None) -> None:
        """The log reaches back to a moment, or not at all."""
        self.queue.log_since = log_since
        assert list(self.queue.reschedule()) == []

    # --- what happens at the queue

    @rule(
        msg=st.integers(1, 4),
        size=st.integers(0, 9999),
        sender=st.sampled_from(Sender),
        recipients=RECIPIENTS,
        step=st.integers(0, 100),
        stage=st.sampled_from(["info", "info", "info", "todo", "mess"]),
    )
    def arrive(  # noqa: PLR0917
        self,
        msg: int,
        size: int,
        sender: Sender,
        recipients: dict[str, list[bytes]],
        step: int,
        stage: str,
    ) -> None:
        """A message gets a number that is free, perhaps one that a look has not seen become free, and is looked at."""
        if msg in self.living:
            return
        self.now += step + 1
        self.living[msg] = Life(
            self.now * SECOND + msg, size, sender, self.now, self.now, recipients, stage=stage
        )
        self.look(msg)

    @precondition(lambda self: self.living)
    @rule(data=st.data(), stage=st.sampled_from(["todo", "info", "info"]))
    def proceed(self, data: st.DataObject, stage: str) -> None:
        """A message gets one stage further, and is looked at."""
        msg = data.draw(st.sampled_from(sorted(self.living)))
        if self.living[msg].stage != "info":
            self.living[msg].stage = stage
        self.look(msg)

    @precondition(lambda self: self.living)
    @rule(data=st.data(), failed=st.booleans(), seen=st.booleans())
    def mark(self, data: st.DataObject, failed: bool, seen: bool) -> None:
        """A recipient is marked done; a file without any other is deleted, though not at once."""
        msg = data.draw(st.sampled_from(sorted(self.living)))
        life = self.living[msg]
        present = [file.channel for file in life.files()]
        if life.stage != "info" or not present:
            return
        channel = data.draw(st.sampled_from(present))
        pending = set(range(len(life.recipients[channel]))) - life.done[channel]
        if pending:
            life.done[channel].add(data.draw(st.sampled_from(sorted(pending))))
            life.failed |= failed
        else:
            life.mtimes[channel] = -1
        if seen:
            self.look(msg)

    @precondition(lambda self: self.living)
    @rule(data=st.data(), by=st.integers(-8 * 86400, 100), send=st.booleans(), seen=st.booleans())
    def touch(self, data: st.DataObject, by: int, send: bool, seen: bool) -> None:
        """Somebody touches the `info` file, or a qmail-send that exits the channels' files."""
        msg = data.draw(st.sampled_from(sorted(self.living)))
        life = self.living[msg]
        self.now += 1
        if send:
            life.mtimes.update({file.channel: self.now + by + 9 * 86400 for file in life.files()})
        else:
            life.birth, life.changed = self.now + by, self.now
        if seen:
            self.look(msg)

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A message ends; no look has seen it yet."""
        del self.living[data.draw(st.sampled_from(sorted(self.living)))]

    # --- what the model is told

    @rule(msg=st.integers(1, 4))
    def look(self, msg: int) -> None:
        """A look at one message; what the log told is of one arrival, and of a file while it is there."""
        life = self.living.get(msg)
        before = self.applied.pop(msg, None)
        message = life.message() if life else None
        differs = self.queue.apply(msg, message)
        if message is None or life is None:
            assert differs == (before is not None)
            return
        if before is None or before[0] != message:
            assert differs or (before is not None and _seen(before[0]) == _seen(message))
        self.applied[msg] = message, life
        assert not self.queue.apply(msg, message)
        if message.birth is not None:
            present = {file.channel for file in message.channels}
            for channel in life.told.keys() - present:
                del life.told[channel]

    def pending(self, msg: int) -> list[tuple[str, bytes]]:
        """Channel and address of those still to do, as the last look found it."""
        message, _ = self.applied[msg]
        return [
            (file.channel, record[1:])
            for file in message.channels
            for record in file.content.split(b"\0")[:-1]
            if record[:1] == b"T"
        ]

    @precondition(lambda self: any(self.pending(msg) for msg in self.applied))
    @rule(
        data=st.data(),
        ends=st.sampled_from(["starts", "is deferred", "both"]),
        why=st.sampled_from(REASONS[:3]),
        step=st.integers(0, 1000),
    )
    def deliver(self, data: st.DataObject, ends: str, why: str, step: int) -> None:
        """The log tells of a delivery to a recipient that the last look found pending."""
        msg = data.draw(st.sampled_from([msg for msg in sorted(self.applied) if self.pending(msg)]))
        channel, address = data.draw(st.sampled_from(self.pending(msg)))
        self.now += step
        message, life = self.applied[msg]
        told, safe = life.told[channel], log_form(address)
        if ends != "is deferred":
            self.queue.started(msg, channel, safe, self.now + 0.5)
            records = next(file.content.count(b"\0") for file in message.channels if file.channel == channel)
            alone = records == 1 and len(message.channels) == 1
            since = self.queue.send_since
            over = told.attempt is None or (since is not None and told.attempt < int(since))
            if alone or over or told.passes.get(safe) == told.number:
                told.number += 1
                told.attempt = self.now
        if ends != "starts":
            assert self.queue.deferred(msg, channel, safe, why, self.now + 0.5)
            told.reasons[safe] = why
            told.passes[safe] = told.number

    @rule(msg=st.integers(3, 5), channel=st.sampled_from([*CHANNELS, "unheard-of"]))
    def hear_of_another(self, msg: int, channel: str) -> None:
        """What the log tells of an earlier message of that number, or of a channel without a file, changes nothing."""
        if msg in self.applied:
            message, _ = self.applied[msg]
            before = message.arrival_ns / SECOND - 1
            self.queue.started(msg, channel, b"a@x.example", before)
            assert self.queue.deferred(msg, channel, b"a@x.example", "dns", before)
            self.queue.started(msg, "unheard-of", b"a@x.example", self.now)
            assert self.queue.deferred(msg, "unheard-of", b"a@x.example", "dns", self.now)
        else:
            self.queue.started(msg, channel, b"a@x.example", self.now)
            assert not self.queue.deferred(msg, channel, b"a@x.example", "dns", self.now)

    @rule(msg=st.integers(1, 4))
    def renew(self, msg: int) -> None:
        """The log says that the number begins anew."""
        self.queue.renew(msg)
        if msg in self.applied:
            self.applied[msg][1].told.clear()

    @rule(log=st.none() | st.integers(-50, 500), send=st.none() | st.integers(-50, 5))
    def since(self, log: int | None, send: int | None) -> None:
        """The log turns out to reach back that far, or qmail-send to have started then; all is scheduled anew."""
        self.queue.log_since = None if log is None else T0 + log
        self.queue.send_since = None if send is None else self.now + send + 0.25
        for _ in self.queue.reschedule():
            pass
        self.queue.sums.domains.elect()

    # --- what must hold

    def due(self, life: Life, message: Message, file: ChannelFile) -> int | None:
        """The rules of the schedule, spelled out."""
        since, told = self.queue.send_since, life.told.get(file.channel, Told())
        if told.attempt is not None and (since is None or told.attempt >= int(since)):
            touched = told.attempt < message.info_changed
            birth = message.arrival_ns // SECOND if touched else message.birth
            assert birth is not None
            age = max(0, told.attempt - birth)
            return birth + (min(isqrt(age), 65535) + SHORT.get(file.channel, 20)) ** 2
        log = self.queue.log_since
        if since is not None or (log is not None and message.arrival_ns / SECOND >= log):
            return file.mtime
        return None

    @invariant()
    def sums_are_those_of_a_recount(self) -> None:
        """Every sum is what counting all messages anew gives."""
        self.queue.settle()
        sums, messages = self.queue.sums, [message for message, _ in self.applied.values()]
        assert sorted(self.queue) == sorted(self.applied)
        assert len(self.queue) == len(self.applied)
        assert sorted(msg for part in self.queue.parts() for msg in part) == sorted(self.applied)
        assert sums.todo == sum(message.todo for message in messages)
        assert sums.bytes == sum(message.size for message in messages)
        assert sums.failed == sum(message.failed for message in messages)
        senders = Counter(message.sender for message in messages)
        assert sums.senders == [senders[kind] for kind in Sender]
        births: list[list[int]] = [[], []]
        arrivals: list[list[int]] = [[], []]
        for message in messages:
            if message.birth is not None:
                births[message.sender in (Sender.BOUNCE, Sender.DOUBLE)].append(message.birth)
            arrivals[message.birth is None and not message.todo].append(message.arrival_ns // SECOND)
        for timeline, moments in zip(
            (*sums.births, sums.arrivals, sums.unqueued), births + arrivals, strict=True
        ):
            assert (timeline.total, timeline.sum) == (len(moments), sum(moments))
            assert timeline.first() == min(moments, default=None)
            assert timeline.count(self.now - 10) == sum(moment <= self.now - 10 for moment in moments)
        self.recipients_are_those_of_a_recount()

    def recipients_are_those_of_a_recount(self) -> None:
        """So is every sum over recipients."""
        sums = self.queue.sums
        pending: Counter[str] = Counter()
        done: Counter[str] = Counter()
        due: dict[str, list[int]] = defaultdict(list)
        waiting: Counter[str] = Counter()
        reasons: Counter[tuple[str, str]] = Counter()
        oldest: dict[str, int] = {}
        for message, life in self.applied.values():
            for file in message.channels:
                records = file.content.split(b"\0")[:-1]
                to_do = [record[1:] for record in records if record[:1] == b"T"]
                pending[file.channel] += len(to_do)
                done[file.channel] += len(records) - len(to_do)
                when = self.due(life, message, file)
                if to_do and when is not None:
                    due[file.channel].append(when)
                if file.channel == "local":
                    continue
                told = life.told.get(file.channel, Told())
                for address in to_do:
                    name = DOMAINS[address]
                    waiting[name] += 1
                    if why := told.reasons.get(log_form(address)):
                        reasons[name, why] += 1
                        assert message.birth is not None
                        oldest[name] = min(oldest.get(name, message.birth), message.birth)
        for number, channel in enumerate(sums.channels):
            assert (sums.pending[number], sums.done[number]) == (pending[channel], done[channel])
            assert (sums.due[number].total, sums.due[number].sum) == (len(due[channel]), sum(due[channel]))
            assert sums.due[number].first() == min(due[channel], default=None)
        assert not pending.keys() - set(sums.channels)
        found = [domain for name in DOMAINS.values() if (domain := sums.domains.get(name)) is not None]
        assert {domain.name: domain.pending for domain in found} == waiting
        assert (len(sums.domains), sums.domains.pending) == (len(waiting), sum(waiting.values()))
        held = {
            (domain.name, REASONS[why]): n
            for domain in found
            for why, n in (domain.deferred or {}).items()
            if n
        }
        assert held == reasons
        total = Counter(why for _, why in reasons.elements())
        assert Counter({REASONS[why]: n for why, n in sums.domains.deferred.items() if n}) == total
        assert {d.name: d.births.first() for d in found if d.births is not None} == oldest

    def teardown(self) -> None:
        """When all messages have gone, nothing is left of them."""
        for msg in list(self.queue):
            assert self.queue.apply(msg, None)
        self.living.clear()
        self.applied.clear()
        self.sums_are_those_of_a_recount()
        sums = self.queue.sums
        assert not any(
            timeline._pages for timeline in (*sums.births, sums.arrivals, sums.unqueued, *sums.due)
        )
        assert not any(sums.domains._domains)
        assert not self.queue._several
        assert len(self.queue._table) == 0


def _seen(message: Message) -> object:
    """What of a look makes a difference: not the mtime of a file of which the log tells more."""
    return message._replace(channels=tuple(file._replace(mtime=0) for file in message.channels))


TestModel = Machine.TestCase
TestModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
