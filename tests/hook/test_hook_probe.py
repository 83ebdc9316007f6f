import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from qmail_exporter.formats.control import parse_routes
from qmail_exporter.hook.probe import Pace, Prober, Target, probe, relay_ports, targets

QUICK = Pace(timeout=0.3, greeting=0.3)
PATIENT = Pace(timeout=10, greeting=10)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ask(target: Target, pace: Pace = QUICK) -> list[bool]:
    """Probe a target and return its answers."""
    answers: list[bool] = []
    asyncio.run(asyncio.wait_for(probe(target, pace, answers.append), 10))
    return answers


@asynccontextmanager
async def serving(talk: bytes, host: str = "127.0.0.1") -> AsyncIterator[tuple[Target, list[bytes]]]:
    """Listen, say something to who connects, and note what is said until the end."""
    heard: list[bytes] = []
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        with suppress(ConnectionError):  # who floods a probe is cut off
            for piece in talk.split(b"|"):
                writer.write(piece)
                await writer.drain()
            said = await reader.read()
        heard.append(said)
        writer.close()
        ended.set()

    server = await asyncio.start_server(handle, host, 0)
    try:
        yield Target(host, server.sockets[0].getsockname()[1]), heard
        await asyncio.wait_for(ended.wait(), 10)
    finally:
        server.close()


@contextmanager
def black_hole(host: str = "127.0.0.1") -> Iterator[Target]:
    """A port that drops what comes: its backlog is full, and nobody accepts."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield Target(host, listener.getsockname()[1])
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (b"220 mail.test ESMTP\r\n", b"QUIT\r\n"),
        (b"220-mail.test ESMTP\r\n|220 no spam\r\n", b"QUIT\r\n"),
        (b"220-wait\r\n", b""),
        (b"220 cut", b""),
        (b"554 go away\r\n", b""),
        (b"", b""),
        (b"x" * 100_000, b""),
    ],
    ids=["greeting", "two lines", "unfinished", "cut", "refusal", "silence", "flood"],
)
def test_taken_connection(talk: bytes, said: bytes) -> None:
    """Who takes the connection is reached, whatever he says; QUIT is said to a whole greeting, else nothing."""

    async def run() -> tuple[list[bool], list[bytes]]:
        answers: list[bool] = []
        async with serving(talk) as (target, heard):
            await probe(target, PATIENT if said else Pace(timeout=10, greeting=0.3), answers.append)
        return answers, heard

    assert asyncio.run(run()) == ([True], [said])


def test_answer_does_not_wait_for_the_greeting() -> None:
    """A host that is slow to greet is told of as soon as it has taken the connection."""

    async def run() -> None:
        answered = asyncio.Event()
        async with serving(b"") as (target, _):
            task = asyncio.create_task(probe(target, Pace(greeting=60), lambda _: answered.set()))
            await asyncio.wait_for(answered.wait(), 10)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_ipv6() -> None:
    """An IPv6 address works like any other."""

    async def run() -> list[bool]:
        answers: list[bool] = []
        async with serving(b"220 hi\r\n", "::1") as (target, _):
            await probe(target, PATIENT, answers.append)
        return answers

    try:
        assert asyncio.run(run()) == [True]
    except OSError:
        pytest.skip("no IPv6 here")


def test_black_hole() -> None:
    """Who drops what comes is not reached, within the time that was given."""
    with black_hole() as target:
        assert ask(target) == [False]


def test_refused_is_no_answer() -> None:
    """A refused connection says that a delivery tried now would fail: it counts as none."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert ask(Target("127.0.0.1", bound.getsockname()[1])) == [False]


def test_unreachable_is_no_answer() -> None:
    """An address to which there is no way is not reached."""
    assert ask(Target("255.255.255.255", 25)) == [False]


# --- where


def test_ports() -> None:
    """A host is probed on the ports that routes give to its address, else on 25; each route's port once."""
    routes = parse_routes(
        b"a:192.0.2.1:2525\nb:192.0.2.1:2526\nc:192.0.2.1:2525\nd:[192.0.2.2]:26\ne:relay.test:27\nf:\n"
    )
    hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]
    assert targets(hosts, relay_ports(routes)) == [
        Target("192.0.2.1", 2525),
        Target("192.0.2.1", 2526),
        Target("192.0.2.2", 26),
        Target("192.0.2.3", 25),
        Target("2001:db8::1", 25),
    ]


def test_port_of_the_relay_for_all_mail() -> None:
    """Where all mail goes to a relay by name, hosts without a port of their own are taken for it."""
    ports = relay_ports(parse_routes(b"partner.test:192.0.2.1\n:smtp.relay.test:587\n"))
    assert targets(["192.0.2.1", "192.0.2.9"], ports) == [Target("192.0.2.1", 25), Target("192.0.2.9", 587)]


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "mail.test", "", "192.0.2.1 ", "1.2.3"]
)
def test_no_host(host: str) -> None:
    """What is not the address of one host is not probed."""
    assert targets([host], relay_ports(())) == []


def test_no_port() -> None:
    """A route whose port is no number leads nowhere."""
    assert targets(["192.0.2.1"], relay_ports(parse_routes(b"a:192.0.2.1:smtp\n"))) == []


# --- when


