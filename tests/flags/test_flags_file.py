import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.core import ParameterSource

from qmail_exporter.cli import main
from qmail_exporter.commands.check_config import check_config
from qmail_exporter.commands.serve import serve
from qmail_exporter.config import LogSpec
from qmail_exporter.flags.file import MAX_BYTES, FileError, known, read, settings
from qmail_exporter.flags.option import Option, variable
from qmail_exporter.flags.page import walk

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "qmail-exporter.example.yml"
COMMANDS = dict(walk(main, "qmail-exporter"))
SETTINGS = [
    pytest.param(path, option, id=f"{path.removeprefix('qmail-exporter ')}-{option.key}")
    for path, command in COMMANDS.items()
    for option in settings(command).values()
]
_TEXTS = ["/a", "/b", "true", "false", "1", "2", ":1", ":2", "debug", "error", "logfmt", "json"]

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "settings.yml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def parsed(path: str, *argv: str) -> click.Context:
    """Take a command line apart, as the program does."""
    command = COMMANDS[path]
    needed = [
        f"{option.opts[0]}={two_texts(option)[0][0]}" for option in command.params if option.required and isinstance(option, Option)
    ]  # fmt: skip
    with click.Context(main, info_name="qmail-exporter") as program:
        return command.make_context(command.name, [*needed, *argv], parent=program)


def two_texts(option: Option) -> list[tuple[str, Any]]:
    """Return two texts that an option takes, and the different values that it makes of them."""
    found: dict[Any, str] = {}
    for text in _TEXTS:
        with suppress(click.BadParameter):
            found.setdefault(option.type.convert(text, option, click.Context(serve)), text)
    pairs = [(text, (value,) if option.multiple else value) for value, text in found.items()]
    assert len(pairs) >= 2, f"for {option.opts[0]}, there are no two values among {_TEXTS}"
    return pairs[:2]


def as_flag(option: Option, text: str) -> list[str]:
    if option.is_flag:
        return [option.opts[0] if text == "true" else option.secondary_opts[0]]
    return [option.opts[0], text]


