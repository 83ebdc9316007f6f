import asyncio
import gc
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.hook.runs import (
    Action,
    Outcome,
    command,
    first_allowed,
    here,
    parse_command,
    read_answer,
    socket_unit,
)


def run(action: Action, timeout: float = 10) -> Outcome:
    """Run an action in a loop of its own."""

    async def main() -> Outcome:
        return await asyncio.wait_for(action(), timeout)

    return asyncio.run(main())


def told(text: str, *, ok: bool = True) -> Action:
    """Make an action that has one outcome."""

    async def act() -> Outcome:
        return Outcome(ok, text)

    return act


def raising(error: Exception) -> Action:
    """Make an action that fails."""

    async def act() -> Outcome:
        raise error

    return act


# --- here


def test_function() -> None:
    """A function that returns has done it; one that raises has not."""
    assert run(here(lambda: 12)) == Outcome(True, "12")

    def fail() -> None:
        raise PermissionError(13, "no")

    with pytest.raises(PermissionError):
        run(here(fail))


def test_function_that_does_not_end() -> None:
    """A function that outlasts its time is not called a second time beside the first, but after it."""
    may_end, calls = threading.Event(), []

    def wait() -> str:
        calls.append(1)
        may_end.wait(10)
        return "done"

    async def main() -> list[Outcome]:
        action = here(wait)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(action(), 0.05)
        second = await action()
        may_end.set()
        while True:
            third = await action()
            if third.ok:
                return [second, third]
            await asyncio.sleep(0.001)

    assert asyncio.run(main()) == [
        Outcome(False, "the last attempt has not ended yet"),
        Outcome(True, "done"),
    ]
    assert len(calls) == 2


@pytest.mark.parametrize("code", [1, 13, 30])
def test_what_may_not_be_done_here_is_done_otherwise(code: int) -> None:
    """EPERM, EACCES and a read-only file system are reasons to ask the socket unit."""
    assert run(first_allowed(raising(OSError(code, "no")), told("by the unit"))) == Outcome(
        True, "by the unit"
    )


def test_other_failures_stay() -> None:
    """Other errors are failures, and the unit is not asked; if it is not there either, both are told."""
    with pytest.raises(FileNotFoundError):
        run(first_allowed(raising(FileNotFoundError(2, "gone")), told("never")))
    both = run(first_allowed(raising(PermissionError(13, "no")), raising(OSError(2, "no unit"))))
    assert both == Outcome(False, "no; and [Errno 2] no unit")
    assert run(first_allowed(told("here"), told("never"))) == Outcome(True, "here")


# --- socket units