class Bench:
    """A prober whose clock and whose connections the test moves."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.now = 1000.0
        self.begun: list[tuple[float, str]] = []
        self.told: list[tuple[str, bool, float]] = []
        self.answers: dict[str, bool] = {}
        self.prober = Prober(
            pace or Pace(), lambda *told: self.told.append(told), clock=lambda: self.now, connect=self.connect
        )

    async def connect(self, target: Target, _: Pace, answer: Callable[[bool], None]) -> None:
        """Answer at once if it is known how, else never."""
        self.begun.append((self.now, target.host))
        if target.host not in self.answers:
            await asyncio.sleep(3600)
        answer(self.answers[target.host])

    async def play(self, seconds: int, hosts: list[str], **how: Any) -> None:
        """Step once a second."""
        for _ in range(seconds):
            self.prober.step(targets(hosts, relay_ports(())), **how)
            for _ in range(3):
                await asyncio.sleep(0)
            self.now += 1

    def times(self) -> list[float]:
        """When probes began."""
        return [time for time, _ in self.begun]


def run(play: Awaitable[None]) -> None:
    """Run it in a loop of its own, and hold that nothing is left."""

    async def main() -> None:
        await play
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.fixture
def bench() -> Bench:
    return Bench()


HOSTS = [f"192.0.{net}.{host}" for net in (1, 2) for host in range(1, 5)] + ["198.51.100.1", "203.0.113.1"]


def test_pace(bench: Bench) -> None:
    """A probe every 5 s while nothing answers, every second while something does; 20 in a minute at most."""
    bench.answers = dict.fromkeys(HOSTS, False)
    run(bench.play(300, HOSTS))
    assert len(bench.begun) == 60
    assert {b - a for a, b in zip(bench.times(), bench.times()[1:], strict=False)} == {5.0}
    bench.begun.clear()
    bench.now += 60
    run(bench.play(180, HOSTS, quick=True))
    times = bench.times()
    assert times[:5] == [times[0] + n for n in range(5)]
    assert all(b - a >= 60 for a, b in zip(times, times[20:], strict=False))


def test_spread(bench: Bench) -> None:
    """Every host has its turn before one has another, and other networks come first."""
    bench.answers = dict.fromkeys(HOSTS, False)
    run(bench.play(100, HOSTS))
    order = [host for _, host in bench.begun]
    assert sorted(order[:10]) == sorted(HOSTS)
    assert order[10:] == order[:10]
    assert {".".join(host.split(".")[:2]) for host in order[:3]} == {"192.0", "198.51", "203.0"}


def test_one_host_is_spared(bench: Bench) -> None:
    """One host is probed every 3 s at most, and not while a probe of it is under way."""
    bench.answers = {HOSTS[0]: True}
    run(bench.play(12, HOSTS[:1], quick=True))
    assert len(bench.begun) == 4
    bench = Bench()

    async def play() -> None:
        await bench.play(30, HOSTS[:1])
        bench.prober.stop()

    run(play())
    assert len(bench.begun) == 1


def test_few_at_once(bench: Bench) -> None:
    """Probes that never end are four at most; stopped, they tell nothing, and others can begin."""

    async def play() -> None:
        await bench.play(60, HOSTS)
        assert len(bench.begun) == 4
        bench.prober.stop()
        await bench.play(5, HOSTS)
        assert len(bench.begun) == 5
        bench.prober.stop()

    run(play())
    assert bench.told == []


def test_hosts_that_were_dead_before(bench: Bench) -> None:
    """They have every fourth turn, beside another host's; where there is no other, every turn."""
    bench.answers = dict.fromkeys(HOSTS, False)
    run(bench.play(80, HOSTS, stale=HOSTS[1:]))
    assert [host for _, host in bench.begun].count(HOSTS[0]) == 16
    assert len(bench.begun) == 20
    bench.begun.clear()
    run(bench.play(20, HOSTS[1:], stale=HOSTS[1:]))
    assert len(bench.begun) == 4


def test_only_the_hosts_of_now(bench: Bench) -> None:
    """A host that is no longer in the table is not probed again."""
    bench.answers = dict.fromkeys(HOSTS, False)

    async def play() -> None:
        await bench.play(60, HOSTS)
        bench.begun.clear()
        await bench.play(60, HOSTS[:2])
        await bench.play(60, [])

    run(play())
    assert {host for _, host in bench.begun} == set(HOSTS[:2])


def test_what_is_told(bench: Bench) -> None:
    """Each probe tells its host, its answer and its time."""
    bench.answers = {HOSTS[0]: True, HOSTS[1]: False}
    run(bench.play(10, HOSTS[:2]))
    assert bench.told == [(HOSTS[0], True, 0.0), (HOSTS[1], False, 0.0)]


def test_clock_set_back(bench: Bench) -> None:
    """A clock that was set does not end the probes."""
    bench.answers = dict.fromkeys(HOSTS, False)

    async def play() -> None:
        await bench.play(100, HOSTS)
        bench.now -= 1e6
        bench.begun.clear()
        await bench.play(100, HOSTS)

    run(play())
    assert len(bench.begun) >= 19


def test_fault_of_a_probe(caplog: pytest.LogCaptureFixture) -> None:
    """A probe that fails for a reason that nobody thought of is logged, and the next one begins."""
    bench = Bench()

    async def fail(*_: object) -> None:
        raise RuntimeError("what")

    bench.prober._connect = fail
    run(bench.play(20, HOSTS))
    assert [record.message for record in caplog.records] == ["a probe failed"] * 4