@pytest.mark.parametrize(("path", "option"), SETTINGS)
def test_precedence(path: str, option: Option, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every flag of every command: the command line, then the environment, then the file, then the default."""
    name, [(one, first), (two, second)] = str(option.name), two_texts(option)
    assert parsed(path).get_parameter_source(name) is ParameterSource.DEFAULT
    for text, value in ((one, first), (two, second)):
        by_file = ["--config.file", str(write(f"{option.key}: {text!r}\n"))]
        found = parsed(path, *by_file)
        assert (found.params[name], found.get_parameter_source(name)) == (value, ParameterSource.DEFAULT_MAP)
    for text, value in ((one, first), (two, second)):  # the file says the second
        monkeypatch.setenv(variable(option.opts[0]), text)
        assert parsed(path, *by_file).params[name] == value
    for text, value in ((one, first), (two, second)):  # and so does the environment
        assert parsed(path, *by_file, *as_flag(option, text)).params[name] == value


def test_precedence_among_lists(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of one source replace those of the next, and are not added to them."""
    file = write("web.listen-address: [':1', ':2']")
    argv = ["--config.file", str(file)]
    assert parsed("qmail-exporter serve", *argv).params["listen"] == (":1", ":2")
    monkeypatch.setenv("QMAIL_EXPORTER_WEB_LISTEN_ADDRESS", ":3 :4")
    assert parsed("qmail-exporter serve", *argv).params["listen"] == (":3", ":4")
    argv.append("--web.listen-address=:5")
    assert parsed("qmail-exporter serve", *argv).params["listen"] == (":5",)


@pytest.mark.parametrize("path", COMMANDS)
def test_settings_can_stand_in_a_file(path: str) -> None:
    """A command with flags that a file can set has --config.file."""
    keys = {option.key for option in COMMANDS[path].params if isinstance(option, Option) and option.key}
    assert settings(COMMANDS[path]).keys() == keys


def test_serve_has_all_settings() -> None:
    """What any command takes from a file is a flag of serve, so that check-config knows of everything."""
    assert known(main) == settings(serve).keys()


def test_file_of_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """QMAIL_EXPORTER_CONFIG_FILE names a file, and the command line another one in its place."""
    monkeypatch.setenv("QMAIL_EXPORTER_CONFIG_FILE", str(write("domains.max: 7")))
    assert parsed("qmail-exporter serve").params["domains_max"] == 7
    argv = ["--config.file", os.devnull]
    with pytest.raises(FileError, match="not a regular file"):
        parsed("qmail-exporter serve", *argv)


FORMS = {
    "qmail: {home: /x}": ("home", Path("/x")),
    "qmail.home: /x": ("home", Path("/x")),
    "web: {config: {file: /x}}": ("web_config", Path("/x")),
    "web: {config.file: /x}": ("web_config", Path("/x")),
    "web.config: {file: /x}": ("web_config", Path("/x")),
    "qmail: {queue: /x}": ("queues", ((None, Path("/x")),)),
    "qmail: {queue: [a=/x, /y]}": ("queues", (("a", Path("/x")), (None, Path("/y")))),
    "qmail: {queue: {a: /x, b: /y}}": ("queues", (("a", Path("/x")), ("b", Path("/y")))),
    "qmail: {log: {a: [/x, 'journal:y']}}": ("logs", (LogSpec("a", "/x"), LogSpec("a", "journal:y"))),
    "qmail: {log: /with space/x}": ("logs", (LogSpec(None, "/with space/x"),)),
    "double-bounces: {log: {a: /x}}": ("double_bounces", LogSpec("a", "/x")),
    "web: {listen-address: 127.0.0.1:1}": ("listen", ("127.0.0.1:1",)),
    "hook: {tcpok: yes}": ("hook_tcpok", True),
    "hook: {tcpok: off}": ("hook_tcpok", False),
    "hook: {cooldown: 90}": ("hook_cooldown", 90.0),
    "hook: {cooldown: 1h30m}": ("hook_cooldown", 5400.0),
    "hook: {command: /x 'a b'}": ("hook_command", ("/x", "a b")),
    "web: {max-requests: '3'}": ("max_requests", 3),
    "\ufeffdomains: {max: 3}": ("domains_max", 3),
}


@pytest.mark.parametrize("text", FORMS)
def test_forms(text: str, write: Write) -> None:
    """Keys are nested or dotted, repeatable flags take one value or a list, and what has names a mapping."""
    name, value = FORMS[text]
    assert parsed("qmail-exporter serve", f"--config.file={write(text)}").params[name] == value


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "~", "web:\nhook:\n"])
def test_nothing(text: str, write: Write) -> None:
    """A file may set nothing, and so may a section."""
    assert read(write(text), serve, main) == {}


