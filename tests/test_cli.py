import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from qmail_exporter import __version__, cli, logfmt
from qmail_exporter.config import Config, HookConfig, LogSpec, QueueSpec
from qmail_exporter.web.server import ListenError

Capture = pytest.CaptureFixture[str]
Answer = Callable[..., object]

DAEMON = "qmail_exporter.daemon"
DEMO = "qmail_exporter.demo.play"


@pytest.fixture(autouse=True)
def levels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Leave logging as it is, and return the levels and formats that it would have been set to."""
    configured: list[str] = []
    monkeypatch.setattr(logfmt, "configure", lambda level, fmt: configured.extend((level, fmt)))
    return configured


def replace(monkeypatch: pytest.MonkeyPatch, name: str, answer: Answer) -> None:
    """Put a module whose `run` calls `answer` in the place of the package's module `name`."""

    async def run(*args: Any, **settings: Any) -> object:
        return answer(*args, **settings)

    module = ModuleType(name)
    monkeypatch.setattr(module, "run", run, raising=False)
    package, _, last = name.rpartition(".")
    monkeypatch.setattr(importlib.import_module(package), last, module, raising=False)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Return the settings that the daemon was run with."""
    configs: list[Config] = []
    replace(monkeypatch, DAEMON, configs.append)
    return configs


def run(*argv: str) -> int:
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        cli.main(argv, prog_name="qmail-exporter")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refusal(capsys: Capture, *argv: str) -> str:
    """Run a command that is refused, and return its one line."""
    assert run(*argv) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    return captured.err.rstrip("\n")


def test_serve_without_flags(served: list[Config], levels: list[str]) -> None:
    """The flags' defaults are those of Config."""
    assert run("serve") == 0
    assert served == [Config()]
    assert levels == ["info", "logfmt"]


def test_serve_with_all_flags(served: list[Config], levels: list[str]) -> None:
    """Each flag sets what it says."""
    flags = (
        "--qmail.home=/opt/qmail --qmail.queue=a=/a/queue --qmail.queue=/b/queue --qmail.log=a=/var/log/a"
        " --qmail.log=journal:qmail-send.service --queue.rescan-interval=30m --domains.max=5"
        " --web.listen-address=127.0.0.1:1 --web.listen-address=[::1]:2 --web.telemetry-path=/m --web.max-requests=0"
        " --web.scrape-budget=0.25 --log.level=debug --log.format=json"
    )
    assert run("serve", *flags.split()) == 0
    assert served == [
        Config(
            home=Path("/opt/qmail"),
            queues=(QueueSpec("a", Path("/a/queue")), QueueSpec("queue", Path("/b/queue"))),
            logs=(LogSpec("a", "/var/log/a"), LogSpec(None, "journal:qmail-send.service")),
            listen=("127.0.0.1:1", "[::1]:2"),
            telemetry_path="/m",
            max_requests=0,
            domains_max=5,
            rescan_interval=1800,
            scrape_budget=0.25,
            log_level="debug",
            log_format="json",
        )
    ]
    assert levels == ["debug", "json"]


