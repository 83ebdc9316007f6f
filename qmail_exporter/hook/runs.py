"""The ways to run an action: here, through a socket unit, as a command. Each is cancellable, and may be tried again.

A socket unit serves what the exporter's user may not do. The exporter connects to a Unix socket and sends nothing; systemd
starts the unit's service (`Accept=yes`, `StandardOutput=socket`), which writes what it has to say, then a last line with its exit
status in decimal, and ends. So the whole service can be

    ExecStart=/bin/sh -c '/var/qmail/bin/qmail-tcpok 2>&1; echo $$?'

An answer that ends in anything else is a failure: of the unit, or of whoever sits at the other end.
"""

import asyncio
import errno
import os
import re
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

_LONGEST = 4096
_TOLD = 200
_REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_STATUS = re.compile(rb"(?:(?P<text>.*)\n)?(?P<status>[0-9]{1,3})\n", re.DOTALL)


class Outcome(NamedTuple):
    """How an action went: whether it was done, and what there is to say."""

    ok: bool
    text: str


Action = Callable[[], Awaitable[Outcome]]
"""Does it, once. What it raises is a failure, too."""


def here(function: Callable[[], object]) -> Action:
    """Call a function in a thread; it is done if it returns.

    A thread cannot be ended. So the function should have a time limit of its own; while it runs on after a cancelled call,
    further calls fail.
    """
    call: asyncio.Future[object] | None = None

    async def run() -> Outcome:
        nonlocal call
        if call is not None and not call.done():
            return Outcome(False, "the last attempt has not ended yet")
        call = asyncio.get_running_loop().run_in_executor(None, function)
        call.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Outcome(True, str(await asyncio.shield(call)))

    return run


def first_allowed(direct: Action, otherwise: Action) -> Action:
    """Run `direct`; where this user may not do that, `otherwise`."""

    async def run() -> Outcome:
        try:
            return await direct()
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            refusal = error
        try:
            return await otherwise()
        except OSError as error:
            return Outcome(False, f"{refusal.strerror}; and {error}")

    return run


def socket_unit(path: str) -> Action:
    """Have the unit that listens on the Unix socket `path` do it."""

    async def run() -> Outcome:
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise OSError(error.errno, f"no socket unit at {path}: {os.strerror(error.errno or 0)}") from None
        try:
            return read_answer(await _read(reader))
        finally:
            writer.close()

    return run


def read_answer(answer: bytes) -> Outcome:
    """Read what a socket unit wrote."""
    if len(answer) > _LONGEST:
        return Outcome(False, "the socket unit says too much")
    found = _STATUS.fullmatch(answer)
    if found is None or int(found["status"]) > 255:
        return Outcome(False, f"the socket unit gave no exit status: {_excerpt(answer)}")
    status = int(found["status"])
    return Outcome(status == 0, f"status {status}: {_excerpt(found['text'] or b'')}".removesuffix(": "))


def parse_command(text: str) -> tuple[str, ...]:
    """Return the words of a command, as a shell would take them apart; it is run without one.

    Raises:
        ValueError: a quotation does not end, there is no word, or a word that no program can be given.
    """
    if "\0" in text:
        raise ValueError("the command has a NUL in it")
    words = tuple(shlex.split(text))
    if not words or not words[0]:
        raise ValueError("the command is empty")
    return words


def command(argv: Sequence[str], environment: Mapping[str, str]) -> Action:
    """Run a program, with no input; it is done if it exits 0. If cancelled, it is killed with all of its process group."""

    async def run() -> Outcome:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            said, status = await _ended(process)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(_ended(process), 1)
        return Outcome(status == 0, f"status {status}: {_excerpt(said)}".removesuffix(": "))

    return run


async def _ended(process: asyncio.subprocess.Process) -> tuple[bytes, int]:
    """Wait until a program has ended and closed its output, or the pipe would outlive it; return that and the exit status."""
    said = await _read(process.stdout or asyncio.StreamReader(), end=False)
    return said, await process.wait()


async def _read(reader: asyncio.StreamReader, *, end: bool = True) -> bytes:
    """Read to the end and return a little more than the longest answer at most; with `end`, stop there."""
    said = b""
    while more := await reader.read(_LONGEST):
        said += more[: _LONGEST + 1 - len(said)]
        if end and len(said) > _LONGEST:
            break
    return said


def _excerpt(said: bytes) -> str:
    return said[-_TOLD:].decode("utf-8", "replace").strip()
