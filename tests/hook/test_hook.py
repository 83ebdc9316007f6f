import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.config import HookConfig
from qmail_exporter.demo.qmail import Clock, Qmail, run
from qmail_exporter.demo.world import Domain, World
from qmail_exporter.formats.envelope import domain
from qmail_exporter.formats.log import Delivery, Starting, parse
from qmail_exporter.formats.reason import answered, reason
from qmail_exporter.formats.tcpto import Host, Table, parse_tcpto
from qmail_exporter.hook import Hook
from qmail_exporter.hook.probe import Pace, Target, probe, relay_ports
from qmail_exporter.hook.runs import Action, Outcome
from qmail_exporter.outage import State
from qmail_exporter.outage.told import host_of, passed_over

NOW = 1_800_000_000.0
CONNECT = b"Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/"
ACCEPTED = b"192.0.2.%d_accepted_message./Remote_host_said:_250_ok/"
DEAD = [f"192.0.2.{number}" for number in range(1, 9)]


class Bench:
    """A hook whose clock, tcpto, probes and actions the test moves."""

    def __init__(self, config: HookConfig | None = None, **given: Any) -> None:
        self.now = NOW
        self.dead: list[str] | None = DEAD
        self.up = False
        self.ready = True
        self.ran: list[str] = []
        self.outcomes: dict[str, Outcome | Exception] = {}
        self.probed: list[Target] = []
        names = given.pop("names", ("tcpok", "redeliver"))
        self.hook = Hook(
            "q1",
            config or HookConfig(tcpok=True, redeliver=True),
            {name: self.action(name) for name in names},
            table=self.table,
            ports=lambda: relay_ports(()),
            ready=lambda: self.ready,
            clock=lambda: self.now,
            **{"connect": self.connect, **given},
        )

    def action(self, name: str) -> Action:
        """Make an action that notes that it ran and has the outcome that is set."""

        async def act() -> Outcome:
            self.ran.append(name)
            outcome = self.outcomes.get(name, Outcome(True, "done"))
            if isinstance(outcome, Exception):
                raise outcome
            if outcome.text == "hang":
                await asyncio.sleep(3600)
            return outcome

        return act

    def table(self) -> Table | None:
        """Read the table."""
        if self.dead is None:
            return None
        return Table(tuple(Host(host, 2, int(NOW)) for host in self.dead), 64)

    async def connect(self, target: Target, _: Pace, answer: Callable[[bool], None]) -> None:
        """Probe."""
        self.probed.append(target)
        answer(self.up)

    async def play(self, seconds: int) -> None:
        """Tick once a second."""
        for _ in range(seconds):
            self.hook.tick()
            for _ in range(6):
                await asyncio.sleep(0)
            self.now += 1

    def fail(self, count: int = 10) -> None:
        """Have connections to that many domains fail."""
        for number in range(count):
            self.hook.on_delivery(f"d{number}.example", CONNECT, "deferral", "connect", self.now, 60.0)

    async def outage(self) -> None:
        """Have an outage begin."""
        await self.play(70)
        self.fail()
        assert self.hook.state is State.OUTAGE

    async def whole(self) -> None:
        """Have an outage begin and end."""
        await self.outage()
        await self.play(30)
        self.up = True
        await self.play(15)


def play(bench: Bench, what: Callable[[], Awaitable[object]] | None = None) -> None:
    """Run in a loop of its own: a whole outage, if not something else."""

    async def main() -> None:
        await (what or bench.whole)()
        await bench.hook.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    """Return the log's lines: text, and the field that tells most."""
    fields = [vars(record).get("fields", {}) for record in log.records]
    return [
        (record.message, told.get("new") or told.get("reason") or (told.get("action"), told.get("result")))
        for record, told in zip(log.records, fields, strict=True)
    ]


