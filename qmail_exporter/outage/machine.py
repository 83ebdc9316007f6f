"""The state machine of one queue."""

from qmail_exporter.outage.due import Due
from qmail_exporter.outage.events import Act, Attempt, Change, Decision, Event, Probe, Ran, Skip, Tick
from qmail_exporter.outage.evidence import Sample, Trouble
from qmail_exporter.outage.rules import Rules
from qmail_exporter.outage.states import TABLE, Cause, State

_GAP = 30.0
_DAY = 86400.0


class Machine:
    """Whether the network is out, as far as one queue's deliveries and probes tell.

    It keeps its own time: the sum of the gaps between the times of its events. A step back counts as none and a gap counts for
    30 s at most, so a clock that was set, or a machine that slept, ends no wait and begins none anew. A delivery's time is the
    log's, whose lines come late, so it does not count; but it is all there is when the past is read back, where gaps of up to a
    day are taken for real.

    Args:
        rules: its parameters.
        veto: `dry_run` or `no_action`: why no action is ever to be run; None if it is.

    Attributes:
        state: the present one.
    """

    def __init__(self, rules: Rules, *, veto: str | None = None) -> None:
        self.state = State.CLEAR
        self._rules = rules
        self._sample = Sample(rules)
        self._trouble = Trouble(rules, 0.0, [], [])  # the last one, or none
        self._due = Due(rules, veto)
        self._dead: int | None = None
        self._noted: set[str] = set()
        self._decisions: list[Decision] = []
        self._acting = True
        self._was_acting = False
        self._now = 0.0
        self._time: float | None = None  # of the last event that counts
        self._since = float("-inf")  # when the present state began

    @property
    def running(self) -> bool:
        """Whether an action was asked for and has not ended."""
        return self._due.running

    def step(self, event: Event, *, acting: bool = True) -> list[Decision]:
        """Take in what happened, and return what follows from it, in order.

        Without `acting` it is of the past, and read back from the log: it may change the state, but nothing is to be done.
        """
        self._decisions = []
        self._acting = acting
        if isinstance(event, Attempt):
            self._attempt(event, self._moment(event.time))
        elif isinstance(event, Tick):
            self._dead = event.dead
            self._pass(event.time)
        else:
            self._pass(event.time)
            if isinstance(event, Probe):
                self._probe(event)
            else:
                self._ran(event)
        self._judge(event.time)
        return self._decisions

    # --- time

    def _moment(self, time: float) -> float:
        """Return when a line of the log was written, in the machine's own time."""
        if not self._acting:
            self._pass(time)
            return self._now
        return self._now - (max(self._time - time, 0.0) if self._time is not None else 0.0)

    def _pass(self, time: float) -> None:
        """Let the time go on to that of an event, but not past the moment when a recovery has held unjudged."""
        gap = max(time - self._time, 0.0) if self._time is not None else 0.0
        end = self._now + min(gap, _GAP if self._acting and self._was_acting else _DAY)
        self._time, self._was_acting = time, self._acting
        held = self._since + self._rules.settle
        if self.state is State.SETTLING and self._now < held <= end:
            self._now = held
            self._settle(time)
        self._now = end

    # --- events

    def _attempt(self, attempt: Attempt, moment: float) -> None:
        time, domain, reached, host, took = attempt
        began = moment - max(took or 0.0, 0.0)
        # qmail-remote may have passed over the hosts.
        untried = not reached and took is not None and took < self._rules.passed_over and self._dead != 0
        if reached:
            self._sample.add(domain, reached=True, time=moment)
        if self.state in {State.OUTAGE, State.SETTLING}:
            # What began before may have been connected before.
            if began >= self._trouble.began and not self._sample.chronic(domain, moment):
                self._trouble.tried(domain, reached=reached)
                if reached and self._trouble.reached(domain, host or domain, self._now):
                    self._answered(time, f"{domain} was reached")
            if not reached and not untried:
                self._trouble.failed(domain, self._now)
        # A time-out may be older than the recovery.
        elif not reached and not untried and began >= self._since:
            self._failed(domain, time, moment)

    def _failed(self, domain: str, time: float, moment: float) -> None:
        self._sample.add(domain, reached=False, time=moment)
        if verdict := self._sample.verdict(self._now):
            failing, reached = verdict
            self._trouble = Trouble(self._rules, self._now, failing, reached)
            self._go(time, Cause.FAILING, f"{len(failing)} of {len(failing) + len(reached)} domains fail")

    def _probe(self, probe: Probe) -> None:
        time, host, reached, took = probe
        if reached and self.state is State.OUTAGE:
            self._answered(time, f"{host} answered a probe")
        self._trouble.probed(host, self._now, reached=reached, began=self._now - max(took, 0.0))

    def _ran(self, ran: Ran) -> None:
        if not self._due.running:
            return
        self._due.ran(self._now, ok=ran.ok, emptied=ran.emptied)
        if ran.ok and self.state is State.RECOVERED and self._due.tries:
            self._go(ran.time, Cause.DONE, f"at attempt {self._due.tries}")

    # --- decisions

    def _answered(self, time: float, detail: str) -> None:
        if self.state is State.OUTAGE:
            self._trouble.settle(self._now)
            self._go(time, Cause.ANSWER, detail)

    def _judge(self, time: float) -> None:
        if self.state is State.OUTAGE and self._now - self._trouble.heard > self._rules.forget:
            self._go(time, Cause.SILENCE, f"for {self._now - self._trouble.heard:.0f} s")
        if self.state is State.SETTLING:
            self._settle(time)
        if self.state is State.RECOVERED:
            self._recover(time)

    def _settle(self, time: float) -> None:
        waited = self._now - self._since
        if waited < self._rules.settle:
            return
        if why := self._trouble.held(self._now, self._dead):
            self._due.recover(self._now)
            self._noted.clear()
            self._go(time, Cause.HELD, f"for {waited:.0f} s: {why}")
        elif why := self._trouble.silent():
            self._go(time, Cause.RELAPSE, why)
        elif waited >= self._rules.settle_most:
            self._go(time, Cause.RELAPSE, f"too few hosts answered in {waited:.0f} s")

    def _recover(self, time: float) -> None:
        if not self._acting:
            self._go(time, Cause.OLD, "")
            return
        what, reason = self._due.ask(self._now, self._dead)
        if what == "act":
            self._decisions.append(Act(time, self._due.tries))
        elif reason and reason not in self._noted:
            self._noted.add(reason)
            self._decisions.append(Skip(time, reason))
        if what == "never":
            self._go(time, Cause.SKIPPED, reason)

    def _go(self, time: float, cause: Cause, detail: str) -> None:
        old, self.state = self.state, TABLE[self.state, cause]
        self._since = self._now
        if old in {State.SETTLING, State.OUTAGE} and self.state in {State.RECOVERED, State.CLEAR}:
            self._sample.renew(self._trouble.began)
        self._decisions.append(Change(time, old, self.state, cause, detail))
