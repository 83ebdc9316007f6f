"""Scripts played through a simulated host each, several at a time, without waiting for the clock."""

import asyncio
import logging
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from incidents.script import Script
from incidents.scripts import SCRIPTS

_SHM = "/dev/shm"  # noqa: S108 - whoever can write there is who runs the tests
_ROOM = 1 << 30


def recordings(scripts: Sequence[Script], until: int | None = None) -> dict[str, list[bytes | None]]:
    """Return by name what a scrape gets each minute of the scripts, and of each no more than `until` minutes."""
    longest = sorted(
        scripts, key=lambda script: "newsletter" not in script.name
    )  # so that none is left to the end
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        names = [script.name for script in longest]
        return dict(zip(names, pool.map(partial(_record, until=until), names), strict=True))


def _record(name: str, until: int | None) -> list[bytes | None]:
    logging.disable()  # an exporter in an incident has much to say
    (script,) = (script for script in SCRIPTS if script.name == name)
    roomy = os.path.isdir(_SHM) and shutil.disk_usage(_SHM).free > _ROOM
    with TemporaryDirectory(prefix="qmail-exporter-incident-", dir=_SHM if roomy else None) as directory:
        return asyncio.run(script.play(Path(directory), until))
