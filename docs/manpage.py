"""docs/qmail-exporter.1, from the commands that `--help` shows: `make docs`.

man(7) says what the macros are. A text is escaped as a whole before anything is put around it.
"""

from collections.abc import Iterator

import click

from qmail_exporter import __version__
from qmail_exporter.cli import main
from qmail_exporter.flags.file import known
from qmail_exporter.flags.option import Option, variable
from qmail_exporter.flags.page import Command, Group, headed, walk

_PROGRAM = "qmail-exporter"
_CHARACTERS = str.maketrans(
    {
        "\\": r"\e",
        "-": r"\-",
        "'": r"\(aq",
        "`": r"\(ga",
        "^": r"\(ha",
        "~": r"\(ti",
        '"': r"\(dq",
    }
)
_SETTINGS = """The flags below are settings. Each is also a key of the configuration file and an environment variable.
`serve` takes all of them, and other commands those that their description names."""
_FILE = """`--config.file` names a YAML file, which may hold what any of the settings can say. The dots of a flag are levels, or are written:
`web: {max-requests: 40}` and `web.max-requests: 40` are the same. A flag that may be repeated takes a list or one value, and one
that takes `NAME=` also a mapping of names to values. A flag without a value takes `true` or `false`. Relative paths are below the file's
directory.

One file is for all commands: each takes what are flags of its own. What is a flag of none, a key that is there twice, a value that the
flag would refuse, an anchor and an alias are mistakes, told with the line, and exit status 2. `qmail-exporter check-config` looks for them
beforehand. The command line comes before the environment, the environment before the file, and the file before the default."""
_EXAMPLE_FILE = """qmail:
  queue:
    in: /var/indimail/queue/queue1
    out: /var/indimail/queue/queue2
web:
  listen-address: [\"127.0.0.1:10225\", \"[::1]:10225\"]
hook:
  tcpok: true
  cooldown: 20m"""
_ENVIRONMENT = """Each setting has a variable: `--web.max-requests` has `{variable}`, and the others are formed in the same way. Several
values of one flag are apart by spaces there. `{file}` names the configuration file. An empty variable counts as none."""
_STATUSES = {
    "0": "Done; of `serve` and `demo`, ended by SIGTERM; of `doctor`, `serve` would see everything.",
    "1": "Something could not be done, and a line on standard error says what.",
    "2": "Wrong usage, or a mistake in the configuration file.",
    "3": "There was nothing to do it to: no message of that number, no qmail-send on that queue. 1 wins over 3.",
    "111": "Of `record-double-bounce`: it was not logged, and qmail-local will try again. Of `queue --qread`: as qmail-qread.",
    "130": "Interrupted.",
}
_FILES = {
    "/var/qmail/queue, /var/indimail/queue/queue*": "The queues, if no others are named.",
    "/var/qmail/control, /etc/indimail/control": "qmail's control files.",
    "/run/qmail-exporter": "The sockets of the units that do what the exporter's user may not.",
    "/etc/qmail-exporter.yml": "A usual place for the configuration file; it is read only if it is named.",
}
_SEE_ALSO = (
    ("qmail-log", 5),
    ("qmail-qread", 8),
    ("qmail-qstat", 8),
    ("qmail-send", 8),
    ("qmail-tcpok", 8),
    ("qmail-tcpto", 8),
    ("qmail-command", 8),
    ("multilog", 8),
    ("prometheus", 1),
)


def manual() -> str:
    """Return the manual page."""
    title = f'.TH {escaped(_PROGRAM.upper())} 1 "" "qmail_exporter {__version__}" "User Commands"'
    lines = ['.\\" Written by "make docs" from the commands themselves: change those.', title]
    lines += [".nh", ".ad l"]  # a flag that is broken in two is no flag
    summary, _, rest = (main.help or "").partition("\n\n")
    lines += [".SH NAME", rf"{escaped(_PROGRAM)} \- {_text(summary).rstrip('.')}"]
    lines += [".SH SYNOPSIS", *_synopses()]
    lines += [".SH DESCRIPTION", *_paragraphs(rest)]
    lines += [".SH COMMANDS", *_commands(main, _PROGRAM)]
    lines += [".SH OPTIONS", *_paragraphs(_SETTINGS), *_settings()]
    lines += [".SH CONFIGURATION FILE", *_paragraphs(_FILE), ".PP", *_verbatim(_EXAMPLE_FILE)]
    environment = _ENVIRONMENT.format(variable=variable("--web.max-requests"), file=variable("--config.file"))
    lines += [".SH ENVIRONMENT", *_paragraphs(environment)]
    lines += [".SH EXIT STATUS", *_definitions(_STATUSES)]
    lines += [".SH FILES", *_definitions(_FILES)]
    lines += [".SH EXAMPLES", *_examples()]
    pages = [f".BR {escaped(name)} ({section})" for name, section in _SEE_ALSO]
    lines += [".SH SEE ALSO", ",\n".join(pages)]
    return "\n".join(lines) + "\n"