def test_outage_from_end_to_end(log: pytest.LogCaptureFixture) -> None:
    """Probes begin with the outage and find its end; each action is run once; each decision is one line."""
    bench = Bench()
    play(bench)
    record = bench.hook.record
    assert bench.ran == ["tcpok", "redeliver"]
    assert (record.runs, record.skipped) == ({("tcpok", "ok"): 1, ("redeliver", "ok"): 1}, {})
    assert (record.outages, record.started) == (1, NOW + 70)
    assert record.cleared is not None
    assert 100 < record.cleared - NOW < 110
    assert set(record.last_run) == {"tcpok", "redeliver"}
    assert bench.hook.state is State.CLEAR
    assert {target.port for target in bench.probed} == {25}
    assert {target.host for target in bench.probed} <= set(DEAD)
    assert lines(log) == [
        ("network state changed", "outage"),
        ("network state changed", "settling"),
        ("network state changed", "recovered"),
        ("outage hook ran an action", ("tcpok", "ok")),
        ("outage hook ran an action", ("redeliver", "ok")),
        ("network state changed", "clear"),
    ]


def test_every_line_says_why(log: pytest.LogCaptureFixture) -> None:
    """A change of state has its cause and the numbers behind it."""
    play(Bench())
    told = [vars(record)["fields"] for record in log.records if record.message == "network state changed"]
    assert told[0]["because"] == "several domains fail, few others are reached"
    assert told[0]["detail"] == "5 of 5 domains fail"
    assert "probed hosts answer" in told[2]["detail"]
    assert all(fields["queue"] == "q1" for fields in told)


def test_no_probes_in_clear() -> None:
    """Where there is no outage, nobody is probed; nor after it."""
    bench = Bench()
    play(bench, lambda: bench.play(60))
    assert bench.probed == []

    async def after() -> None:
        await bench.whole()
        bench.probed.clear()
        await bench.play(60)

    play(bench, after)
    assert bench.probed == []


@pytest.mark.parametrize(
    ("config", "names"),
    [(HookConfig(tcpok=True, probe=False), ("tcpok",)), (HookConfig(), ())],
    ids=["off", "no action"],
)
def test_probes_that_are_not_wanted(config: HookConfig, names: tuple[str, ...]) -> None:
    """Without --hook.probe, or without an action, nobody is probed; the state is known all the same."""
    bench = Bench(config, names=names)

    async def main() -> None:
        await bench.outage()
        await bench.play(60)
        for number in range(3):
            bench.hook.on_delivery(f"d{number}.example", ACCEPTED % number, "success", "", bench.now, 0.5)
        await bench.play(10)

    play(bench, main)
    assert bench.probed == []
    assert (bench.hook.state, bench.ran) == (State.CLEAR, list(names))
    assert bench.hook.record.skipped == ({} if names else {"no_action": 1})


def test_dry_run(log: pytest.LogCaptureFixture) -> None:
    """A dry run says what it would have run for, counts it, and runs nothing."""
    bench = Bench(HookConfig(tcpok=True, dry_run=True))
    play(bench)
    assert (bench.ran, bench.hook.record.skipped) == ([], {"dry_run": 1})
    assert ("outage hook does not act", "dry_run") in lines(log)


@pytest.mark.parametrize(
    ("outcome", "result"),
    [(Outcome(False, "no"), "failed"), (RuntimeError(), "failed"), (Outcome(True, "hang"), "timeout")],
    ids=["failed", "raised", "hung"],
)
def test_failing_action(outcome: Outcome | Exception, result: str, log: pytest.LogCaptureFixture) -> None:
    """However an action fails, it is counted, what follows it waits, and both are run when it succeeds."""
    bench = Bench(HookConfig(tcpok=True, redeliver=True, timeout=0.01))
    bench.outcomes["tcpok"] = outcome

    async def main() -> None:
        await bench.whole()
        assert bench.hook._running
        await bench.hook._running
        first = bench.hook.record.runs["tcpok", result]
        assert bench.ran == ["tcpok"] * first
        bench.outcomes.clear()
        await bench.play(20)

    play(bench, main)
    runs = bench.hook.record.runs
    assert runs == {("tcpok", result): runs["tcpok", result], ("tcpok", "ok"): 1, ("redeliver", "ok"): 1}
    assert runs["tcpok", result] >= 1
    said = [vars(record)["fields"].get("said") for record in log.records]
    assert {"failed": {"no", "RuntimeError"}, "timeout": {"took more than 0.01 s"}}[result] & set(said)


