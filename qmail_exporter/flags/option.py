"""An option as all commands have them: under a heading in help, and with other sources than the command line if it is a setting."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Decorator = Callable[[Any], Any]
_Command = TypeVar("_Command", bound=Callable[..., Any])

PREFIX = "QMAIL_EXPORTER_"
OPTIONS = "Options"
OTHER = "Other options"
UNBROKEN = "\N{NO-BREAK SPACE}"
"""A space at which no line of help ends; the page has a plain one there."""
_HEADINGS = {
    "config": OTHER,
    "demo": "Simulation",
    "domains": "Queue and log",
    "double-bounces": "Double bounces",
    "hook": "Outage hook",
    "log": "Logging",
    "qmail": "Queue and log",
    "queue": "Queue and log",
    "web": "HTTP",
}
"""By the first word of a dotted flag."""


class Option(click.Option):
    """An option of a command.

    Attributes:
        heading: what it stands under in help.
        key: its name in a configuration file; None if it cannot stand there.
    """

    def __init__(
        self, *args: Any, heading: str | None = None, key: str | None = None, **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        first, dot, _ = self.opts[0].removeprefix("--").partition(".")
        self.heading = heading or (_HEADINGS[first] if dot else OPTIONS)
        self.key = key

    @property
    def synopsis(self) -> tuple[str, str]:
        """The flag, and the name of what it takes, which is empty if it takes nothing."""
        if self.secondary_opts:
            return self.opts[0].replace("--", "--[no-]", 1), ""
        if self.is_flag:
            return self.opts[0], ""
        choices = self.type.choices if isinstance(self.type, click.Choice) else ()
        return self.opts[0], self.metavar or "|".join(map(str, choices))

    @property
    def usual(self) -> str:
        """The default, as one would write it; empty if there is none or the help has words for it."""
        default = self.default
        if self.is_flag or not isinstance(default, str | int | float | list | tuple):
            return ""
        if isinstance(default, bool):
            return str(default).lower()
        return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the two columns of help."""
        del ctx
        usual = f"default: {self.usual}" if self.usual else "required" if self.required else ""
        text = f"{self.help}  [{usual.replace(' ', UNBROKEN)}]" if usual else self.help or ""
        return " ".join(self.synopsis).rstrip(), text

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Name what holds a mistake: the flag, or the variable that was taken in its place."""
        if ctx is not None and ctx.get_parameter_source(self.name or "") is ParameterSource.ENVIRONMENT:
            return f"'{self.envvar}'"
        return f"'{self.opts[0]}'"


def option(*names: str, heading: str | None = None, **attributes: Any) -> Callable[[_Command], _Command]:
    """Return an option that the command line alone can set."""
    return click.option(*names, cls=Option, heading=heading, **attributes)


def variable(flag: str) -> str:
    """Return the environment variable of a dotted flag: QMAIL_EXPORTER_WEB_X_Y of --web.x-y."""
    return PREFIX + flag.removeprefix("--").replace(".", "_").replace("-", "_").upper()


def flag(name: str, destination: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """Return a setting: an option that environment and configuration file can set, too.

    One without a value has a --no-... beside it, so that the command line has the last word there as well.
    """
    key = name.removeprefix("--")
    names = f"{name}/--no-{key}" if attributes.get("is_flag") else name
    return click.option(names, destination, cls=Option, key=key, envvar=variable(name), **attributes)


def together(*decorators: Decorator) -> Callable[[_Command], _Command]:
    """Return several options as one decorator; help shows them in this order."""

    def decorate(command: _Command) -> _Command:
        for each in reversed(decorators):
            command = each(command)
        return command

    return decorate
