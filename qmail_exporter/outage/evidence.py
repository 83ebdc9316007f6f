"""What is known of domains and hosts; each time is the machine's own."""

from typing import TypeVar

from qmail_exporter.outage.rules import Rules

_MOST = 4096  # domains in a memory

_V = TypeVar("_V")


class Sample:
    """The domains tried last, and how that went: whether the network seems to be out."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._latest: dict[str, tuple[bool, float]] = {}  # reached or not, when
        self._failing_since: dict[str, float] = {}

    def add(self, domain: str, *, reached: bool, time: float) -> None:
        """A domain was reached, or not."""
        if reached:
            self._failing_since.pop(domain, None)
        else:
            first = self._failing_since.get(domain, time)
            _remember(self._failing_since, domain, first, _MOST)
            if self.chronic(domain, time):
                return
        _remember(self._latest, domain, (reached, time), self._rules.sample)

    def chronic(self, domain: str, now: float) -> bool:
        """Tell whether a domain has failed for so long that it says nothing of the network."""
        return now - self._failing_since.get(domain, now) > self._rules.chronic

    def verdict(self, now: float) -> tuple[list[str], list[str]] | None:
        """Return the domains that fail and those that are reached if that makes an outage, else None."""
        oldest = now - self._rules.window
        self._latest = {domain: latest for domain, latest in self._latest.items() if latest[1] >= oldest}
        failing = [domain for domain, (reached, _) in self._latest.items() if not reached]
        reached = [domain for domain, (reached, _) in self._latest.items() if reached]
        out = len(failing) >= self._rules.domains and len(reached) < self._rules.reached_share * len(
            self._latest
        )
        return (failing, reached) if out else None

    def renew(self, began: float) -> None:
        """The outage that began then is over: forget what failed in it."""
        self._latest.clear()
        oldest = began - self._rules.window
        self._failing_since = {
            domain: first for domain, first in self._failing_since.items() if first < oldest
        }


class Trouble:
    """An outage under way: who failed in it, and who answers again.

    Attributes:
        began: when it was noticed.
        heard: when something was last heard of the network.
    """

    def __init__(self, rules: Rules, now: float, failing: list[str], reached: list[str]) -> None:
        self.began = self.heard = now
        self._rules = rules
        self._failed = dict.fromkeys(failing)
        self._spared = frozenset(reached)
        self._back: dict[str, tuple[str, float]] = {}  # domains reached again: at which host, when
        self._tried: dict[str, bool] = {}
        self._probed: float | None = None
        self._settling = 0.0
        self._answers: dict[str, bool] = {}

    def tried(self, domain: str, *, reached: bool) -> None:
        """Mail for a domain was to be delivered; not reached is one too to which qmail passed over all hosts."""
        _remember(self._tried, domain, reached, self._rules.sample)

    def reached(self, domain: str, host: str, now: float) -> bool:
        """A domain was reached; return whether that is a sign of recovery.

        It is if the domain had failed in this outage. Others may be of those that it spares; they count if they have not been
        reached all along, and no probes speak for the hosts that qmail passes over.
        """
        self.heard = now
        speaking = self._probed is not None and now - self._probed <= self._rules.probes_speak
        if domain not in self._failed and (speaking or domain in self._spared):
            return bool(self._flowing())
        _remember(self._back, domain, (host, now), self._rules.sample)
        return True

    def failed(self, domain: str, now: float) -> None:
        """A connection was tried and not made."""
        self.heard = now
        self._back.pop(domain, None)
        _remember(self._failed, domain, None, _MOST)

    def settle(self, now: float) -> None:
        """Something answers again: the probes count from now."""
        self._settling = now
        self._answers.clear()

    def probed(self, host: str, now: float, *, reached: bool, began: float) -> None:
        """A probe has ended; one that began before the first answer and had none says nothing."""
        self.heard = self._probed = now
        if reached or began >= self._settling:
            _remember(self._answers, host, reached, self._rules.sample)

    def held(self, now: float, dead: int | None) -> str:
        """Return why the network is back, where `dead` hosts are passed over; empty if it is not."""
        rules = self._rules
        places = {host for host, time in self._back.values() if now - time <= rules.window}
        if len(places) >= rules.hosts:
            return f"deliveries reached {len(places)} hosts again"
        answers = sum(self._answers.values())
        enough = min(rules.hosts, max(dead or 0, 1))
        if answers >= enough and answers >= rules.probe_share * len(self._answers):
            return f"{answers} of {len(self._answers)} probed hosts answer"
        return self._flowing()

    def _flowing(self) -> str:
        """Return that nearly all domains are reached; empty if they are not, or too few were tried."""
        reached, tried = sum(self._tried.values()), len(self._tried)
        if 2 * tried >= self._rules.sample and reached >= self._rules.flowing * tried:
            return f"{reached} of {tried} domains are reached"
        return ""

    def silent(self) -> str:
        """Return that the probes show the outage to go on; empty if they do not."""
        silent = len(self._answers) - sum(self._answers.values())
        if silent >= self._rules.hosts and silent > (1 - self._rules.probe_share) * len(self._answers):
            return f"{silent} of {len(self._answers)} probed hosts do not answer"
        return ""


def _remember(memory: dict[str, _V], key: str, value: _V, most: int) -> None:
    """Put `key` last in `memory`, and drop the first when there are more than `most`."""
    memory.pop(key, None)
    if len(memory) >= most:
        del memory[next(iter(memory))]
    memory[key] = value
