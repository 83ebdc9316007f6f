"""`qmail-exporter demo`: the exporter at work on a simulated qmail, in one process."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from qmail_exporter.config import Config, LogSpec, QueueSpec
from qmail_exporter.daemon import Daemon
from qmail_exporter.demo.scenario import Scenario
from qmail_exporter.web import server

TICK = 0.1
"""Seconds between two steps of the simulation."""


async def run(*, home: Path, listen: Sequence[str], rate: float, duration: float, seed: int) -> None:
    """Play the scenario in `home` and serve its metrics; for `duration` seconds, or until SIGINT or SIGTERM if 0.

    Raises:
        server.ListenError: an address cannot be listened on.
    """
    sockets = server.listen(listen)
    addresses = [f"http://{server.address(sock)}" for sock in sockets]
    click.echo("Making a queue with a week behind it …")
    scenario = Scenario(home, home / "log", seed=seed, rate=rate)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if duration:
        loop.call_later(duration, stop.set)
    config = Config(
        home=home,
        queues=(QueueSpec("default", home / "queue"),),
        logs=(LogSpec(None, str(home / "log")),),
    )
    daemon = Daemon(config)
    playing = asyncio.create_task(_play(scenario))
    click.echo("\n".join(_program(scenario, addresses, home)))
    try:
        await daemon.serve(sockets, stop)
    finally:
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing
        scenario.close()


async def _play(scenario: Scenario) -> None:
    while True:
        scenario.tick(time.time())
        await asyncio.sleep(TICK)


def _program(scenario: Scenario, addresses: Sequence[str], home: Path) -> list[str]:
    return [
        f"A simulated qmail lives in {home}.  Look at:",
        *(f"  {address}/, the status page, and {address}/metrics" for address in addresses),
        f"  {home}/log/current, its log, and {home}/queue, its queue",
        "What happens:",
        *(f"  {line}" for line in scenario.describe()),
        "Ctrl-C ends it.",
    ]