def test_only_what_failed_is_tried_again() -> None:
    """When tcpok has succeeded and redeliver has not, redeliver alone is run again, though the table is empty now."""
    bench = Bench()
    bench.outcomes["redeliver"] = Outcome(False, "no qmail-send")

    async def main() -> None:
        await bench.whole()
        bench.dead = []
        await bench.play(60)
        bench.outcomes.clear()
        await bench.play(60)

    play(bench, main)
    assert bench.ran[:2] == ["tcpok", "redeliver"]
    assert bench.ran.count("tcpok") == 1
    assert bench.hook.record.runs["redeliver", "ok"] == 1
    assert bench.hook.state is State.CLEAR


def test_empty_table_and_unreadable_table() -> None:
    """An empty table is nothing to act on; one that cannot be read may be."""
    for dead, reason_, state in (
        ([], "no_dead_hosts", State.CLEAR),
        (None, "tcpto_unknown", State.RECOVERED),
    ):
        bench = Bench()

        async def main(bench: Bench = bench, dead: list[str] | None = dead) -> None:
            await bench.outage()
            bench.dead = dead
            for number in range(3):
                bench.hook.on_delivery(
                    f"d{number}.example", ACCEPTED % number, "success", "", bench.now + 1, 0.5
                )
            bench.now += 1
            await bench.play(10)
            for number in range(3):
                bench.hook.on_delivery(f"d{number}.example", ACCEPTED % number, "success", "", bench.now, 0.5)
            await bench.play(10)

        play(bench, main)
        assert (bench.ran, bench.hook.record.skipped, bench.hook.state) == ([], {reason_: 1}, state)


def test_log_read_back(log: pytest.LogCaptureFixture) -> None:
    """Until the log has been read back nothing is done, counted, or probed; then an outage that it tells of is known."""
    bench = Bench()
    bench.ready = False

    async def main() -> None:
        for _ in range(2):
            bench.fail()
            bench.now += 600
            for number in range(5):
                bench.hook.on_delivery(f"d{number}.example", ACCEPTED % number, "success", "", bench.now, 0.5)
                bench.now += 2
        assert bench.hook.record.cleared is not None
        bench.now += 100
        bench.fail()
        await bench.play(10)
        assert (log.records, bench.probed, bench.hook.record.outages) == ([], [], 0)
        bench.ready = True
        await bench.play(10)
        assert [record.message for record in log.records] == ["by the log there is an outage"]
        bench.up = True
        await bench.play(15)

    play(bench, main)
    assert bench.ran == ["tcpok", "redeliver"]
    assert (bench.hook.record.outages, bench.hook.record.skipped) == (0, {})


def test_deliveries_that_tell_nothing() -> None:
    """Failures of DNS and of this host change nothing."""
    bench = Bench()

    async def main() -> None:
        for number in range(20):
            await bench.play(1)
            for why in ("dns", "system", "connection_died", "other"):
                bench.hook.on_delivery(f"d{number}.example", b"Sorry", "deferral", why, bench.now, 60)

    play(bench, main)
    assert bench.hook.state is State.CLEAR


def test_hosts_that_were_dead_before() -> None:
    """Of hosts that were dead before the outage few probes are made, while there are others."""
    bench = Bench()
    bench.dead = DEAD[:4]

    async def main() -> None:
        await bench.outage()
        bench.dead = DEAD
        await bench.play(200)

    play(bench, main)
    before = sum(target.host in DEAD[:4] for target in bench.probed)
    assert (before, len(bench.probed) - before) == (10, 40)


