"""What can be done to a host."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from incidents.host import Host
from incidents.world import GOOD, Behaviour, address
from qmail_exporter.demo import report
from qmail_exporter.demo.multilog import Multilog
from qmail_exporter.demo.qmail import Outcome

MINUTE = 60.0
Act = Callable[[Host], Awaitable[None] | None]


def behave(behaviour: Behaviour | None, *domains: str) -> Act:
    """From now on these domains behave so; None: as usual."""

    def act(host: Host) -> None:
        for domain in domains:
            if behaviour is None:
                host.world.behaviours.pop(domain, None)
            else:
                host.world.behaviours[domain] = behaviour

    return act


def setting(where: str, name: str, value: object) -> Act:
    """Set an attribute of the host (""), its `world` or its `door`."""

    def act(host: Host) -> None:
        setattr(getattr(host, where) if where else host, name, value)

    return act


def hourly(mails: float, *recipients: str, sender: str = "joe@mail.test") -> Act:
    """From now on send as many messages an hour, to these recipients in turn; `%d` in an address is another number each time."""

    def act(host: Host) -> None:
        due = [host.clock.now]
        count = [0]

        def errand(now: float) -> None:
            while due[0] <= now:
                to, by = recipients[count[0] % len(recipients)], sender
                host.send(
                    to.replace("%d", str(count[0])).encode(), sender=by.replace("%d", str(count[0])).encode()
                )
                count[0] += 1
                due[0] += 3600 / mails

        host.errands.append(errand)

    return act


def no_more(host: Host) -> None:
    """End what `hourly` and the like began."""
    host.errands.clear()


def both(*acts: Act) -> Act:
    """Several at once; none of them may be waited for."""

    def act(host: Host) -> None:
        for one in acts:
            one(host)

    return act


# --- behaviours


def answers(said: str, kind: Callable[..., Outcome] = report.recipient_refused) -> Behaviour:
    """A host that answers so, whatever comes."""
    return lambda recipient, _now: kind(address(recipient.rpartition(b"@")[2].decode()), said, 0.5)


def holds(seconds: float) -> Behaviour:
    """A host that takes mail, slowly."""
    return lambda recipient, _now: report.accepted(
        address(recipient.rpartition(b"@")[2].decode()), "250 2.0.0 Ok", seconds
    )


def dark(recipient: bytes, _now: float) -> Outcome:
    """A host that does not answer."""
    return report.timed_out(address(recipient.rpartition(b"@")[2].decode()), 60.0)


# --- acts


def hold_deliveries(minutes: float) -> Act:
    """Remote deliveries that begin within that time end after it."""

    def act(host: Host) -> None:
        host.world.held_until = host.clock.now + minutes * MINUTE

    return act


def slow_todo(seconds: float) -> Act:
    """qmail-send preprocesses no more than one message in so many seconds; 0: as many as it can."""

    def act(host: Host) -> None:
        send: Any = host.qmail._send
        if not seconds:
            del send._preprocess_next
            host.qmail.host.pulled = True
            return
        free = [int(host.clock.now)]

        def preprocess_next(recent: int) -> Any:
            host.qmail.host.pulled = False
            waiting = sorted(int(name) for name in os.listdir(host.home / "queue" / "todo"))
            if recent >= free[0] and waiting:
                free[0] = recent + int(seconds)
                yield from send.take(waiting[0])
            send._next_todo = max(free[0], recent + 1)
            return False

        send._preprocess_next = preprocess_next

    return act


def lose_message(host: Host) -> None:
    """A message lies in the queue of which qmail-send does not know, as after a restore from a backup."""
    number = host.send(b"late@bank.example", age=9 * 86400)
    run_to_queue(host)
    for due in host.qmail._send.schedule.due.values():  # type: ignore[union-attr]
        due[:] = [entry for entry in due if entry[1] != number]


def find_message(host: Host) -> None:
    """qmail-send is restarted, and finds what lies in the queue."""
    host.stop()


def revive(host: Host) -> None:
    """All hosts behave as usual, and the queue is worked off at once."""
    host.world.behaviours.clear()
    host.qmail.tcpok()
    host.qmail.alarm()


def run_to_queue(host: Host) -> None:
    """Let qmail-send preprocess what is in todo, and no more."""
    for number in [int(name) for name in os.listdir(host.home / "queue" / "todo")]:
        for _ in host.qmail.preprocess(number):
            pass


async def restart_exporter(host: Host) -> None:
    """The exporter ends, and starts within the minute."""
    await host.unwatch()
    host.watch()


async def end_exporter(host: Host) -> None:
    """The exporter ends."""
    await host.unwatch()


def start_exporter(host: Host) -> None:
    """The exporter starts."""
    host.watch()


def fill(resource: str, share_an_hour: float) -> Act:
    """The file system of the queue loses so much of a resource an hour; 0: it is as it was."""

    def act(host: Host) -> None:
        begun, free = host.clock.now, host.free[resource]

        def errand(now: float) -> None:
            host.free[resource] = max(free - share_an_hour * (now - begun) / 3600, 0.0)

        host.errands.append(errand)

    return act


def freed(host: Host) -> None:
    """There is room again."""
    host.errands.clear()
    host.free.update(bytes=0.6, inodes=0.8)


def log_elsewhere(host: Host) -> None:
    """The log goes into another directory."""
    host.log = Multilog(host.home / "elsewhere", host.clock, count=1000, size=10_000_000)


def log_back(host: Host) -> None:
    """The log goes where it went before."""
    host.log.close()
    host.log = Multilog(host.home / "log", host.clock, count=1000, size=10_000_000)


def hide(what: str) -> Act:
    """Rename a directory of the host, so that the exporter cannot read it."""
    return lambda host: os.rename(host.home / what, host.home / f"{what}.hidden")


def show(what: str) -> Act:
    """Undo `hide`."""
    return lambda host: os.rename(host.home / f"{what}.hidden", host.home / what)


def deaf(host: Host) -> None:
    """A message is touched, and inotify does not tell, so that only the next rescan finds it."""
    assert host.collection is not None
    (watch,) = host.collection.queues
    assert watch.watcher is not None
    number = next(iter(host.qmail.ledger.queued()))
    host.qmail.touch(number, host.clock.now - 86400)
    watch.watcher.read()


def newsletter(recipients: int) -> Act:
    """A message to so many, at the usual domains and a few bad ones."""

    def act(host: Host) -> None:
        names = [f"{GOOD[n % 10]}.example" for n in range(recipients)]
        names[::50] = [f"gone{n % 3}.example" for n in range(len(names[::50]))]
        names[1::100] = [f"full{n % 2}.example" for n in range(len(names[1::100]))]
        host.send(
            *[b"reader%d@%b" % (n, name.encode()) for n, name in enumerate(names)],
            sender=b"list-return-@mail.test-@[]",
        )

    return act


def old_mail(count: int, days: float) -> Act:
    """Messages that have waited for as long, each few for another dead domain."""

    def act(host: Host) -> None:
        for n in range(count):
            domain = f"dead{n % 12}.example"
            host.world.behaviours[domain] = dark
            host.send(b"user%d@%b" % (n, domain.encode()), age=days * 86400 + 60 * n)

    return act


def complain(host: Host) -> None:
    host.complain(b"alert: unable to append to bounce message; HELP! sleeping...")


def restart_often(host: Host) -> None:
    due = [host.clock.now]

    def errand(now: float) -> None:
        if now >= due[0] and host.qmail.running:
            host.qmail.kill()
            host.qmail.start()
            due[0] = now + 180

    host.errands.append(errand)
