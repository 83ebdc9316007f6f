"""Whether the network is out, and when to undo what an outage leaves in `lock/tcpto`; told by deliveries and probes.

`Machine` is stepped with what happens and gives decisions: pure, with no clock, no file and no log of its own. `states.TABLE`
is every change of state there is, `Rules` every number. Guaranteed, whatever the events and their times:

- `Act` is given only after an outage and a recovery from it, at most once for each recovery, and again only if told that it
  failed; never while one runs; never while tcpto holds no host that qmail passes over.
- The evidence kept is bounded, whoever chooses the domains.

Only a connection that was tried says anything of the network. An answer does, whatever it was: a refused recipient,
greylisting. A connection that was not made does. What says nothing: a failure of DNS, for then no host was tried, and tcpto is
as it was; a connection that died, for it may have been made before the outage and end, with `timeoutremote`, 20 minutes into it;
a host that qmail-remote passed over, which ends at once and in the words of a failed connection.
"""

from qmail_exporter.outage.events import SKIPS, Act, Attempt, Change, Decision, Event, Probe, Ran, Skip, Tick
from qmail_exporter.outage.machine import Machine
from qmail_exporter.outage.rules import Rules
from qmail_exporter.outage.states import TABLE, Cause, State, diagram

__all__ = [
    "SKIPS",
    "TABLE",
    "Act",
    "Attempt",
    "Cause",
    "Change",
    "Decision",
    "Event",
    "Machine",
    "Probe",
    "Ran",
    "Rules",
    "Skip",
    "State",
    "Tick",
    "diagram",
]
