"""The states, and every way from one to another."""

from enum import Enum


class State(Enum):
    """What is known of the network."""

    CLEAR = "clear"
    OUTAGE = "outage"
    SETTLING = "settling"  # something answers again, which must hold
    RECOVERED = "recovered"  # what is to be done about it is due, or under way


class Cause(Enum):
    """Why a state changes."""

    FAILING = "several domains fail, few others are reached"
    ANSWER = "a host answers again"
    SILENCE = "nothing was heard for hours"
    RELAPSE = "it does not hold"
    HELD = "it held"
    DONE = "the action succeeded"
    SKIPPED = "there is nothing to be done"
    OLD = "it was before the exporter started"


TABLE = {
    (State.CLEAR, Cause.FAILING): State.OUTAGE,
    (State.OUTAGE, Cause.ANSWER): State.SETTLING,
    (State.OUTAGE, Cause.SILENCE): State.CLEAR,
    (State.SETTLING, Cause.RELAPSE): State.OUTAGE,
    (State.SETTLING, Cause.HELD): State.RECOVERED,
    (State.RECOVERED, Cause.DONE): State.CLEAR,
    (State.RECOVERED, Cause.SKIPPED): State.CLEAR,
    (State.RECOVERED, Cause.OLD): State.CLEAR,
    (State.RECOVERED, Cause.FAILING): State.OUTAGE,
}
"""Every change of state there is: the machine looks it up here."""


def diagram() -> str:
    """Return `TABLE` as a Mermaid state diagram."""
    edges = [f"    {old.value} --> {new.value}: {cause.value}" for (old, cause), new in TABLE.items()]
    return "\n".join(("stateDiagram-v2", f"    [*] --> {State.CLEAR.value}", *edges)) + "\n"
