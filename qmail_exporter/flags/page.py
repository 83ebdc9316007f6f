"""Help pages: options under headings, commands in sections, examples at the end."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from qmail_exporter.flags.option import OTHER, UNBROKEN, Option, variable

_HYPHEN = "\N{NON-BREAKING HYPHEN}"
_COLUMN = 28  # the longest flag that has its text beside it
_SOURCES = (
    "Dotted flags can also be given by the environment ({flag} as {variable}) and by the file of --config.file"
    " (as {key}). The command line comes before the environment, and that before the file."
)

Example = tuple[str, str]
"""What it is for, ending in no full stop, and the command line."""


class _Formatter(click.HelpFormatter):
    """Ends no line after a hyphen, which would break flags and names of programs, nor at an UNBROKEN space."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", _HYPHEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **widths: Any) -> None:
        super().write_dl([(term, text.replace("-", _HYPHEN)) for term, text in rows], *args, **widths)

    def getvalue(self) -> str:
        return super().getvalue().replace(_HYPHEN, "-").replace(UNBROKEN, " ")


class _Context(click.Context):
    formatter_class = _Formatter


class _Page(click.Command):
    context_class = _Context

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        # click keeps what the first context says, and not each that asks for a page is the program's.
        del ctx
        return ["-h", "--help"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of a heading together, with one column for all texts."""
        rows = {
            heading: [record for option in options if (record := option.get_help_record(ctx))]
            for heading, options in headed(self).items()
        }
        # `write_dl` makes a column as wide as its longest flag: so each section is given the same one.
        column = min(_COLUMN, max(len(flag) for records in rows.values() for flag, _ in records))
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl([(flag.ljust(column), text) for flag, text in records], col_max=_COLUMN)


class Command(_Page):
    """A command whose help has headings and examples."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and once for all flags what else can set them."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for what, line in self.examples:
                    formatter.write_text(f"{what}:")
                    formatter.write(f"{'':{formatter.current_indent + 2}}{line}\n")
        text = sources(self)
        if text:
            formatter.write_paragraph()
            formatter.write_text(text)


class Group(_Page, click.Group):
    """A command with commands of its own, which its help shows in sections."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sections: dict[str, list[str]] = {}

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands that belong together."""
        self.sections[title] = [command.name or "" for command in commands]
        for command in commands:
            self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in the order in which they were added."""
        del ctx
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        _Page.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command, with one column for all of them."""
        del ctx
        room = max(map(len, self.commands)) + 2
        for title, names in (self.sections or {"Commands": list(self.commands)}).items():
            with formatter.section(title):
                limit = formatter.width - formatter.current_indent - room
                formatter.write_dl(
                    [
                        (name.ljust(room - 2), self.commands[name].get_short_help_str(limit))
                        for name in names
                        if not self.commands[name].hidden
                    ]
                )


def headed(command: click.Command) -> dict[str, list[click.Option]]:
    """Return a command's options by heading: in their order, and the other ones last."""
    found: dict[str, list[click.Option]] = {}
    others: list[click.Option] = []
    for param in command.get_params(click.Context(command)):
        if isinstance(param, click.Option) and not param.hidden:
            heading = param.heading if isinstance(param, Option) else OTHER
            (others if heading == OTHER else found.setdefault(heading, [])).append(param)
    return {**found, OTHER: others} if others else found


def sources(command: click.Command) -> str:
    """Return the sentence on what else can set the flags of a command; empty if nothing can."""
    settings = [param for param in command.params if isinstance(param, Option) and param.key]
    if not settings:
        return ""
    shown = settings[0]
    flag = shown.opts[0]
    return _SOURCES.format(flag=flag, variable=variable(flag), key=shown.key)


def walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands that do something, with the words that call them."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command
