"""The loop: ticks, steps, descriptors, and what ends it and what does not."""

import asyncio
import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from qmail_exporter import daemon, rhythm
from qmail_exporter.collect import Collection, QueueWatch, directory
from qmail_exporter.config import Config, HookConfig, LogSpec, QueueSpec
from qmail_exporter.daemon import Daemon
from qmail_exporter.hook import Hook
from qmail_exporter.web import server
from rig import Rig
from soak.held import open_descriptors

MakeRig = Callable[..., Rig]


def config(made: Rig, **given: Any) -> Config:
    """Return a configuration for a rig's queue and log, that ticks fast."""
    settings: dict[str, Any] = {
        "home": made.home,
        "queues": (QueueSpec("default", made.queue),),
        "logs": (LogSpec(None, str(made.home / "log")),),
        "tick": 0.01,
    }
    return Config(**{**settings, **given})


async def serving(running: Daemon, talk: Callable[[str], Awaitable[None]]) -> None:
    """Run a daemon on loopback while `talk` is called with its URL."""
    stop = asyncio.Event()
    (sock,) = server.listen(["127.0.0.1:0"])
    url = f"http://{server.address(sock)}"
    task = asyncio.create_task(running.serve([sock], stop))
    try:
        await asyncio.wait_for(talk(url), 60)
    finally:
        stop.set()
        await task


async def get(url: str) -> tuple[int, str]:
    """Return status and body of a page."""

    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - a URL of the test
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def until(what: Callable[[], object]) -> None:
    """Let the loop go on until that is true."""
    while not what():  # noqa: ASYNC110 - what is waited for is no event of asyncio
        await asyncio.sleep(0.001)


