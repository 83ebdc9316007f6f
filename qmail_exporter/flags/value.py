"""What flags take: texts with a meaning, and among them paths."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

from qmail_exporter import config

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Value(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic in newer versions
    """What `parse` makes of a text; a ValueError that it raises is a mistake in the flag.

    Args:
        parse: takes the text as given.
        path: the text ends in a path, to a directory or to any file; None if it does not.
        named: NAME= may stand before it, so that a configuration file may write `NAME: VALUE`.
    """

    name = "text"

    def __init__(
        self, parse: Callable[[str], Any], path: Literal["dir", "file"] | None = None, *, named: bool = False
    ) -> None:
        self._parse = parse
        self.path = path
        self.named = named

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the text means."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)

    @staticmethod
    def is_name(text: str) -> bool:
        """Tell whether a text can stand before an equals sign as NAME."""
        return config.split_name(f"{text}=") == (text, "")

    def below(self, directory: str, text: str) -> str:
        """Return the text with the path in it, if there is one and it is relative, put below a directory."""
        if self.path is None or not text:
            return text
        name, path = config.split_name(text) if self.named else (None, text)
        if not path or path.startswith("journal:"):
            return text
        path = os.path.join(directory, path)
        return path if name is None else f"{name}={path}"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        """Leave a path to the shell, without the name before it."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - needed by shells only

        if self.path is None:
            return super().shell_complete(ctx, param, incomplete)
        text = config.split_name(incomplete)[1] if self.named else incomplete
        return [CompletionItem(text, type=self.path)]


DIRECTORY = Value(config.parse_path, "dir")
FILE = Value(config.parse_path, "file")
QUEUE = Value(config.parse_queue_spec, "dir", named=True)
LOG = Value(config.parse_log_spec, "file", named=True)
DURATION = Value(config.parse_duration)
