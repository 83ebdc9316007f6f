"""The files that an administrator writes, and the values of flags: each mistake is told in one line."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import click

from fuzz.target import Target, is_one_line
from qmail_exporter.cli import main
from qmail_exporter.config import parse_address, parse_duration, split_name
from qmail_exporter.flags import file
from qmail_exporter.flags.document import DocumentError, Entry, parse
from qmail_exporter.flags.option import Option
from qmail_exporter.flags.page import walk
from qmail_exporter.web.document import parse as parse_web
from qmail_exporter.web.settings import Settings, parse_settings

ROOT = Path(__file__).parents[2]
PATH = Path("/etc/qmail-exporter.yml")


def config_file(data: bytes) -> None:
    """Each key is known, each text can be given to the flag, and a mistake stands in a line of the file."""
    entries: list[Entry] = []
    mistake = _mistake(lambda: entries.extend(parse(data, _options().keys())), DocumentError)
    if isinstance(mistake, DocumentError):
        assert mistake.line is None or 1 <= mistake.line <= _lines(data) + 1
    for entry in entries:
        assert all(given.text.encode() for given in entry.values if given.text)
        _mistake(partial(file._value, PATH, _options()[entry.key], entry), file.FileError)


def web_config(data: bytes) -> None:
    """What is taken can be sent as headers and compared with what clients send; a mistake is told in one line."""
    settings: list[Settings] = []
    _mistake(lambda: settings.append(parse_settings(parse_web(data), PATH.parent)), ValueError)
    for found in settings:
        assert all(32 <= byte < 127 for name, value in found.headers for byte in name + value)
        assert all(user.isprintable() and len(hashed) == 60 for user, hashed in found.users.items())
        limit, tls = found.rate_limit, found.tls
        assert limit is None or min(limit.interval, limit.burst) > 0
        assert tls is None or tls.min_version <= tls.max_version
        assert tls is None or b"\0" not in b"".join(map(bytes, tls.files))


def value(data: bytes) -> None:
    """Any text is taken by a flag or refused in one line; a duration has an end, an address a port that there is."""
    text = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    context = click.Context(click.Command(None))
    for option in _one_of_each_type():
        _mistake(partial(option.type.convert, text, option, context), click.BadParameter)
    name, rest = split_name(text)
    assert text == (rest if name is None else f"{name}={rest}")
    with suppress(ValueError):
        assert 0 <= parse_duration(text) < float("inf")
    with suppress(ValueError):
        host, port = parse_address(text)
        assert host in text
        host.encode("idna")
        assert 0 <= port < 65536


def _mistake(take: Callable[[], object], kind: type[Exception]) -> Exception | None:
    """Return the mistake of that kind that something is, None if it is none; it is told in one line."""
    try:
        take()
    except kind as mistake:
        # What a flag quotes of its value the program makes printable.
        text = "x" if isinstance(mistake, click.BadParameter) else str(mistake)
        found = mistake
    else:
        return None
    assert is_one_line(text)
    return found


def _lines(data: bytes) -> int:
    """Return how many ends of lines there are at most, with those that only YAML knows."""
    return sum(data.count(each.encode()) for each in "\n\r\x85\u2028\u2029")


@cache
def _options() -> dict[str, Option]:
    return {key: option for _, command in walk(main, "") for key, option in file.settings(command).items()}


@cache
def _one_of_each_type() -> tuple[click.Parameter, ...]:
    found: dict[Any, click.Parameter] = {}
    for _, command in walk(main, ""):
        for param in command.params:
            parse = getattr(param.type, "_parse", param.type.to_info_dict())
            found.setdefault(str(parse), param)
    return tuple(found.values())


def _examples(*places: str) -> list[bytes]:
    return [(ROOT / place).read_bytes() for place in places]


def _config_files() -> list[bytes]:
    return [
        *_examples("deploy/qmail-exporter.example.yml"),
        b"qmail:\n  queue: [a=/q1, /q2]\n  log:\n    a: journal:qmail-send\nhook.cooldown: 10m\n",
        b"web.listen-address:\n- ':10225'\n- '[::1]:1'\nhook: {tcpok: yes, command: 'a b'}\n",
        b'web.telemetry-path: "/\\x41\\u0042\\U00000043"\n? qmail.home\n: |\n  /var\n',
        b"%YAML 1.2\n---\n!!str qmail.home: !!int 7\n...\n",
    ]


def _web_configs() -> list[bytes]:
    hashed = b"$2b$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"
    return [
        *_examples("deploy/web/web.example.yml"),
        b"basic_auth_users:\n  alice: " + hashed + b"\nrate_limit: {interval: 1s, burst: 2}\n",
        (
            b"tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequireAndVerifyClientCert\n"
            b"  client_ca_file: c\n  client_allowed_sans: [x]\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n"
            b"  curve_preferences: [X25519]\n  min_version: TLS12\n"
        ),
        b'http_server_config:\n  http2: off\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: "\\x41"\n',
        b"%YAML 1.2\n---\n? [a]\n: &b !!str c\n",
    ]


def _values() -> list[bytes]:
    texts = (
        "1h30m;0.5;90;10ms;1w2d;:10225;[::1]:80;a.b:65535;/metrics;q1=/var/qmail/queue;journal:qmail-send;"
    )
    return [
        *texts.encode().split(b";"),
        b"info",
        b"yes",
        b"a 'b c' \"d\"",
        b"x=journal:A=b",
        b"1467090",
        b"\xff",
    ]


TARGETS = {
    "config-file": Target(config_file, _config_files),
    "web-config": Target(web_config, _web_configs),
    "value": Target(value, _values),
}
