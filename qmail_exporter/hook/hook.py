"""The outage hook of one queue: the machine of `outage`, fed with deliveries, probes and tcpto; and what it asks for, done.

Everything happens in one asyncio loop. Whatever an action or a probe does, it ends in a count and a line of the log.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from time import time as wall_clock

from qmail_exporter import logfmt
from qmail_exporter.config import HookConfig
from qmail_exporter.formats.tcpto import Host, Table
from qmail_exporter.hook.probe import Connect, Pace, Prober, probe, targets
from qmail_exporter.hook.runs import Action, Outcome
from qmail_exporter.outage import (
    Act,
    Attempt,
    Cause,
    Change,
    Decision,
    Machine,
    Probe,
    Ran,
    Rules,
    Skip,
    State,
    Tick,
)
from qmail_exporter.outage.told import connection, host_of, passed_over

logger = logfmt.get_logger(__name__)

RESULTS = ("ok", "failed", "timeout")
"""How a run of an action can end."""
REDELIVER = "redeliver"
"""The action that comes last: the others empty tcpto, or do what stands for that."""

_TICK, _QUIET = 0.9, 3.6
"""Seconds between two ticks at least: once a second where it is asked as often, every four while all is quiet."""


@dataclass(slots=True)
class Record:
    """What a hook has done since the exporter started. Times are Unix seconds, None for never.

    Attributes:
        outages: outages begun.
        started: when the last one began; it may be from before the exporter's start, as the log tells it.
        cleared: when the last one was over.
        runs: by action and result.
        skipped: by reason.
        last_run: when an action was last run, by action.
        last_result: how that ended, by action; absent while it runs.
        last_skip: when the last decision not to act was taken, and its reason.
    """

    outages: int = 0
    started: float | None = None
    cleared: float | None = None
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    last_run: dict[str, float] = field(default_factory=dict)
    last_result: dict[str, str] = field(default_factory=dict)
    last_skip: tuple[float, str] | None = None


class Hook:
    """The hook of one queue.

    Args:
        queue: its name.
        config: what is wanted.
        wanted: the actions by name, in the order in which they are run; one begins when the one before it has succeeded.
        table: reads tcpto; None if that cannot be done.
        ports: `probe.relay_ports` of control/smtproutes.
        ready: whether the log has been read back; what deliveries tell until then is of the past.
        clock: Unix seconds.

    Attributes:
        record: what was done, for the metrics.
        actions: the actions by name.
        dry_run: they are only told of.
    """

    def __init__(  # noqa: PLR0913 - what it reads, what it does, and its clock
        self,
        queue: str,
        config: HookConfig,
        wanted: Mapping[str, Action],
        *,
        table: Callable[[], Table | None],
        ports: Callable[[], Mapping[str, tuple[int, ...]]],
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = wall_clock,
        connect: Connect = probe,
        pace: Pace | None = None,
    ) -> None:
        self.record = Record()
        self.actions = wanted
        self.dry_run = config.dry_run
        self._queue = queue
        self._config = config
        self._table = table
        self._ports = ports
        self._ready = ready
        self._clock = clock
        veto = "no_action" if not wanted else "dry_run" if config.dry_run else None
        self._machine = Machine(Rules(cooldown=config.cooldown), veto=veto)
        self._prober = Prober(pace or Pace(), self._probed, clock=clock, connect=connect)
        self._live = False
        self._due = 0.0
        self._dead: list[Host] = []
        self._stale: frozenset[str] = frozenset()
        self._left: list[str] = []  # actions of this recovery that have not succeeded yet
        self._running: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        """What is known of the network."""
        return self._machine.state

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way: there is no outage, and no host is passed over."""
        return self._live and self.state is State.CLEAR and not self._dead

    def step(self) -> None:
        """Tick if it is time to; call this once a second in the loop, or more seldom while `quiet` and nothing is delivered.

        Whatever goes wrong is logged: the hook is no reason for the exporter to end.
        """
        now = monotonic()
        if now < self._due:
            return
        try:
            self.tick()
        except Exception:
            logger.exception("a tick of the hook failed", queue=self._queue)
        self._due = now + (_QUIET if self.quiet else _TICK)

    async def close(self) -> None:
        """End probes and a running action."""
        self._prober.stop()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def on_delivery(  # noqa: PLR0913, PLR0917 - what the log tells of a delivery
        self, domain: str, report: bytes, result: str, reason: str, time: float, took: float | None = None
    ) -> None:
        """A delivery to a domain, on any channel but `local`, has ended.

        Args:
            domain: of the recipient.
            report: as in the log.
            result: success, failure or deferral.
            reason: of `formats.reason`; empty for a success.
            time: Unix seconds, by the log.
            took: seconds since its start, if that is known.
        """
        reached = connection(result, reason, report)
        if reached is not None:
            attempt = Attempt(time, domain, reached, host_of(report) if reached else None, took)
            self._take(self._machine.step(attempt, acting=self._live))

    def tick(self) -> None:
        """Look at tcpto and at the clock."""
        live, self._live = self._live, self._ready()
        if not self._live:
            self._prober.stop()
            return
        if not live and self.state is not State.CLEAR:
            self._say("by the log there is an outage", state=self.state.value, since=self.record.started)
        now = self._clock()
        table = self._table()
        self._dead = [] if table is None else passed_over(table, now)
        self._take(self._machine.step(Tick(now, None if table is None else len(self._dead))))
        wanted = self._dead or (table.hosts if table else ())
        if self.state in {State.OUTAGE, State.SETTLING} and self._config.probe and self.actions:
            places = targets([host.address for host in wanted], self._ports())
            self._prober.step(places, stale=self._stale, quick=self.state is State.SETTLING)
        else:
            self._prober.stop()

    def _probed(self, host: str, reached: bool, took: float) -> None:
        self._take(self._machine.step(Probe(self._clock(), host, reached, took)))

    def _take(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Change):
                self._changed(decision)
            elif isinstance(decision, Skip):
                self.record.skipped[decision.reason] += 1
                self.record.last_skip = decision.time, decision.reason
                actions = " ".join(self.actions)
                self._say(
                    "outage hook does not act",
                    reason=decision.reason,
                    actions=actions,
                    dead_hosts=len(self._dead),
                )
            else:
                self._running = asyncio.get_running_loop().create_task(self._act(decision))

    def _changed(self, change: Change) -> None:
        self._due = 0.0
        if change.cause is Cause.FAILING:
            self.record.started = change.time
            self.record.outages += self._live
            self._stale = frozenset(host.address for host in self._dead)
        elif change.cause in {Cause.HELD, Cause.SILENCE}:
            self.record.cleared = change.time
        if self._live:
            old, new = change.old.value, change.new.value
            self._say(
                "network state changed", old=old, new=new, because=change.cause.value, detail=change.detail
            )

    async def _act(self, act: Act) -> None:
        """Run the actions that this recovery still waits for, until one fails."""
        if act.tries == 1:
            self._left = list(self.actions)
        emptied = False
        try:
            while self._left and await self._run(self._left[0], act.tries):
                emptied |= self._left.pop(0) != REDELIVER
        finally:
            ran = Ran(self._clock(), ok=not self._left, emptied=emptied)
            self._take(self._machine.step(ran))

    async def _run(self, name: str, tries: int) -> bool:
        self.record.last_run[name] = self._clock()
        self.record.last_result.pop(name, None)
        try:
            outcome = await asyncio.wait_for(self.actions[name](), self._config.timeout)
            result = "ok" if outcome.ok else "failed"
        except asyncio.TimeoutError:
            outcome, result = Outcome(False, f"took more than {self._config.timeout:g} s"), "timeout"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed action
            outcome, result = Outcome(False, str(error) or type(error).__name__), "failed"
        self.record.runs[name, result] += 1
        self.record.last_result[name] = result
        self._say(
            "outage hook ran an action",
            action=name,
            result=result,
            attempt=tries,
            dead_hosts=len(self._dead),
            said=outcome.text,
        )
        return outcome.ok

    def _say(self, text: str, **fields: object) -> None:
        logger.info(text, queue=self._queue, **fields)