def test_ready_comes_with_the_first_scan(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """/-/ready is 503 until the queue is scanned and its log read back, and 200 from then on; /-/healthy always."""
    made = rig()
    made.send(b"defer@x.example")
    held = [True]
    step = Collection.step
    monkeypatch.setattr(Collection, "step", lambda self: False if held else step(self))
    running = Daemon(config(made))

    async def talk(url: str) -> None:
        assert (await get(url + "/-/healthy"))[0] == 200
        assert (await get(url + "/-/ready"))[0] == 503
        assert "being scanned" in (await get(url + "/"))[1]
        held.clear()
        await until(lambda: running.collection.ready)
        assert (await get(url + "/-/ready"))[0] == 200
        assert "<dt>Messages</dt><dd>1<" in (await get(url + "/"))[1]
        assert "qmail_queue_messages" in (await get(url + "/metrics"))[1]

    asyncio.run(serving(running, talk))


def test_failing_ticks_and_steps_do_not_end_it(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in a tick or a step is logged, and the next one is tried."""
    made = rig()
    faults = ["tick", "tick", "step", "step"]
    for name in ("tick", "step"):
        monkeypatch.setattr(Collection, name, _faulty(name, faults, getattr(Collection, name)))
    running = Daemon(config(made))

    async def talk(url: str) -> None:
        await until(lambda: running.collection.ready)
        assert (await get(url + "/metrics"))[0] == 200

    asyncio.run(serving(running, talk))
    assert not faults
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert sorted(told) == ["a step failed"] * 2 + ["a tick failed"] * 2


def _faulty(name: str, faults: list[str], whole: Callable[[Collection], Any]) -> Callable[[Collection], Any]:
    """Return a method that fails as often as its name is among the faults."""

    def faulty(self: Collection) -> Any:
        if name in faults:
            faults.remove(name)
            raise RuntimeError(name)
        return whole(self)

    return faulty


def _more(watch: QueueWatch, events: int) -> bool:
    return watch.events > events


def _renewed(collection: Collection, renewals: int) -> bool:
    return collection.queues[0].renewals > renewals and collection.ready and not collection.busy


def test_a_scrape_waits_for_few_steps(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is long work without an end, a scrape is answered within two or three of its steps."""
    steps = [0]

    def step(self: Collection) -> bool:  # noqa: ARG001 - stands for the method
        steps[0] += 1
        return True

    async def talk(url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        await until(lambda: steps[0])
        reader, writer = await asyncio.open_connection(host, int(port))
        waited = []
        for _ in range(5):
            before = steps[0]
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            waited.append(steps[0] - before)
        writer.close()
        assert min(waited) <= 3, waited

    monkeypatch.setattr(Collection, "busy", property(lambda _: True))
    monkeypatch.setattr(Collection, "step", step)
    asyncio.run(serving(Daemon(config(rig())), talk))


def test_events_are_drained_between_ticks(rig: MakeRig) -> None:
    """Events are read soon after they come, without a tick or a scrape, so that the kernel's queue stays short."""
    made = rig()
    running = Daemon(config(made, tick=3600.0))

    async def talk(_url: str) -> None:
        await until(lambda: running.collection.queues[0].watched)
        for _ in range(3):
            before = running.collection.queues[0].events
            made.send(b"defer@x.example")
            await until(partial(_more, running.collection.queues[0], before))

    asyncio.run(serving(running, talk))


@pytest.mark.parametrize("act", ["event", "line"])
def test_news_end_a_calm(rig: MakeRig, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """Where nothing happens for a while, ticks stay out until there is an event, or a line of which no event tells."""
    monkeypatch.setattr(rhythm, "CALM", 0.0)
    monkeypatch.setattr(rhythm, "SELDOM", 3600.0)
    made = rig()
    running = Daemon(config(made))

    async def talk(_url: str) -> None:
        collection = running.collection
        await until(lambda: collection.steady and running._drain.next_tick > monotonic() + 60)
        queue, lines = collection.queues[0].queue, collection.queues[0].flow.traffic.lines
        before = sum(lines.values())
        if act == "event":
            made.send(b"defer@x.example")
            await until(lambda: len(queue) == 1)
        else:
            made.log(b"status: local 1/10 remote 2/20")
            await until(lambda: sum(lines.values()) == before + 1)

    asyncio.run(serving(running, talk))


def test_no_calm_while_a_hook_has_something_to_do(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little happens in the queue, ticks go on for a hook in an outage, or while hosts are passed over."""
    running = Daemon(config(rig()))

    async def talk(_url: str) -> None:
        await until(running._steady)
        monkeypatch.setattr(Hook, "quiet", False)
        assert not running._steady()

    asyncio.run(serving(running, talk))


def test_scrape_that_reads_first_ends_a_calm(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scrape finds in a calm is gone on with at once, as nothing tells of it any more."""
    running = Daemon(config(rig()))
    running._rhythm.calm = True
    made = running.collection

    async def main() -> None:
        await running._refresh()
        assert not running._news.is_set()
        monkeypatch.setattr(made, "refresh", lambda _: setattr(made.queues[0], "events", 1))
        await running._refresh()
        await asyncio.wait_for(running._sleep(monotonic(), 3600.0), 10)

    asyncio.run(main())


def test_news_bring_no_more_ticks_than_mail(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often there is news, ticks come no faster than they do where they do not come seldom."""
    running = Daemon(config(rig(), tick=1800.0))
    running._rhythm.calm = True
    slept: list[float] = []

    async def note(seconds: float) -> None:
        slept.append(seconds)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(running._news.set)
        await running._sleep(monotonic(), 3600.0)

    monkeypatch.setattr(asyncio, "sleep", note)
    asyncio.run(main())
    assert 1700 < slept[0] <= 1800


def _held() -> tuple[int, int]:
    """Return how many descriptors and tasks there are."""
    return len(open_descriptors()), len(asyncio.all_tasks())


def _hold_no_more(found: list[tuple[int, int]]) -> bool:
    """Tell whether there are no more descriptors, and no more tasks, than there were at most."""
    return all(now <= max(before) for now, before in zip(_held(), zip(*found, strict=True), strict=True))


def test_reopened_queues_leak_nothing_and_stay_watched(
    rig: MakeRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a queue goes and comes, descriptors and tasks stay as many, connections are answered, and events still come."""
    monkeypatch.setattr(directory, "PATIENCE", 0.0)
    made = rig()
    made.send(b"defer@x.example")
    running = Daemon(config(made))

    async def talk(url: str) -> None:
        await until(lambda: running.collection.ready and not running.collection.busy)
        await get(url + "/metrics")
        watch = running.collection.queues[0]
        found: list[tuple[int, int]] = []
        for turn in range(8):
            renewals = watch.renewals
            os.rename(made.queue, tmp_path / "aside")
            shutil.copytree(tmp_path / "aside", made.queue, ignore=shutil.ignore_patterns("lock"))
            shutil.rmtree(tmp_path / "aside")
            await until(partial(_renewed, running.collection, renewals))
            assert (await get(url + "/metrics"))[0] == 200
            if turn < 2:
                found.append(_held())
            else:  # what the last connection held may go a moment later
                await until(partial(_hold_no_more, found))
        running.config = config(made, tick=3600.0)
        events = watch.events
        (made.queue / "bounce" / "7").touch()
        await until(lambda: watch.events > events)

    asyncio.run(serving(running, talk))


def test_home_that_turns_out_to_be_indimails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was there at the start and several queues appear, each is shown, and so is their log."""
    monkeypatch.setattr(daemon, "DISCOVER", 0.0)
    monkeypatch.setattr(directory, "PATIENCE", 0.0)
    home = tmp_path / "indimail"
    running = Daemon(Config(home=home, tick=0.01))
    assert [watch.name for watch in running.collection.queues] == ["default"]
    with (
        Rig(home, start=False, queue="queue1") as one,
        Rig(home, start=False, queue="queue2", log=one.log) as two,
    ):
        one.send(b"x@y.example")
        two.send(b"x@y.example")

        async def talk(url: str) -> None:
            await until(lambda: len(running.collection.queues) == 2 and running.collection.ready)
            body = (await get(url + "/metrics"))[1]
            for name in ("queue1", "queue2"):
                assert f'qmail_queue_messages{{queue="{name}"}} 1.0' in body
            assert running.collection.logs

        asyncio.run(serving(running, talk))


def test_absent_queue_has_its_page(tmp_path: Path) -> None:
    """The status page says what is not there, with its path and the reason."""
    running = Daemon(Config(home=tmp_path / "<none>"))

    async def talk(url: str) -> None:
        body = (await get(url + "/"))[1]
        assert "The queue directory cannot be opened" in body
        assert f"{tmp_path}/&lt;none&gt;/queue" in body
        assert "No such file or directory" in body
        assert "<none>" not in body

    asyncio.run(serving(running, talk))


def test_page_answers_without_time_to_look(rig: MakeRig) -> None:
    """The status page is there even where there is no time for a look at what has changed, and says what is left."""
    made = rig()
    running = Daemon(config(made, scrape_budget=0.0, tick=3600.0))

    async def talk(url: str) -> None:
        await until(lambda: running.collection.ready and not running.collection.busy)
        for _ in range(5):
            made.send(b"defer@x.example")
        status, body = await get(url + "/")
        assert status == 200
        assert "still to be looked at" in body

    asyncio.run(serving(running, talk))


def test_indimail_keeps_its_controls_in_etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without control directory takes /etc/indimail/control if there is one."""
    assert daemon._control(tmp_path) == str(tmp_path / "control")
    monkeypatch.setattr(Path, "is_dir", lambda path: str(path) == "/etc/indimail/control")
    assert daemon._control(tmp_path) == "/etc/indimail/control"


def test_systemd_without_sockets_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --web.systemd-socket and no socket passed it says what to do."""
    for name in ("LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match="socket unit"):
        asyncio.run(daemon.run(Config(listen=(), systemd_socket=True)))


def test_run_ends_with_zero(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` takes signals and returns the exit status."""

    async def ended(_: Daemon, sockets: list[socket.socket], stop: asyncio.Event) -> None:
        for sock in sockets:
            sock.close()
        os.kill(os.getpid(), 1)
        os.kill(os.getpid(), 15)
        await stop.wait()

    monkeypatch.setattr(Daemon, "serve", ended)
    assert asyncio.run(daemon.run(config(rig(), listen=("127.0.0.1:0",)))) == 0


def test_hooks_hear_of_deliveries_and_are_shown(rig: MakeRig) -> None:
    """Each queue has a hook that is told of every remote delivery, and its state and doings are metrics."""
    made = rig()
    made.send(b"ok@x.example", b"defer@y.example", b"joe")
    running = Daemon(config(made, hook=HookConfig(tcpok=True, probe=False)))
    heard: list[tuple[Any, ...]] = []
    running.collection.queues[0].flow.on_delivery = lambda *told: heard.append(told)

    async def talk(url: str) -> None:
        made.qmail.pump()
        await until(lambda: running.collection.ready)
        made.send(b"fail@z.example")
        made.qmail.pump()
        shown = (await get(url + "/metrics"))[1]
        assert 'qmail_outage_state{queue="default",state="clear"} 1.0' in shown
        assert 'qmail_hook_runs_total{action="tcpok",queue="default",result="ok"} 0.0' in shown
        assert 'qmail_hook_skipped_total{queue="default",reason="cooldown"} 0.0' in shown
        assert 'qmail_outages_total{queue="default"} 0.0' in shown
        assert "qmail_double_bounces_total{" not in shown

    asyncio.run(serving(running, talk))
    assert [(domain, result, why) for domain, _, result, why, _, _ in heard] == [
        ("x.example", "success", ""),
        ("y.example", "deferral", "greylist"),
        ("z.example", "failure", "no_such_user"),
    ]


def test_double_bounces_are_counted(rig: MakeRig, tmp_path: Path) -> None:
    """The log of double bounces is followed for its queue, and shown by domain once it is there."""
    made = rig()
    log = tmp_path / "double-bounces"
    running = Daemon(config(made, double_bounces=LogSpec(None, str(log))))

    async def talk(url: str) -> None:
        assert "qmail_double_bounces_total{" not in (await get(url + "/metrics"))[1]
        log.write_bytes(
            b"2027-01-15 08:00:00 double bounce: from <s@mail.test> to <a@x.example>: No such user.\n"
        )
        shown = (await get(url + "/metrics"))[1]
        assert 'qmail_double_bounces_total{domain="x.example",queue="default"} 1.0' in shown
        assert 'qmail_double_bounce_duplicates_total{queue="default"} 0.0' in shown

    asyncio.run(serving(running, talk))