def serve(
    path: Path, answer: bytes, *, end: bool = True
) -> Callable[[Callable[[], Awaitable[Outcome]]], Outcome]:
    """Serve as a socket unit does: write the answer and close; return how to run an action meanwhile."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(answer)
            await writer.drain()
            if not end:
                await asyncio.sleep(3600)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def main(action: Action) -> Outcome:
        server = await asyncio.start_unix_server(handle, str(path))
        try:
            return await asyncio.wait_for(action(), 10 if end else 0.2)
        finally:
            server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    return lambda action: asyncio.run(main(action))


@pytest.mark.parametrize(
    ("answer", "ok", "text"),
    [
        (b"0\n", True, "status 0"),
        (b"12 hosts were in the table\n0\n", True, "status 0: 12 hosts were in the table"),
        (b"fatal: no\nfor a reason\n111\n", False, "status 111: fatal: no\nfor a reason"),
        (b"", False, "the socket unit gave no exit status: "),
        (b"0", False, "the socket unit gave no exit status: 0"),
        (b"done\n", False, "the socket unit gave no exit status: done"),
        (b"256\n", False, "the socket unit gave no exit status: 256"),
        (b"-1\n", False, "the socket unit gave no exit status: -1"),
        (b"0\n\n", False, "the socket unit gave no exit status: 0"),
        (b"\xd9\xa0\n", False, "the socket unit gave no exit status: \N{ARABIC-INDIC DIGIT ZERO}"),
        (b"x" * 5000 + b"\n0\n", False, "the socket unit says too much"),
        (b"x" * 1_000_000, False, "the socket unit says too much"),
    ],
    ids=range(12),
)
def test_answers_of_a_socket_unit(tmp_path: Path, answer: bytes, ok: bool, text: str) -> None:
    """The last line is the exit status, the rest what there is to say; whatever else comes is a failure."""
    assert serve(tmp_path / "s", answer)(socket_unit(str(tmp_path / "s"))) == Outcome(ok, text)


@given(st.binary(max_size=300))
def test_whatever_a_socket_unit_says(answer: bytes) -> None:
    """Any bytes have a meaning, which is bounded text, and only a last line of 0 is success."""
    outcome = read_answer(answer)
    assert len(outcome.text) < 300
    assert outcome.ok == (answer.split(b"\n")[-2:] in ([b"0", b""], [b"00", b""], [b"000", b""]))


def test_socket_unit_that_does_not_end(tmp_path: Path) -> None:
    """Waiting for it can be cancelled."""
    with pytest.raises(asyncio.TimeoutError):
        serve(tmp_path / "s", b"wait\n", end=False)(socket_unit(str(tmp_path / "s")))


def test_no_socket_unit(tmp_path: Path) -> None:
    """A path that is missing, no socket, or that nobody listens on, is an error that names it."""
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
    for name in ("gone", "file", "deaf", "x" * 200):
        with pytest.raises(OSError, match=name):
            run(socket_unit(str(tmp_path / name)))


# --- commands


def script(text: str) -> tuple[str, ...]:
    """Make a command of a Python program."""
    return sys.executable, "-c", text


def test_command() -> None:
    """A program that exits 0 has done it; what it says, on either stream, is told; it knows its queue, and has no input."""
    say = "import os, sys; print(os.environ['HOOK_QUEUE'], repr(sys.stdin.read()), os.getcwd()); sys.stdout.flush()"
    done = run(command(script(say + "; print('err', file=sys.stderr)"), {"HOOK_QUEUE": "q1"}))
    assert done == Outcome(True, "status 0: q1 '' /\nerr")
    assert run(command(script("raise SystemExit(3)"), {})) == Outcome(False, "status 3")
    assert run(command(script("print('x' * 1000000)"), {})).text == "status 0: " + "x" * 200
    assert run(command(script("import os; os.kill(os.getpid(), 9)"), {})) == Outcome(False, "status -9")


def test_missing_command() -> None:
    """A program that is not there is an error."""
    with pytest.raises(FileNotFoundError):
        run(command(("/nonexistent/program",), {}))


def test_command_that_does_not_end() -> None:
    """A cancelled program is killed, with those that it has started."""
    reading, writing = os.pipe()
    child = f"import os, time; os.write({writing}, b'x'); time.sleep(3600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], close_fds=False)"

    async def main() -> None:
        os.set_inheritable(writing, True)
        # The program inherits nothing but its streams; it opens the pipe anew.
        opened = f"import os; os.dup2(os.open('/proc/{os.getpid()}/fd/{writing}', os.O_WRONLY), {writing}); "
        task = asyncio.ensure_future(command(script(opened + parent), {})())
        await asyncio.get_running_loop().run_in_executor(None, os.read, reading, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()  # which warns of a pipe to it that is left open
    os.close(writing)
    # The end of the pipe: nobody holds its other side any more.
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_parse_command() -> None:
    """A command is taken apart as by a shell, and no shell runs it."""
    assert parse_command("prog 'a b' $HOME ; x") == ("prog", "a b", "$HOME", ";", "x")
    for wrong in ("", "   ", "''", "prog 'a", "prog a\0b"):
        with pytest.raises(ValueError, match=r"empty|quotation|NUL"):
            parse_command(wrong)