def test_serve_by_the_environment(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flag has a variable, several values are separated by spaces, and a flag given comes before it."""
    for name, value in {
        "QMAIL_HOME": "/opt/qmail",
        "QMAIL_QUEUE": "/x/queue1 /x/queue2",
        "QMAIL_LOG": "queue1=/l",
        "QUEUE_RESCAN_INTERVAL": "0",
        "DOMAINS_MAX": "7",
        "WEB_LISTEN_ADDRESS": ":1 :2",
        "WEB_TELEMETRY_PATH": "/m",
        "WEB_MAX_REQUESTS": "3",
        "WEB_SCRAPE_BUDGET": "1s",
        "LOG_LEVEL": "error",
        "LOG_FORMAT": "json",
    }.items():
        monkeypatch.setenv(f"QMAIL_EXPORTER_{name}", value)
    assert run("serve", "--web.max-requests=4") == 0
    assert served == [
        Config(
            home=Path("/opt/qmail"),
            queues=(QueueSpec("queue1", Path("/x/queue1")), QueueSpec("queue2", Path("/x/queue2"))),
            logs=(LogSpec("queue1", "/l"),),
            listen=(":1", ":2"),
            telemetry_path="/m",
            max_requests=4,
            domains_max=7,
            rescan_interval=0,
            scrape_budget=1,
            log_level="error",
            log_format="json",
        )
    ]


def test_serve_by_a_file(served: list[Config], levels: list[str], tmp_path: Path) -> None:
    """A file sets all that flags do."""
    file = tmp_path / "settings.yml"
    file.write_text(
        """
        qmail: {home: /opt/qmail, queue: {a: /a/queue, b: /b/queue}, log: {a: /var/log/a}}
        queue: {rescan-interval: 30m}
        domains: {max: 5}
        web:
          listen-address: ["127.0.0.1:1", "[::1]:2"]
          telemetry-path: /m
          max-requests: 0
          config.file: /etc/web.yml
          scrape-budget: 0.25
        double-bounces: {log: {b: /var/log/double}}
        hook: {tcpok: true, redeliver: true, dry-run: true, probe: false, command: /x 'a b', cooldown: 1h, timeout: 5,
               sockets: /s}
        log: {level: debug, format: json}
        """
    )
    assert run("serve", f"--config.file={file}", "--no-hook.redeliver") == 0
    assert served == [
        Config(
            home=Path("/opt/qmail"),
            queues=(QueueSpec("a", Path("/a/queue")), QueueSpec("b", Path("/b/queue"))),
            logs=(LogSpec("a", "/var/log/a"),),
            listen=("127.0.0.1:1", "[::1]:2"),
            telemetry_path="/m",
            max_requests=0,
            domains_max=5,
            rescan_interval=1800,
            scrape_budget=0.25,
            web_config=Path("/etc/web.yml"),
            double_bounces=LogSpec("b", "/var/log/double"),
            hook=HookConfig(
                tcpok=True,
                command=("/x", "a b"),
                cooldown=3600,
                probe=False,
                dry_run=True,
                timeout=5,
                sockets="/s",
            ),
            log_level="debug",
            log_format="json",
        )
    ]
    assert levels == ["debug", "json"]


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_systemd_socket(served: list[Config], monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """With systemd's sockets there are no addresses."""
    if by == "environment":
        monkeypatch.setenv("QMAIL_EXPORTER_WEB_SYSTEMD_SOCKET", "1")
    assert run("serve", *(["--web.systemd-socket"] if by == "flag" else [])) == 0
    assert served == [Config(systemd_socket=True, listen=())]


@pytest.mark.parametrize("code", [0, 1, 3])
def test_exit_status_of_the_daemon(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The daemon's result is the exit status."""
    replace(monkeypatch, DAEMON, lambda _: code)
    assert run("serve") == code


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("", "Missing command."),
        ("serve --qmail.queue=a=/x --qmail.queue=a=/y", "queue name 'a' is given 2 times."),
        (
            "serve --qmail.queue=a=/x --qmail.log=b=/y",
            "log '/y' is for queue 'b', and there is no queue of that name.",
        ),
        (
            "serve --web.listen-address=[::1]",
            "Invalid value for '--web.listen-address': '[::1]' is no address: write HOST:PORT, [IPv6]:PORT or :PORT.",
        ),
        (
            "serve --queue.rescan-interval=soon",
            "Invalid value for '--queue.rescan-interval': 'soon' is no duration such as 90, 30m or 1h30m.",
        ),
        (
            "demo --demo.duration=1h30",
            "Invalid value for '--demo.duration': '1h30' is no duration such as 90, 30m or 1h30m.",
        ),
        (
            "serve --web.telemetry-path=metrics",
            "Invalid value for '--web.telemetry-path': 'metrics' is no path such as /metrics.",
        ),
    ],
)
def test_wrong_usage(capsys: Capture, argv: str, line: str) -> None:
    """A mistake is told in one line with the command's help to look at, and exit status 2."""
    command = " ".join(["qmail-exporter", *argv.split()[:1]])
    assert refusal(capsys, *argv.split()) == f"qmail-exporter: {line} See '{command} --help'."


@pytest.mark.parametrize(
    "argv",
    [
        "nothing",
        "serve --nothing",
        "serve more",
        "serve --web.max-requests=-1",
        "serve --log.level=loud",
        "demo --demo.rate=0",
    ],
)
def test_other_wrong_usage(capsys: Capture, argv: str) -> None:
    """The mistakes that click finds are told in the same way."""
    assert refusal(capsys, *argv.split()).startswith("qmail-exporter: ")


