import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from qmail_exporter.cli import main
from qmail_exporter.flags import shells

SHELLS = ["bash", "zsh", "fish"]
_PATIENCE = 60.0
# Answers a completion as the program does; else it writes its words, one a line, and ends them with a dot.
_PROGRAM = """#!/bin/sh
[ -n "$_QMAIL_EXPORTER_COMPLETE" ] && exec {python} -m qmail_exporter
printf '%s\\n' "$@" . >{words}.new && mv {words}.new {words}
"""


# A shell wants a terminal that is its session's.
_IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A shell with the completion script, and somebody who types into it."""

    def __init__(self, shell: str, home: Path) -> None:
        self.words = home / "words"
        program = home / "bin" / "qmail-exporter"
        program.parent.mkdir()
        program.write_text(
            _PROGRAM.format(python=shlex.quote(sys.executable), words=shlex.quote(str(self.words)))
        )
        program.chmod(0o755)
        (home / "script").write_text(shells.script(main, shell))
        (home / ".zshrc").write_text(f"PS1='$ '; autoload -Uz compinit; compinit -u; source {home}/script\n")
        (home / "bashrc").write_text(f"PS1='$ '; source {home}/script\n")
        argv = {
            "bash": ["bash", "--noprofile", "--rcfile", str(home / "bashrc"), "-i"],
            "zsh": ["zsh", "-i"],
            "fish": ["fish", "--no-config", "--init-command", f"source {home}/script", "-i"],
        }[shell]
        environment = {
            "HOME": str(home),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "TERM": "dumb" if shell != "fish" else "xterm",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "XDG_CONFIG_HOME": str(home),
            "XDG_DATA_HOME": str(home),
            "LC_ALL": "C.UTF-8",
        }
        ours, theirs = pty.openpty()
        self._fd = ours
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = b""

    def type(self, text: str) -> list[str]:
        """Type a line; returns the words with which the program is called."""
        self.words.unlink(missing_ok=True)
        os.write(self._fd, text.encode() + b"\r")
        end = time.monotonic() + _PATIENCE
        while not self.words.exists():
            assert time.monotonic() < end, self.seen.decode(errors="replace")
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._fd, 4096)
                except OSError:
                    pytest.fail(f"the shell has ended: {self.seen!r}")
        return self.words.read_text().split("\n")[:-2]

    def close(self) -> None:
        """End the shell."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._fd)


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    opened = Terminal(request.param, tmp_path)
    yield opened
    opened.close()


@pytest.mark.slow
def test_completion_in_a_real_shell(terminal: Terminal, tmp_path: Path) -> None:
    """Commands, dotted flags, choices after a space or an equals sign, and paths are completed where they are typed."""
    (tmp_path / "somewhere" / "below").mkdir(parents=True)
    (tmp_path / "somefile").touch()
    for typed, words in {
        "ser\t": ["serve"],
        "routes sug\t": ["routes", "suggest"],
        "serve --web.max\t7": ["serve", "--web.max-requests", "7"],
        "serve --log.level de\t": ["serve", "--log.level", "debug"],
        "serve --log.level=de\t": ["serve", "--log.level=debug"],
        "serve --log.level=debug --log.format=j\t": ["serve", "--log.level=debug", "--log.format=json"],
        "serve --qmail.home somew\tbel\t": ["serve", "--qmail.home", "somewhere/below"],
        "serve --qmail.home=somew\tbel\t": ["serve", "--qmail.home=somewhere/below"],
        "serve --qmail.queue=in=somew\t": ["serve", "--qmail.queue=in=somewhere"],
        "serve --qmail.log=somef\t": ["serve", "--qmail.log=somefile"],
        "completion fi\t": ["completion", "fish"],
    }.items():
        assert [word.rstrip("/") for word in terminal.type(f"qmail-exporter {typed}")] == words