def test_steps(log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked to step, it ticks once a second, whatever goes wrong in a tick, and every four seconds while all is quiet."""
    bench = Bench()
    now, ticked = 1000.0, []
    monkeypatch.setattr("qmail_exporter.hook.hook.monotonic", lambda: now)

    def table() -> Table | None:
        ticked.append(round(now, 1))
        if len(ticked) == 2:
            raise RuntimeError("what")
        return bench.table()

    async def main() -> None:
        nonlocal now
        bench.hook._table = table
        for _ in range(20):
            bench.hook.step()
            now += 0.1
        bench.dead = []
        for _ in range(80):
            bench.hook.step()
            now += 0.1

    play(bench, main)
    assert ticked == [1000.0, 1000.9, 1001.8, 1002.7, 1006.3, 1009.9]
    assert [record.message for record in log.records] == ["a tick of the hook failed"]


def test_close_ends_what_was_begun() -> None:
    """An action that runs ends with the hook, and is not counted."""
    bench = Bench()
    bench.outcomes["tcpok"] = Outcome(True, "hang")

    async def main() -> None:
        await bench.whole()
        assert bench.ran == ["tcpok"]
        await bench.hook.close()

    play(bench, main)
    assert bench.hook.record.runs == {}


# --- on the simulated qmail


class Relay(World):
    """A world in which one host takes the mail of all domains."""

    def __init__(self) -> None:
        super().__init__()
        self.domains = [Domain(f"d{number}.example", 1.0, "192.0.2.1", "accept") for number in range(30)]
        self._by_name = {domain.name.encode(): domain for domain in self.domains}


class Simulation:
    """A qmail that sends mail into a world, and a hook that reads its log."""

    def __init__(self, home: Path, *, hooked: bool = True, world: World) -> None:
        self.clock = Clock(NOW)
        self.world = world
        self.reached: dict[str, list[float]] = {}
        self.waits: list[tuple[float, asyncio.Future[None]]] = []
        self._open: dict[int, tuple[str, float, str]] = {}
        self.qmail = Qmail(
            home,
            clock=self.clock,
            respond=self.world.respond,
            log=self.line,
            stamp_files=True,
            concurrency={"local": 10, "remote": 500},  # so that nothing waits for hosts that stay away
        )
        self._sent = 0
        self.hook = Hook(
            "default",
            HookConfig(tcpok=True, redeliver=True),
            {"tcpok": self.tcpok, "redeliver": self.redeliver} if hooked else {},
            table=self.table,
            ports=lambda: relay_ports(()),
            clock=self.clock,
            connect=self.connect,
        )

    def line(self, text: bytes) -> None:
        """Take a line of qmail-send's log, as the exporter does."""
        record = parse(text, self.clock.now)
        if isinstance(record, Starting):
            self._open[record.delivery] = domain(record.recipient), record.time, record.channel
        elif isinstance(record, Delivery):
            name, began, channel = self._open.pop(record.delivery)
            if channel != "remote":
                return
            why = "" if record.result == "success" else reason(record.report)
            took = record.time - began
            self.hook.on_delivery(name, record.report, record.result, why, record.time, took)
            host = host_of(record.report)
            if host and (record.result == "success" or answered(record.report)):
                self.reached.setdefault(host, []).append(began)

    def table(self) -> Table:
        """Read tcpto."""
        return parse_tcpto(Path(self.qmail.host.tcpto).read_bytes())

    def dead(self) -> set[str]:
        """Return the hosts that qmail passes over."""
        return {host.address for host in passed_over(self.table(), self.clock.now)}

    async def tcpok(self) -> Outcome:
        """Empty tcpto."""
        self.qmail.tcpok()
        return Outcome(True, "")

    async def redeliver(self) -> Outcome:
        """Make every message due."""
        self.qmail.alarm()
        return Outcome(True, "")

    async def connect(self, target: Target, pace: Pace, answer: Callable[[bool], None]) -> None:
        """Probe a host of the world: as a connection without repeated packets, which takes a fifth of a second."""
        place = next(place for place in self.world.domains if place.host == target.host)
        out = self.world._is_out(place, self.clock.now) or place.behaviour in {"hole", "refused"}
        future = asyncio.get_running_loop().create_future()
        self.waits.append((self.clock.now + (pace.timeout if out else 0.2), future))
        await future
        answer(not out)

    async def play(self, seconds: int, *, every: int = 1) -> None:
        """Go on, a second at a time, with a message every so many seconds."""
        for second in range(seconds):
            if second % every == 0:
                self._sent += 1
                run(
                    self.qmail.inject(
                        b"a@mail.test", [b"u%d@%b" % (self._sent, self.world.pick().name.encode())]
                    )
                )
            self.qmail.run_until(self.clock.now + 1)
            for until, future in self.waits:
                if until <= self.clock.now and not future.done():
                    future.set_result(None)
            self.waits = [wait for wait in self.waits if not wait[1].done()]
            await asyncio.sleep(0)
            self.hook.tick()
            for _ in range(6):
                await asyncio.sleep(0)


OUT = 1200


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Callable[..., Simulation]]:
    made: list[Simulation] = []

    def make(**given: Any) -> Simulation:
        made.append(Simulation(tmp_path / f"q{len(made)}", **given))
        made[-1].qmail.start()
        return made[-1]

    yield make
    for simulation in made:
        simulation.qmail.kill()