def test_hostile_arguments(capsys: Capture) -> None:
    """An argument is not repeated to the terminal with its control characters."""
    assert refusal(capsys, "\x1b[2J\nx").isprintable()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ListenError("cannot listen on :1: Permission denied"), "cannot listen on :1: Permission denied"),
        (PermissionError(13, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'"),
        (click.ClickException("not now"), "not now"),
        (KeyError("x"), "internal error: KeyError: 'x' (--log.level=debug shows more)"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_failure(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: str, error: Exception, line: str
) -> None:
    """Whatever a command fails with is one line, without a traceback, and exit status 1."""

    def fail(*_: object, **__: object) -> None:
        raise error

    replace(monkeypatch, {"serve": DAEMON, "demo": DEMO}[command], fail)
    assert run(command) == 1
    assert capsys.readouterr().err == f"qmail-exporter: {line}\n"


def test_failure_at_debug(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """At the level debug a failure's traceback is in the log."""
    caplog.set_level("DEBUG")
    nothing: dict[Config, int] = {}
    replace(monkeypatch, DAEMON, nothing.__getitem__)
    assert run("serve") == 1
    [record] = [record for record in caplog.records if record.name == "qmail_exporter.cli"]
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


@pytest.mark.parametrize("kind", [KeyboardInterrupt, click.Abort])
def test_interrupt(capsys: Capture, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    """Ctrl-C ends a command without a word, with the exit status that shells give to SIGINT."""

    def interrupt(_: Config) -> None:
        raise kind

    replace(monkeypatch, DAEMON, interrupt)
    assert run("serve") == 130
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the settings that the demo was run with; `there` says whether its home was there."""
    demos: list[dict[str, Any]] = []
    replace(
        monkeypatch, DEMO, lambda **settings: demos.append({**settings, "there": settings["home"].is_dir()})
    )
    return demos


def test_demo(shown: list[dict[str, Any]], levels: list[str]) -> None:
    """Without flags a demo runs in a directory of its own, which is gone afterwards, and logs warnings only."""
    assert run("demo") == 0
    [settings] = shown
    home = settings.pop("home")
    assert settings == {
        "listen": ("127.0.0.1:10225",),
        "rate": 5.0,
        "duration": 0.0,
        "seed": 1,
        "there": True,
    }
    assert not home.exists()
    assert levels == ["warn", "logfmt"]


def test_demo_with_all_flags(shown: list[dict[str, Any]], tmp_path: Path) -> None:
    """A directory that is named is made, and kept."""
    home = tmp_path / "a/b"
    flags = "--web.listen-address=:1 --demo.rate=0.5 --demo.duration=1m --demo.seed=-3"
    assert run("demo", *flags.split(), f"--demo.dir={home}") == 0
    assert shown == [
        {"home": home, "listen": (":1",), "rate": 0.5, "duration": 60.0, "seed": -3, "there": True}
    ]
    assert home.is_dir()


def test_demo_removes_its_directory_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary directory is removed however the demo ends."""
    homes: list[Path] = []

    def interrupt(home: Path, **_: object) -> None:
        homes.append(home)
        raise KeyboardInterrupt

    replace(monkeypatch, DEMO, interrupt)
    assert run("demo") == 130
    assert not homes[0].exists()


def test_demo_keeps_off_a_queue(capsys: Capture, shown: list[dict[str, Any]], tmp_path: Path) -> None:
    """A directory with anything in it is refused, and not touched."""
    (tmp_path / "queue").mkdir()
    line = f"Invalid value for '--demo.dir': {tmp_path} is not empty. See 'qmail-exporter demo --help'."
    assert refusal(capsys, "demo", f"--demo.dir={tmp_path}") == f"qmail-exporter: {line}"
    assert shown == []
    assert list(tmp_path.iterdir()) == [tmp_path / "queue"]


def test_version(capsys: Capture) -> None:
    """The version is on one line of its own."""
    assert run("--version") == 0
    assert capsys.readouterr().out == f"qmail-exporter {__version__}\n"


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["serve", "--help"], ["demo", "-h"]])
def test_help(capsys: Capture, argv: list[str]) -> None:
    """Help is on stdout, and names every command or flag with a text."""
    assert run(*argv) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Usage: qmail-exporter ")
    assert captured.err == ""


def test_help_is_quick() -> None:
    """What only a running command needs is not imported for its help."""
    code = (
        "import sys\n"
        "from qmail_exporter import cli\n"
        "try:\n    cli.main(['serve', '--help'])\n"
        "except SystemExit:\n    print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {
        "asyncio",
        "hypercorn",
        "psutil",
        "pyinotify",
        "rich",
        "yaml",
        "prometheus_client",
        "qmail_exporter.daemon",
    }
    assert heavy & set(done.stderr.split()) == set()


def test_module() -> None:
    """`python -m qmail_exporter` is the same command."""
    argv = [sys.executable, "-m", "qmail_exporter", "serve", "--nothing"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("qmail-exporter: No such option")
