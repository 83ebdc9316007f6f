"""The flag `--config.file`: what the file says stands in for a command's defaults."""

# ruff: noqa: PLC0415 - the reader of files is for those who have one

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from qmail_exporter.flags.option import Option, variable
from qmail_exporter.flags.page import walk
from qmail_exporter.flags.value import FILE, Value

if TYPE_CHECKING:
    from qmail_exporter.flags.document import Entry, Given

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NAME = "--config.file"
MAX_BYTES = 1 << 16
"""The longest file that is read."""
_LONGEST = 400


class FileError(click.ClickException):
    """What is wrong with a configuration file: path, line, and why."""

    exit_code = 2


def with_config_file(command: _Command) -> _Command:
    """Add --config.file, which sets those flags of the command that nothing else does."""
    return click.option(
        _NAME,
        "config_file",
        cls=Option,
        envvar=variable(_NAME),
        type=FILE,
        metavar="PATH",
        is_eager=True,
        expose_value=False,
        callback=_take,
        help="A YAML file with settings, for all commands.",
    )(command)


def _take(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None and not ctx.resilient_parsing:
        ctx.default_map = read(path, ctx.command, ctx.find_root().command)


def read(path: Path, command: click.Command, program: click.Command) -> dict[str, Any]:
    """Return what a file sets of a command's flags, by the names of the command's parameters.

    Args:
        path: the file.
        command: whose flags they are. What the file sets of other commands' flags is not looked at.
        program: the command with all commands; keys that none of them has are mistakes.

    Raises:
        FileError: the file cannot be read, or says what a flag cannot.
    """
    from qmail_exporter.flags.document import DocumentError, parse

    content = _content(path)
    own = settings(command)
    try:
        entries = parse(content, known(program) | own.keys())
    except DocumentError as error:
        _refuse(path, error.line, str(error))
    return {
        own[entry.key].name or "": _value(path, own[entry.key], entry)
        for entry in entries
        if entry.key in own
    }


def settings(command: click.Command) -> dict[str, Option]:
    """Return the options of a command that a file can set, by their keys; none if it takes no file."""
    options = [param for param in command.params if isinstance(param, Option)]
    if not any(_NAME in option.opts for option in options):
        return {}
    return {option.key: option for option in options if option.key is not None}


def known(program: click.Command) -> set[str]:
    """Return the keys of all commands."""
    commands = walk(program, "") if isinstance(program, click.Group) else [("", program)]
    return {key for _, command in commands for key in settings(command)}


def _content(path: Path) -> bytes:
    from qmail_exporter.sources.host import read_regular

    try:
        content = read_regular(str(path), MAX_BYTES + 1)
    except OSError as error:
        _refuse(path, None, error.strerror or str(error))
    if len(content) > MAX_BYTES:
        _refuse(path, None, f"longer than {MAX_BYTES} bytes, so this is no configuration file")
    return content


def _value(path: Path, option: Option, entry: "Entry") -> Any:
    """Return the texts of a key, found good, as the command line would have them."""
    if entry.form == "list" and not option.multiple:
        _refuse(path, entry.line, f"{entry.key!r} takes one value, not a list")
    texts = list(_texts(path, option, entry))
    if option.multiple:
        return texts
    if len(texts) > 1:
        _refuse(path, entry.line, f"{entry.key!r} takes one value, not {len(texts)}")
    return texts[0]


def _texts(path: Path, option: Option, entry: "Entry") -> Iterator[str]:
    context = click.Context(click.Command(None))
    for given in entry.values:
        text = _named(path, option, entry, given)
        try:
            if isinstance(option.type, Value):
                text = option.type.below(str(path.parent), text)
            option.type.convert(text, option, context)
        except click.BadParameter as error:
            _refuse(path, given.line, f"Invalid value for {entry.key!r}: {error.message}")
        yield text


def _named(path: Path, option: Option, entry: "Entry", given: "Given") -> str:
    if given.name is None:
        return given.text
    if not (isinstance(option.type, Value) and option.type.named):
        _refuse(path, entry.line, f"{entry.key!r} takes no mapping")
    text = f"{given.name}={given.text}"
    if not option.type.is_name(given.name):
        _refuse(path, given.line, f"{given.name!r} in {entry.key!r} is no name of a queue")
    return text


def _refuse(path: Path, line: int | None, text: str) -> NoReturn:
    place = os.fsdecode(path) if line is None else f"{os.fsdecode(path)}:{line}"
    # What is quoted from the file may be nearly all of it.
    raise FileError(f"{place}: {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}")