async def wait_for_hosts(played: Simulation, share: float, seconds: int) -> list[float]:
    """Have an outage, and return for each host that was given up how long after its end the next delivery to it was."""
    await played.play(200)
    begin = played.clock.now
    played.world.set_outage(begin, begin + OUT, share)
    await played.play(OUT, every=3)
    back = played.clock.now
    before = [
        p for p in played.world.domains if p.behaviour == "accept" and played.world._is_out(p, back - 1)
    ]
    dead = {place.host for place in before} & played.dead()
    assert len(dead) >= (5 if share == 1 else 3) or dead == {"192.0.2.1"}
    await played.play(seconds, every=20)
    times = ([time - back for time in played.reached.get(host, []) if time >= back] for host in dead)
    return sorted(min(waits, default=float("inf")) for waits in times)


@pytest.mark.parametrize(
    ("world", "share"),
    [(World(0), 1.0), (World(1), 1.0), (World(2), 0.5), (World(3), 0.5), (Relay(), 1.0)],
    ids=["all out", "all out, again", "half out", "half out, again", "the only relay out"],
)
def test_hosts_get_their_mail_soon(
    simulate: Callable[..., Simulation],
    world: World,
    share: float,
    request: pytest.FixtureRequest,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """With default settings, every host that was given up is delivered to within 15 s of the network's return.

    That is, if qmail has a delivery free for it: all that waits is due at once, also what will time out again.
    """
    played = simulate(world=world)

    async def main() -> list[float]:
        waits = await wait_for_hosts(played, share, 60)
        await played.hook.close()
        return waits

    waits = asyncio.run(main())
    record_testsuite_property(f"seconds to the next delivery: {request.node.callspec.id}", waits[-1])
    assert waits[-1] <= 15
    assert played.hook.record.runs == {("tcpok", "ok"): 1, ("redeliver", "ok"): 1}
    assert played.hook.record.outages == 1


@pytest.mark.slow
def test_without_the_hook(
    simulate: Callable[..., Simulation], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Left alone, qmail delivers to hosts that it had given up an hour later, or more."""
    played = simulate(hooked=False, world=World(1))

    async def main() -> list[float]:
        waits = await wait_for_hosts(played, 1.0, 9000)
        await played.hook.close()
        return waits

    waits = asyncio.run(main())
    record_testsuite_property("seconds to the next delivery: no hook", f"{waits[0]} to {waits[-1]}")
    assert waits[0] > 1200
    assert waits[-1] > 3600
    assert played.hook.record.skipped == {"no_action": 1}


def test_probes_of_a_real_host() -> None:
    """A host that drops what comes, then takes connections: real probes of it end the outage."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        bench = Bench(connect=probe, pace=Pace(timeout=0.2, greeting=0.01))
        bench.dead = ["127.0.0.1"]
        bench.hook._ports = lambda: {"": (25,), "127.0.0.1": (port,)}

        async def main() -> None:
            await bench.outage()
            for _ in range(10):
                await bench.play(1)
                await asyncio.sleep(0.05)
            assert bench.hook.state is State.OUTAGE
            for filler in fillers:
                filler.close()
            listener.setblocking(False)
            while not bench.ran or bench.hook._machine.running:
                with suppress(BlockingIOError):
                    listener.accept()[0].close()
                await bench.play(1)
                await asyncio.sleep(0.01)

        play(bench, lambda: asyncio.wait_for(main(), 20))
    assert bench.ran == ["tcpok", "redeliver"]


def test_config_defaults() -> None:
    """Nothing is done unless it is asked for; probes are on for when something is."""
    config = HookConfig()
    assert (config.tcpok, config.redeliver, config.command, config.dry_run) == (False, False, (), False)
    assert config.probe
    assert replace(config, cooldown=1).cooldown == 1
