"""What is to be done about a recovery, and when."""

from typing import Literal, NamedTuple

from qmail_exporter.outage.rules import Rules


class Answer(NamedTuple):
    """Run it now; or not, and never; or not yet. The reason is one of `events.SKIPS`; an empty one needs no telling."""

    what: Literal["act", "never", "later"]
    reason: str = ""


class Due:
    """The action of one queue. Times are the machine's own.

    Attributes:
        running: it was asked for, and has not ended.
        tries: how often it was, for this recovery.
    """

    def __init__(self, rules: Rules, veto: str | None) -> None:
        self.running = False
        self.tries = 0
        self._rules = rules
        self._veto = veto
        self._recovered = 0.0
        self._next_try = 0.0
        self._emptied = False
        self._last_run: float | None = None

    def recover(self, now: float) -> None:
        """The network has recovered."""
        self.tries = 0
        self._recovered = self._next_try = now
        self._emptied = False

    def ask(self, now: float, dead: int | None) -> Answer:  # noqa: PLR0911 - one return a rule
        """Tell what to do now, while qmail passes over `dead` hosts."""
        rules = self._rules
        if self.running:
            # Its own run is no reason to skip; that of the recovery before this one is.
            return Answer("later", "" if self.tries else "running")
        if now - self._recovered > rules.worth:
            return Answer("never", "expired")
        if now < self._next_try:
            return Answer("later")
        # When tcpto was emptied, and what was to follow failed, the table is empty because of this.
        if dead is None and not self._emptied:
            return Answer("later", "tcpto_unknown")
        if not dead and not self._emptied:
            return Answer("never", "no_dead_hosts")
        if not self.tries and self._last_run is not None and now - self._last_run < rules.cooldown:
            return Answer("later", "cooldown")
        if self._veto is not None:
            return Answer("never", self._veto)
        self.tries += 1
        self.running = True
        return Answer("act")

    def ran(self, now: float, *, ok: bool, emptied: bool) -> None:
        """It has ended."""
        self.running = False
        if ok or emptied:
            self._last_run = now
        if not self.tries:
            return  # it was for the recovery before this one
        self._emptied |= emptied
        wait = self._rules.backoff * 2.0 ** min(self.tries - 1, 30)
        self._next_try = now + min(wait, self._rules.backoff_most)
