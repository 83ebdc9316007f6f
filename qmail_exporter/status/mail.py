"""What is wrong with the mail of one queue: what stands still, why, since when, and what to do.  Pure."""

from collections.abc import Iterator

from qmail_exporter.status.facts import Destination, Expiring, QueueFacts, Room, Unknown, Waiting
from qmail_exporter.status.trouble import MINUTE, Trouble, count, duration

SPOKE = 10 * MINUTE
"""A log that spoke within this time shows that qmail-send runs, whatever the list of processes says."""
TODO_MANY = 50
_START = ("svc -u /service/qmail-send", "systemctl start qmail-send")
MANY = 100
"""Recipients that make one destination worth a word of its own."""
REASONS = {
    "connect": "no host takes the connection",
    "dns": "its name servers do not answer",
    "greylist": "greylisting: it wants to see the mail again later",
    "mailbox_full": "mailboxes there are full",
    "no_such_user": "it knows no such user",
    "policy": "it refuses this host or this mail by policy",
    "rate_limit": "it takes no more mail at this rate",
    "tls": "encryption fails",
    "greeting": "it refuses before any mail is named",
    "protocol": "it finds fault with the commands or the message",
    "connection_died": "the connection is lost on the way",
    "expired": "it was too long in the queue",
    "local": "a local delivery's own trouble",
    "system": "a mail system is out of order",
    "other": "for a reason of its own",
}
"""Each reason of `formats.reason` as the end of a sentence."""


def troubles(queue: QueueFacts, now: float) -> Iterator[Trouble]:
    """Yield what is wrong with the mail."""
    yield from _sending(queue, now)
    yield from _network(queue, now)
    yield from _room(queue)
    yield from _expiring(queue)
    yield from _todo(queue)
    yield from _busy(queue)
    yield from _destination(queue, now)
    for kind, number in queue.alerts:
        times = count(number, "alert")
        yield Trouble(
            "look",
            f"qmail-send has logged {times} of kind {kind} since this exporter started.",
            do="Its log says more.",
        )


def _sending(queue: QueueFacts, now: float) -> Iterator[Trouble]:
    quiet = None if queue.heard is None else now - queue.heard
    if queue.sending is False:
        if quiet is None:
            doubt = "Nothing is delivered, unless it is only out of this exporter's sight."
            yield Trouble(
                "look", "No qmail-send is seen to run.", doubt, "Start it as this host does.", _START
            )
        elif quiet > SPOKE:
            why = f"Its log has been silent for {duration(quiet)}."
            yield Trouble(
                "act",
                "No qmail-send is running: nothing is delivered.",
                why,
                "Start it as this host does.",
                _START,
            )
        return
    stuck = queue.overdue if isinstance(queue.overdue, int) else 0
    if stuck and quiet is not None and quiet > SPOKE:
        yield Trouble(
            "act",
            f"qmail-send does nothing, though {count(stuck, 'message')} should have been tried.",
            f"Its log has been silent for {duration(quiet)}.",
            "See whether its log can be written (a full disk stops qmail), and whether its children run.",
        )


def _network(queue: QueueFacts, now: float) -> Iterator[Trouble]:
    network = queue.network
    if isinstance(network, Unknown):
        return
    timeouts = queue.timeouts
    dead = 0 if isinstance(timeouts, Unknown) else len(timeouts.dead)
    began = "" if network.started is None else f"It began {duration(now - network.started)} ago; "
    passed = f"{began}qmail passes over {count(dead, 'host')}."
    if network.state == "outage":
        yield Trouble(
            "act",
            "The network seems to be out: hosts that took mail before do not answer.",
            passed,
            "Look at link, default route, resolver, a firewall in front of port 25, and the relay in smtproutes. "
            + _hook_waits(network.runs, dry=network.dry_run),
        )
    elif network.state in {"settling", "recovered"}:
        yield Trouble(
            "look",
            "Hosts answer again after an outage.",
            passed,
            _hook_waits(network.runs, dry=network.dry_run),
        )
    elif dead:
        assert not isinstance(timeouts, Unknown)  # noqa: S101 - or none were counted
        last = duration(max(host.latest for host in timeouts.dead) - now)
        yield Trouble(
            "look" if dead >= 5 else "note",
            f"qmail passes over {count(dead, 'host')} that timed out twice.",
            f"Mail to {'it' if dead == 1 else 'them'} is not even tried, the last for {last} more.",
            "If they answer again, empty the table and have all mail tried." if dead >= 5 else "",
            ("qmail-exporter tcpok", "qmail-exporter redeliver") if dead >= 5 else (),
        )
    for run in network.runs:
        if run.result in {"failed", "timeout"}:
            ended = "took too long" if run.result == "timeout" else "failed"
            yield Trouble(
                "act",
                f"The hook's action {run.action} {ended} at its last run.",
                do="The exporter's log says why.",
            )


