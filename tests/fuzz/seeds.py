"""Inputs to begin with, out of the recordings of a real qmail."""

import struct
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
_RECORDED = DATA / "recorded"
_EVENT = struct.Struct("iIII")
_MASKS = {"CREATE": 0x100, "DELETE": 0x200, "MODIFY": 0x2, "CLOSE_WRITE": 0x8, "ATTRIB": 0x4}


@cache
def lines() -> tuple[bytes, ...]:
    """Return one line of the recorded logs for each form that there is, with its prefix."""
    found: dict[bytes, bytes] = {}
    for log in (*sorted(_RECORDED.glob("*/log")), _RECORDED / "final.log"):
        for line in log.read_bytes().splitlines():
            text = line.partition(b" ")[2]
            form = text.translate(bytes(48 if 48 <= byte <= 57 else byte for byte in range(256)))
            found.setdefault(form[:40], line)
    return tuple(found.values())


def texts() -> list[bytes]:
    """Return the same lines without their prefixes."""
    return [line.partition(b" ")[2] for line in lines()]


def reports() -> Iterator[bytes]:
    """Yield what recorded deliveries ended with."""
    for text in texts():
        if text.startswith(b"delivery"):
            yield text.split(b": ", 2)[-1]


def datagrams() -> list[bytes]:
    """Return what splogger sent to syslog, with some lines in parts."""
    return (DATA / "splogger-dgrams.raw").read_bytes().splitlines()


def files(*areas: str) -> Iterator[bytes]:
    """Yield what recorded files below these directories of a queue hold, those of 4 KB at most."""
    for archive in sorted(_RECORDED.glob("*/queue.tar.gz")):
        with tarfile.open(archive) as tree:
            for member in tree:
                parts = Path(member.name).parts
                if member.isfile() and member.size <= 4096 and set(areas) & set(parts):
                    file = tree.extractfile(member)
                    assert file is not None
                    yield file.read()


def tcpto() -> Iterator[bytes]:
    """Yield recorded tables of hosts that timed out."""
    for path in sorted(_RECORDED.glob("*/tcpto.bin")):
        yield path.read_bytes()


def events() -> Iterator[bytes]:
    """Yield events as the kernel packs them: a message's coming and going, odd names, an overflow."""
    names = (b"1467090", b"1467090", b"123456789012345678", b"pid", b"", b"x" * 200)
    packed = [
        _EVENT.pack(number + 1, mask, 0, -(-(len(name) + 1) // 16) * 16 if name else 0)
        + (name.ljust(-(-(len(name) + 1) // 16) * 16, b"\0") if name else b"")
        for number, (name, mask) in enumerate(zip(names, (*_MASKS.values(), 0x40000000), strict=True))
    ]
    yield packed[0] * 3
    yield b"".join(packed)
    yield _EVENT.pack(-1, 0x4000, 0, 0)