# --- sections


def _synopses() -> Iterator[str]:
    for number, (path, command) in enumerate(walk(main, _PROGRAM)):
        if number:
            yield ".br"
        pieces = command.collect_usage_pieces(click.Context(command))
        yield f"{_bold(path)} {' '.join(map(escaped, pieces))}"


def _commands(group: click.Group, path: str) -> Iterator[str]:
    sections = group.sections if isinstance(group, Group) and group.sections else {"": list(group.commands)}
    for names in sections.values():
        for name in names:
            command = group.commands[name]
            if isinstance(command, click.Group):
                yield from _commands(command, f"{path} {name}")
            else:
                yield from _command(command, f"{path} {name}")


def _command(command: click.Command, path: str) -> Iterator[str]:
    yield f".SS {_quoted(path.removeprefix(_PROGRAM + ' '))}"
    yield from _paragraphs(command.help or "")
    settings: list[str] = []
    for options in headed(command).values():
        for option in options:
            if not isinstance(option, Option):
                continue  # --help, which all have
            if option.key is None and option.opts[0] != "--config.file":
                yield from _option(option)
            else:
                settings.append(option.opts[0])
    if settings and command.name != "serve":
        yield from _paragraphs(f"Settings: {', '.join(f'`{flag}`' for flag in settings)}.")


def _settings() -> Iterator[str]:
    for heading, options in headed(main.commands["serve"]).items():
        yield f".SS {_quoted(heading)}"
        for option in options:
            yield from _option(option)
    assert known(main) == {  # noqa: S101 - a page without some of the flags must not come to be
        option.key
        for option in main.commands["serve"].params
        if isinstance(option, Option) and option.key is not None
    }


def _option(option: click.Option) -> Iterator[str]:
    yield ".TP"
    if not isinstance(option, Option):
        yield ", ".join(_bold(flag) for flag in option.opts)
        yield _text(option.help or "")
        return
    flag, value = option.synopsis
    yield f"{_bold(flag)} {_italic(value)}" if value else _bold(flag)
    usual = (
        f" The default is `{option.usual}`."
        if option.usual
        else " It must be given."
        if option.required
        else ""
    )
    yield _text((option.help or "") + usual)


def _examples() -> Iterator[str]:
    for _, command in walk(main, _PROGRAM):
        for what, line in command.examples if isinstance(command, Command) else ():
            yield ".PP"
            yield _text(f"{what}:")
            yield ".PP"
            yield from _verbatim(line)


# --- texts


def escaped(text: str) -> str:
    """Return a text as roff shows it: nothing in it is a macro or an escape, and each hyphen is one that can be copied."""
    if not text.isascii():
        raise ValueError(f"{text!r} is not ASCII: say how roff writes it")
    text = text.translate(_CHARACTERS)
    return rf"\&{text}" if text.startswith(".") else text


def _text(text: str) -> str:
    """Return a paragraph as one line, with what stands in backquotes in bold."""
    parts = " ".join(text.split()).split("`")
    return "".join(_bold(part) if number % 2 else escaped(part) for number, part in enumerate(parts))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield _text(paragraph)


def _definitions(terms: dict[str, str]) -> Iterator[str]:
    for term, text in terms.items():
        yield from (".TP", _bold(term), _text(text))


def _verbatim(text: str) -> Iterator[str]:
    yield from (".RS 4", ".EX", *map(escaped, text.splitlines()), ".EE", ".RE")


def _bold(text: str) -> str:
    return rf"\fB{escaped(text)}\fR"


def _italic(text: str) -> str:
    return rf"\fI{escaped(text)}\fR"


def _quoted(text: str) -> str:
    return f'"{escaped(text)}"'
