"""Makes a large queue, and the log of a qmail-send that has tried every message in it, with all processors.

What the kernel is asked for decides how long a scan takes, so the files are as qmail's are: `mess` by its size, `info`
with a sender, `remote` with one recipient. The blocks of `mess` are a hole, as nobody reads them.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from qmail_exporter.demo.multilog import tai64n

SPLIT = 23
DOMAINS = 100
FIRST = 1_000_000
"""The first message number: of seven digits, as inode numbers are."""
BYTES_A_MESSAGE = 16 * 1024
"""What three files and their names take of a tmpfs, at the most."""
_WEEK = 6 * 86400
_REPORTS = (
    b"Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/",
    b"192.0.2.%d_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisted,_please_try_again/Giving_up_on_192.0.2.%d./",
    b"192.0.2.%d_does_not_like_recipient./Remote_host_said:_452_4.2.2_Mailbox_full/Giving_up_on_192.0.2.%d./",
    b"CNAME_lookup_failed_temporarily._(#4.4.3)/",
)


def fill(queue: Path, messages: int, domains: int = DOMAINS) -> None:
    """Make a queue directory with that many messages of one remote recipient, up to six days old, to so many domains."""
    for area in ("todo", "intd", "bounce", "lock", "pid"):
        (queue / area).mkdir(parents=True)
    for area in ("mess", "info", "local", "remote"):
        for part in range(SPLIT):
            (queue / area / str(part)).mkdir(parents=True)
    (queue / "lock" / "tcpto").write_bytes(bytes(1024))
    now = time.time_ns()
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        list(
            pool.map(
                _fill_parts,
                *zip(
                    *(
                        (queue, messages, domains, now, range(worker, SPLIT, workers))
                        for worker in range(workers)
                    ),
                    strict=True,
                ),
            )
        )


def write_log(path: Path, messages: int) -> int:
    """Write what qmail-send logs when the one attempt at each message is deferred; return the number of lines."""
    begin = time.time()
    lines = 0
    with path.open("wb", buffering=1 << 20) as log:
        for place in range(messages):
            for line in _attempt(place):
                log.write(tai64n(begin + lines / 1e6) + b" " + line + b"\n")
                lines += 1
    return lines


def _attempt(place: int) -> Iterator[bytes]:
    report = _REPORTS[place % DOMAINS % len(_REPORTS)]
    if b"%d" in report:
        report %= (place % DOMAINS, place % DOMAINS)
    yield b"starting delivery %d: msg %d to remote %b" % (place + 1, FIRST + place, _recipient(place))
    yield b"status: local 0/10 remote 1/20"
    yield b"delivery %d: deferral: %b" % (place + 1, report)
    yield b"status: local 0/10 remote 0/20"


def _recipient(place: int, domains: int = DOMAINS) -> bytes:
    return b"user%d@host%d.example" % (place // domains, place % domains)


def _fill_parts(queue: Path, messages: int, domains: int, now: int, parts: range) -> None:
    """Make every message of these directories: two processes in one directory would wait for each other."""
    for part in parts:
        mess, info, remote = (f"{queue}/{area}/{part}/" for area in ("mess", "info", "remote"))
        for number in range(FIRST + (part - FIRST) % SPLIT, FIRST + messages, SPLIT):
            place = number - FIRST
            birth = now - (place * 7919 % messages) * _WEEK * 10**9 // messages
            _make(f"{mess}{number}", b"", birth, size=500 + place % 20000)
            _make(f"{info}{number}", b"Fuser%d@mail.test\0" % (place % 1000), birth)
            _make(f"{remote}{number}", b"T%b\0" % _recipient(place, domains))


def _make(path: str, content: bytes, moment: int | None = None, *, size: int = 0) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    if size:
        os.ftruncate(file, size)
    if content:
        os.write(file, content)
    if moment is not None:
        os.utime(file, ns=(moment, moment))
    os.close(file)