def test_relative_paths(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is below the file's directory, wherever the command is run; what is no path is left alone."""
    monkeypatch.chdir("/")
    file = write(
        "qmail: {home: a=b, queue: [q, n=q], log: [l, 'journal:u', 'n=journal:u']}\nweb: {telemetry-path: /m}"
    )
    found = parsed("qmail-exporter serve", f"--config.file={file}").params
    assert found["home"] == tmp_path / "a=b"
    assert found["queues"] == ((None, tmp_path / "q"), ("n", tmp_path / "q"))
    assert found["logs"] == (
        LogSpec(None, str(tmp_path / "l")),
        LogSpec(None, "journal:u"),
        LogSpec("n", "journal:u"),
    )
    assert found["telemetry_path"] == "/m"


def test_one_file_for_all_commands(write: Write) -> None:
    """A command takes its own flags from a file, and what are flags of another command only is no mistake."""
    file = write("qmail: {home: /x}\nweb: {max-requests: none}\n")
    assert parsed("qmail-exporter tcpto", f"--config.file={file}").params["home"] == Path("/x")
    with pytest.raises(FileError, match=r":2: .*web\.max-requests"):
        parsed("qmail-exporter serve", f"--config.file={file}")


MISTAKES = {
    "web:\n  max_requests: 3": "2: unknown key 'web.max_requests'; the nearest known one is 'web.max-requests'",
    "hooks.tcpok: true": "1: unknown key 'hooks.tcpok'; the nearest known one is 'hook.tcpok'",
    "max-requests: 3": "1: unknown key 'max-requests'; the nearest known one is 'web.max-requests'",
    "wep: {}": "1: unknown key 'wep'; the nearest known one is 'web'",
    "qmail.home.x: /x": "1: unknown key 'qmail.home.x'; the nearest known one is 'qmail.home'",
    "demo.rate: 3": "1: unknown key 'demo.rate'",
    "\n\nlog.level: loud": "3: Invalid value for 'log.level': 'loud' is not one of 'debug', 'info', 'warn', 'error'.",
    "qmail:\n  queue:\n    - /x\n    - a=": "4: Invalid value for 'qmail.queue': '' is no path.",
    "web: 3": "1: 'web' has no value of its own, but keys such as 'web.config.file'",
    "web.max-requests: [1]": "1: 'web.max-requests' takes one value, not a list",
    "web.max-requests: {a: 1}": "1: 'web.max-requests' takes no mapping",
    "double-bounces.log: {a: /x, b: /y}": "1: 'double-bounces.log' takes one value, not 2",
    "qmail.queue: {a b: /x}": "1: 'a b' in 'qmail.queue' is no name of a queue",
    "qmail.queue: {a: {b: /x}}": "1: 'qmail.queue' takes texts, and this is a list or a mapping",
    "qmail.queue: [[/x]]": "1: 'qmail.queue' takes texts, and this is a list or a mapping",
    "qmail.queue: []": "1: 'qmail.queue' is empty: leave the key out for its default",
    "qmail.queue: {}": "1: 'qmail.queue' is empty: leave the key out for its default",
    "qmail.queue: {[a]: /x}": "1: a name in 'qmail.queue' must be a word",
    "qmail.home:": "1: 'qmail.home' has no value: leave the key out for its default",
    "web.max-requests: 1\nweb:\n  max-requests: 2": "3: 'web.max-requests' is there twice: it is in line 1, too",
    "web:\nhook:\nweb:": "3: 'web' is there twice: it is in line 1, too",
    "log.level: &a info": "1: anchors and aliases are not taken: write the value out",
    "log.level: *a": "1: anchors and aliases are not taken: write the value out",
    "<<: {log.level: info}": "1: 'tag:yaml.org,2002:merge' is no tag that is taken here",
    "log.level: !!python/object:os.x y": "1: 'tag:yaml.org,2002:python/object:os.x' is no tag that is taken here",
    "log.level: !!binary aW5mbw==": "1: 'tag:yaml.org,2002:binary' is no tag that is taken here",
    "a: b: c": "1: no YAML: mapping values are not allowed here",
    "web: {": "1: no YAML: while parsing a flow node",
    "x: '": "1: no YAML: while scanning a quoted scalar, found unexpected end of stream",
    "\tx: 1": "1: no YAML: while scanning for the next token, found character '\\t' that cannot start any token",
    "{}\n---\n{}": "2: no YAML: expected a single document in the stream",
    "- web": "1: the file is no mapping of keys to values",
    "? [a]\n: b": "1: a key must be a word",
    "a: 1\nb\0: 2": "2: the character U+0000 is not allowed",
    "[" * 100: "1: this is nested too deep",
    "k" * 200 + ": 1": f"1: unknown key '{'k' * 80}...'; the nearest known one is ",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: repr(text)[:40])
def test_mistakes(
    text: str, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake is one line that names the file and the line in it, and exit status 2."""
    monkeypatch.delenv("QMAIL_EXPORTER_CONFIG_FILE", raising=False)
    file = write(text)
    with pytest.raises(SystemExit) as ended:
        main(["serve", f"--config.file={file}"], prog_name="qmail-exporter")
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"qmail-exporter: {file}:{MISTAKES[text]}")
    assert said.err.count("\n") == 1
    assert len(said.err) < 800


def refusal(option: Option, text: str) -> tuple[str, str] | None:
    """Return the text and what the command line says to it, None if it takes that."""
    try:
        parsed("qmail-exporter serve", f"{option.opts[0]}={text}")
    except click.BadParameter as error:
        return text, error.format_message()
    return None


@pytest.mark.parametrize(
    "option", [param for param in settings(serve).values() if not param.is_flag], ids=lambda o: o.key
)
def test_same_words_as_the_flag(option: Option, write: Write) -> None:
    """What a flag refuses, the file refuses in the same words."""
    text, said = next(filter(None, (refusal(option, text) for text in ("", "a=", "x y", "-1", "'"))))
    flag = option.opts[0]
    assert said.startswith(f"Invalid value for '{flag}': ")
    with pytest.raises(FileError) as refused:
        read(write(f'{option.key}: "{text}"'), serve, main)
    assert refused.value.message.partition(":1: ")[2] == said.replace(flag, str(option.key), 1)


def test_mistake_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a variable is told by the variable's name."""
    monkeypatch.setenv("QMAIL_EXPORTER_DOMAINS_MAX", "many")
    with pytest.raises(click.BadParameter) as refused:
        parsed("qmail-exporter serve")
    assert refused.value.format_message().startswith("Invalid value for 'QMAIL_EXPORTER_DOMAINS_MAX': ")


# --- files that are none


def make(kind: str, path: Path) -> None:
    """Make something that is no file with settings."""
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "long":
        path.write_bytes(b"#" * (MAX_BYTES + 1))
    elif kind == "latin-1":
        path.write_bytes(b"# a\n\n# \xe9t\xe9\n")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("directory", ": not a regular file"),
        ("fifo", ": not a regular file"),
        ("loop", ": Too many levels of symbolic links"),
        ("missing", ": No such file or directory"),
        ("long", ": longer than 65536 bytes, so this is no configuration file"),
        ("latin-1", ":3: this is not UTF-8"),
    ],
)
def test_odd_files(tmp_path: Path, kind: str, said: str) -> None:
    """What is no file of a bearable length in UTF-8 is refused, and never waited for."""
    path = tmp_path / kind
    make(kind, path)
    with pytest.raises(FileError) as refused:
        read(path, serve, main)
    assert refused.value.message == f"{path}{said}"
    assert refused.value.exit_code == 2


