import re
import shlex

import click
import pytest

from qmail_exporter.cli import main
from qmail_exporter.flags.option import Option
from qmail_exporter.flags.page import Command, Group, walk

COMMANDS = dict(walk(main, "qmail-exporter"))
EXAMPLES = [
    line for command in COMMANDS.values() if isinstance(command, Command) for _, line in command.examples
]


def page(path: str, width: int) -> str:
    """Return the help of a command, as it is on a terminal of that width."""
    command: click.Command = main
    context: click.Context = main.context_class(
        main, info_name="qmail-exporter", terminal_width=width, **main.context_settings
    )
    for word in path.split()[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
        context = command.context_class(command, info_name=word, parent=context)
    return command.get_help(context)


PATHS = ["qmail-exporter", "qmail-exporter routes", *COMMANDS]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("path", PATHS)
def test_no_line_is_too_long(path: str, width: int) -> None:
    """Help fits the terminal, has no blanks at the ends of lines, and is ASCII."""
    lines = page(path, width).split("\n")
    assert [line for line in lines if len(line) > width or line != line.rstrip() or not line.isascii()] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_stands_once(path: str) -> None:
    """Each option of a command has one line of its help, with its text and default, under a heading."""
    text = page(path, 100)
    rows = re.findall(r"^  (?:-h, )?(--\S+)", text, re.MULTILINE)
    options = [param for param in COMMANDS[path].params if isinstance(param, Option)]
    assert sorted(rows) == sorted([*(option.synopsis[0] for option in options), "--help"])
    flat = " ".join(text.split())
    for option in options:
        assert option.help
        assert " ".join(option.help.split()) in flat
        if option.usual:
            assert f"[default: {option.usual}]" in text


@pytest.mark.parametrize("path", COMMANDS)
def test_texts_begin_in_one_column(path: str) -> None:
    """The texts of all options of a command begin in the same column, whatever their heading."""
    options = page(path, 80).partition("\nExamples:")[0]
    beside = [match.end() for match in re.finditer(r"^  -.*?(?<=\S)  +(?=\S)", options, re.MULTILINE)]
    starts = {end - options.rfind("\n", 0, end) - 1 for end in beside}
    below = {len(blank) for blank in re.findall(r"^( {5,})\S", options, re.MULTILINE)}
    assert len(starts | below) == 1


@pytest.mark.parametrize("path", PATHS)
def test_words_are_not_broken(path: str) -> None:
    """No default, flag or name of a program is cut in two by the end of a line."""
    assert not re.search(r"\[default:\n|-\n", page(path, 80))


def test_headings() -> None:
    """The settings of serve stand under what they are about, and what all commands have stands last."""
    found = re.findall(r"^(\S.*):$", page("qmail-exporter serve", 80), re.MULTILINE)
    assert found == [
        "Queue and log",
        "HTTP",
        "Double bounces",
        "Outage hook",
        "Logging",
        "Other options",
        "Examples",
    ]


def test_sections_of_commands() -> None:
    """Each command stands once in the program's help, whole, in the section that it belongs to."""
    text = page("qmail-exporter", 80)
    listed = re.findall(r"^  ([a-z][a-z-]+)  +\S", text, re.MULTILINE)
    assert listed == list(main.commands)
    assert isinstance(main, Group)
    assert [name for names in main.sections.values() for name in names] == list(main.commands)
    assert list(main.sections) == re.findall(r"^(\S.*):$", text, re.MULTILINE)[:-1]
    assert "..." not in text.partition("\nWatch:")[2]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_an_example(path: str) -> None:
    """Each command shows how it is used."""
    assert "\nExamples:\n" in page(path, 80)


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_right(line: str) -> None:
    """Every example is a command line that the program takes."""
    words = shlex.split(line, comments=False)
    ours = [words] if words[0] == "qmail-exporter" else []
    ours += [shlex.split(inner) for inner in re.findall(r"\$\((qmail-exporter [^)]*)\)", line)]
    ours += [["qmail-exporter", "record-double-bounce", *words[1:]]] if "record-double" in words[0] else []
    assert ours
    for argv in ours:
        end = next((number for number, word in enumerate(argv) if word[0] in "|>&"), len(argv))
        command: click.Command = main
        context = click.Context(main, info_name="qmail-exporter")
        rest = argv[1:end]
        while isinstance(command, click.Group):
            command = command.commands[rest.pop(0)]
        given = [word for word in rest if not word.startswith("--config.file")]
        with command.make_context(command.name, given, parent=context) as made:
            assert made.args == []


@pytest.mark.parametrize("path", COMMANDS)
def test_sources_are_told_once(path: str) -> None:
    """The environment and the file are told of in one place, with an example that is right, or not at all."""
    text = " ".join(page(path, 80).split())
    keys = [param for param in COMMANDS[path].params if isinstance(param, Option) and param.key]
    assert text.count("QMAIL_EXPORTER_") == bool(keys)
    if keys:
        assert f"(--{keys[0].key} as {keys[0].envvar})" in text
