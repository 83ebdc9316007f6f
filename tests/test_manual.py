"""qmail-exporter(1) is what `make docs` makes, whole, and right in roff's eyes."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import manpage
import pytest

from qmail_exporter.cli import main
from qmail_exporter.flags.option import Option
from qmail_exporter.flags.page import Command, walk

PAGE = Path(__file__).parents[1] / "docs" / "qmail-exporter.1"
SOURCE = PAGE.read_text(encoding="ascii")
COMMANDS = [command for _, command in walk(main, "")]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANROFFSEQ": ""}
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environment)


def test_manual() -> None:
    """docs/qmail-exporter.1 is what `make docs` makes of the commands."""
    assert manpage.manual() == SOURCE


def test_every_flag_is_in_it() -> None:
    """Every flag of every command is there as a heading of its own, with what it takes."""
    headings = re.findall(r"^\.TP\n(.*)", SOURCE, re.MULTILINE)
    plain = {re.sub(r"\\f[BIR]", "", heading).replace(r"\-", "-") for heading in headings}
    options = [param for command in COMMANDS for param in command.params if isinstance(param, Option)]
    assert {" ".join(option.synopsis).rstrip() for option in options} <= plain
    assert "-h, --help" in plain


def test_sections() -> None:
    """The sections are those of man-pages(7), in its order."""
    assert re.findall(r"^\.SH (.*)", SOURCE, re.MULTILINE) == [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "COMMANDS",
        "OPTIONS",
        "CONFIGURATION FILE",
        "ENVIRONMENT",
        "EXIT STATUS",
        "FILES",
        "EXAMPLES",
        "SEE ALSO",
    ]


def test_no_line_is_taken_for_a_request() -> None:
    """Only macros that are meant stand at the beginning of a line, and every hyphen can be copied as what it is."""
    lines = SOURCE.splitlines()[1:]
    used = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert used <= {
        ".TH",
        ".SH",
        ".SS",
        ".PP",
        ".TP",
        ".RS",
        ".RE",
        ".EX",
        ".EE",
        ".BR",
        ".br",
        ".nh",
        ".ad",
    }
    assert [line for line in lines if re.search(r"(?<!\\)-", line)] == []


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        (".x", r"\&.x"),
        ("'x' \"y\"", r"\(aqx\(aq \(dqy\(dq"),
        (r"a\b-c", r"a\eb\-c"),
        ("`~^", r"\(ga\(ti\(ha"),
    ],
)
def test_escaping(text: str, roff: str) -> None:
    """What roff would take for something else is written so that it is shown."""
    assert manpage.escaped(text) == roff


def test_only_ascii() -> None:
    """A text that is not ASCII is refused, not shown wrong."""
    with pytest.raises(ValueError, match="is not ASCII"):
        manpage.escaped("\N{LATIN SMALL LETTER E WITH ACUTE}")


def test_groff_has_no_complaint() -> None:
    """With all warnings on, groff says nothing."""
    done = run("groff", "-man", "-ww", "-z", str(PAGE))
    assert (done.returncode, done.stderr) == (0, "")


def test_man_shows_it() -> None:
    """It is shown by man with every flag and example whole, and without a warning."""
    done = run("man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", str(PAGE))
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    for command in COMMANDS:
        for _, line in command.examples if isinstance(command, Command) else ():
            assert line in shown
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.opts[0] in shown.replace("--[no-]", "--")


def test_apropos_finds_it() -> None:
    """What apropos will show of it is its name and what the program's help begins with."""
    done = run("lexgrog", str(PAGE))
    assert done.stdout == f'{PAGE}: "qmail-exporter - Prometheus exporter for the qmail mail server"\n'