def _hook_waits(runs: tuple[object, ...], *, dry: bool) -> str:
    if dry:
        return "The hook is in its dry run and will only log what it would do."
    if runs:
        return "When it is over, the hook acts by itself."
    return "No hook is set: when it is over, run qmail-exporter tcpok, then qmail-exporter redeliver."


def _room(queue: QueueFacts) -> Iterator[Trouble]:
    if isinstance(queue.room, Room):
        for what, size, free in (
            ("space", queue.room.size, queue.room.free),
            ("inodes", queue.room.inodes, queue.room.free_inodes),
        ):
            if size and free < size / 10:
                level = "act" if free < size / 50 else "look"
                text = f"The queue's file system has {free / size:.1%} of its {what} left."
                yield Trouble(
                    "act" if level == "act" else "look", text, "When it is full, qmail takes no mail."
                )


def _expiring(queue: QueueFacts) -> Iterator[Trouble]:
    expiring = queue.expiring
    if not isinstance(expiring, Expiring) or not expiring.day:
        return
    within = (("hour", expiring.hour), ("6 hours", expiring.six), ("day", expiring.day))
    horizon, number = next((name, number) for name, number in within if number)
    past = "All" if expiring.past == number else f"{expiring.past:,}"
    past = f"{past} of them at the next attempt. " if expiring.past else ""
    lifetime = "" if isinstance(queue.lifetime, Unknown) else f"queuelifetime is {duration(queue.lifetime)}."
    yield Trouble(
        "look" if horizon == "hour" else "note",
        f"{count(number, 'message')} will bounce within {'an' if horizon == 'hour' else 'the' if horizon == 'day' else ''} {horizon}.".replace(
            "  ", " "
        ),
        past + lifetime,
        "To give them their whole time again, list them by age and rejuvenate them."
        if horizon == "hour"
        else "",
        ("qmail-exporter queue --sort expiry", "qmail-exporter rejuvenate ID") if horizon == "hour" else (),
    )


def _todo(queue: QueueFacts) -> Iterator[Trouble]:
    if isinstance(queue.todo, int) and queue.todo >= TODO_MANY:
        yield Trouble(
            "look",
            f"{count(queue.todo, 'message')} {'waits' if queue.todo == 1 else 'wait'} to be preprocessed.",
            "More mail comes than qmail-send takes in, or it has stopped to.",
            "A sender that floods shows in the list of senders.",
            ("qmail-exporter queue --top senders",),
        )


def _busy(queue: QueueFacts) -> Iterator[Trouble]:
    for channel, used, limit in () if isinstance(queue.use, Unknown) else queue.use:
        if not limit:
            yield Trouble(
                "act",
                f"concurrency{channel} is 0: no {channel} delivery is made.",
                do="Set it, and restart qmail-send.",
            )
        elif used >= limit:
            yield Trouble(
                "look",
                f"All {limit} {channel} deliveries are in use.",
                "What is due waits for one of them; slow or silent hosts hold them longest.",
            )


def _destination(queue: QueueFacts, now: float) -> Iterator[Trouble]:
    """The destination that most waits for, if that is much, or most of all."""
    if not isinstance(queue.waiting, Waiting) or not queue.waiting.destinations:
        return
    most = queue.waiting.destinations[0]
    if most.deferred < MANY and not (most.deferred >= 10 and most.deferred > queue.waiting.deferred / 2):
        return
    level = "note" if most.deferred < MANY else "look"
    share = f"{most.deferred:,} of {count(queue.waiting.deferred, 'deferred recipient')}"
    yield Trouble(
        "look" if level == "look" else "note",
        f"{share} wait for {most.name}: {_because(most)}.",
        "" if most.oldest is None else f"The oldest of that mail is {duration(now - most.oldest)} old.",
        commands=(f"qmail-exporter queue --domain {most.name}",) if _fit_for_a_shell(most.name) else (),
    )


def _because(destination: Destination) -> str:
    return REASONS.get(destination.reasons[0][0], "") if destination.reasons else "nobody knows why"


def _fit_for_a_shell(name: str) -> bool:
    return all(character.isalnum() or character in "-." for character in name) and not name.startswith("-")