def test_quotations_are_cut(write: Write) -> None:
    """Of a long value only the beginning is repeated."""
    with pytest.raises(FileError) as refused:
        read(write(f"domains.max: {'1' * 60_000}"), serve, main)
    assert len(refused.value.message) < 800


# --- the example


def uncommented(page: str) -> str:
    """Return the example with what is commented out; a comment in words begins with a space."""
    return re.sub(r"^( *)#(?! |$)", r"\1", page, flags=re.MULTILINE).replace("#  ", "  ")


def test_example_is_the_default() -> None:
    """What the example sets is what is set without it."""
    found = parsed("qmail-exporter serve", f"--config.file={EXAMPLE}")
    assert found.params == parsed("qmail-exporter serve").params


def test_example_has_every_key(write: Write) -> None:
    """With what is commented out, the example has every key there is, and no mistake."""
    page = uncommented(EXAMPLE.read_text(encoding="utf-8"))
    assert {str(option.name) for option in settings(serve).values()} == read(write(page), serve, main).keys()


def test_documented_files() -> None:
    """The files shown in the pages are such files."""
    for page in ("README.md", "docs/configuration.md"):
        shown = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
        ours = [text for text in shown if "scrape_configs" not in text]
        assert ours
        for text in ours:
            assert yaml.safe_load(text).keys() <= {key.partition(".")[0] for key in known(main)}


# --- check-config


def test_check_config(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """check-config says that there is no mistake."""
    file = write("web: {max-requests: 3}")
    with pytest.raises(SystemExit) as ended:
        main(["check-config", str(file)])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{file}: no mistakes\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: {max-request: 3}", "unknown key 'web.max-request'"),
        (
            "qmail: {queue: {a: /x}, log: {b: /y}}",
            "log '/y' is for queue 'b', and there is no queue of that name",
        ),
    ],
)
def test_check_config_refuses(text: str, said: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """check-config says what is wrong, also with what does not go together."""
    with pytest.raises(SystemExit) as ended:
        main([str(check_config.name), str(write(text))])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
