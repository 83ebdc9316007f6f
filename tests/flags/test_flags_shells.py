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

import click
import pytest

from qmail_exporter.cli import main
from qmail_exporter.flags import shells
from qmail_exporter.flags.option import Option
from qmail_exporter.flags.page import walk

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
    """A shell with the completion script, sourced or found in its path, and somebody who types into it."""

    def __init__(self, shell: str, home: Path, *, found: bool) -> None:
        self.words = home / "words"
        program = home / "bin" / "qmail-exporter"
        program.parent.mkdir()
        program.write_text(
            _PROGRAM.format(python=shlex.quote(sys.executable), words=shlex.quote(str(self.words)))
        )
        program.chmod(0o755)
        (home / "functions").mkdir()
        script = home / "functions" / "_qmail-exporter"
        script.write_text(shells.script(main, shell))
        setup = "PS1='$ '; autoload -Uz compinit; compinit -u"
        (home / ".zshrc").write_text(
            f"fpath=({home}/functions $fpath); {setup}\n" if found else f"{setup}; source {script}\n"
        )
        (home / "bashrc").write_text(f"PS1='$ '; source {script}\n")
        argv = {
            "bash": ["bash", "--noprofile", "--rcfile", str(home / "bashrc"), "-i"],
            "zsh": ["zsh", "-i"],
            "fish": ["fish", "--no-config", "--init-command", f"source {script}", "-i"],
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


@pytest.fixture(params=["bash", "zsh", "zsh found in fpath", "fish"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    shell, *found = request.param.split(maxsplit=1)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    opened = Terminal(shell, tmp_path, found=bool(found))
    yield opened
    opened.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the script of a shell, and nothing else."""
    with pytest.raises(SystemExit) as ended:
        main(["completion", shell])
    assert ended.value.code == 0
    assert capsys.readouterr() == (shells.script(main, shell), "")


def complete(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[list[str]]:
    """Return what the program answers to a script: a kind, a value and a text each."""
    monkeypatch.setenv("_QMAIL_EXPORTER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMPLETE_LINE", line)
    with pytest.raises(SystemExit):
        main(prog_name=shells.PROGRAM)
    return [answer.split("\t") for answer in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "command", [pytest.param(words, id=words) for words, _ in walk(main, shells.PROGRAM)]
)
def test_every_flag_is_completed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each flag of each command is offered, with a text, and so are its choices and its --no-."""
    params = dict(walk(main, shells.PROGRAM))[command].params
    answers = {value: text for _, value, text in complete(f"{command} --", monkeypatch, capsys)[1:]}
    for option in (param for param in params if isinstance(param, Option)):
        assert {*option.opts, *option.secondary_opts} <= answers.keys()
        assert answers[option.opts[0]]
        if isinstance(option.type, click.Choice):
            values = complete(f"{command} {option.opts[0]}=", monkeypatch, capsys)
            assert [value for _, value, _ in values[1:]] == list(option.type.choices)


def test_a_broken_file_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a line is typed, the configuration file that it names is not read."""
    line = f"qmail-exporter serve --config.file={tmp_path} --log.level d"
    assert complete(line, monkeypatch, capsys) == [["kept", ""], ["plain", "debug", ""]]


@pytest.mark.parametrize(
    "line", ["", "qmail-exporter 'x", "qmail-exporter serve --qmail.home='/v", "a b c \\"]
)
def test_any_line(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that is not finished, or is another program's, does no harm."""
    assert complete(line, monkeypatch, capsys)[0][0] == "kept"


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
