"""What a `Machine` is told, and what it decides. Times are Unix seconds, or any other seconds, of one clock."""

from typing import NamedTuple, TypeAlias

from qmail_exporter.outage.states import Cause, State

SKIPS = ("no_dead_hosts", "tcpto_unknown", "cooldown", "running", "expired", "dry_run", "no_action")
"""Why an action is not run.

For good: tcpto holds no host that qmail passes over; by now qmail has tried every host by itself; it is a dry run; none is set.
For now, until that changes: tcpto cannot be read; the last run was too recent; one is running.
"""


class Attempt(NamedTuple):
    """A delivery's connection: made, to the host of that address if it is known, or not made.

    `time` is the log's, of the delivery's end; `took` is how long it lasted, in seconds, None if its start is not known.
    """

    time: float
    domain: str
    reached: bool
    host: str | None = None
    took: float | None = None


class Probe(NamedTuple):
    """A probe has ended, `took` seconds after its start."""

    time: float
    host: str
    reached: bool
    took: float = 0.0


class Tick(NamedTuple):
    """A second or so has passed; qmail passes over `dead` hosts now, None if tcpto cannot be read."""

    time: float
    dead: int | None


class Ran(NamedTuple):
    """The action that `Act` asked for has ended; `emptied`: tcpto was emptied, even if something else then failed."""

    time: float
    ok: bool
    emptied: bool = False


class Change(NamedTuple):
    """The state is another; `detail` has the numbers that led to it."""

    time: float
    old: State
    new: State
    cause: Cause
    detail: str


class Act(NamedTuple):
    """Run the action now, and step the machine with `Ran` when it has ended. `tries` counts from 1 at each recovery."""

    time: float
    tries: int


class Skip(NamedTuple):
    """The action is not run now, for a reason of `SKIPS`; each is given once a recovery."""

    time: float
    reason: str


Event: TypeAlias = Attempt | Probe | Tick | Ran
Decision: TypeAlias = Change | Act | Skip
