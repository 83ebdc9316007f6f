import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qmail_exporter.cli import main
from qmail_exporter.config import Config, HookConfig

UNITS = Path(__file__).parent.parent / "deploy/systemd"
SCORES = {
    "qmail-exporter.service": 1.5,
    "qmail-exporter-tcpok@.service": 0.2,
    "qmail-exporter-redeliver@.service": 0.4,
    "qmail-exporter-expire-bounces.service": 0.2,
}
"""What `systemd-analyze security` says, from 0 (nothing that could be broken into) to 10, with systemd 252."""
DROP_IN = Path("qmail-exporter.service.d/socket.conf")
SOCKETS = {"tcpok": "qmailr", "redeliver": "qmails"}
OURS = [
    *SCORES,
    "qmail-exporter.socket",
    *(f"qmail-exporter-{name}.socket" for name in SOCKETS),
    "qmail-exporter-expire-bounces.timer",
]


@pytest.fixture(scope="module")
def analyze() -> str:
    """Return systemd-analyze."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return program


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with a program that is there: verify looks for it."""
    for name in OURS:
        text = (UNITS / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/bin/qmail-exporter", "/bin/true"))
    shutil.copytree(UNITS / DROP_IN.parent, tmp_path / DROP_IN.parent)
    return tmp_path


class Unit(configparser.ConfigParser):
    """A unit file, of a key that is given twice the last value; upper and lower case differ."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.read_string((UNITS / name).read_text())

    def optionxform(self, optionstr: str) -> str:
        """Keep a key as it is."""
        return optionstr


@pytest.mark.parametrize("name", OURS)
def test_units_verify(name: str, installed: Path, analyze: str) -> None:
    """Verify has nothing to say against any of them."""
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(installed / name)],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize(("name", "most"), SCORES.items())
def test_units_expose_little(name: str, most: float, installed: Path, analyze: str) -> None:
    """The exposure is what it was when it was looked at; a newer systemd may know of more to forbid."""
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(installed / name)],
        capture_output=True,
        check=False,
    )
    found = re.search(rb"Overall exposure level .*: ([0-9.]+) ", done.stdout)
    if found is None:
        pytest.skip(
            f"systemd-analyze security does not work here: {done.stderr.decode(errors='replace')[:200]}"
        )
    assert float(found[1]) <= most


@pytest.mark.parametrize(("name", "user"), SOCKETS.items())
def test_socket_units_are_where_the_hook_looks(name: str, user: str) -> None:
    """Each listens at the hook's path for the group alone, one connection at a time, and its service reads nothing from it."""
    socket, service = (
        Unit(f"qmail-exporter-{name}.socket")["Socket"],
        Unit(f"qmail-exporter-{name}@.service")["Service"],
    )
    assert socket["ListenStream"] == f"{HookConfig().sockets}/{name}.sock"
    assert (socket["Accept"], socket["MaxConnections"], socket["SocketMode"]) == ("yes", "1", "0660")
    assert int(socket["TriggerLimitBurst"]) < int(socket["TriggerLimitIntervalSec"])
    assert (service["StandardInput"], service["StandardOutput"]) == ("null", "socket")
    assert (service["User"], service["Group"], service["CapabilityBoundingSet"]) == (user, "qmail", "")
    assert service["ExecStart"] == f"/usr/local/bin/qmail-exporter {name} --exit-status"


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("qmail-exporter-tcpok@.service", "/var/qmail/queue/lock"),
        ("qmail-exporter-redeliver@.service", None),
        ("qmail-exporter-expire-bounces.service", "/var/qmail/queue/info"),
    ],
)
def test_services_write_where_they_must(name: str, paths: str | None) -> None:
    """All of the file system is read-only to them, but for the one directory whose files they change."""
    service = Unit(name)["Service"]
    assert service["ProtectSystem"] == "strict"
    assert service.get("ReadWritePaths") == paths


def test_timer_starts_its_service() -> None:
    """The timer's service has its name, and runs the command."""
    assert Unit("qmail-exporter-expire-bounces.timer")["Timer"]["OnCalendar"] == "hourly"
    service = Unit("qmail-exporter-expire-bounces.service")["Service"]
    assert service["ExecStart"].startswith("/usr/local/bin/qmail-exporter expire-bounces --older-than ")


def test_the_exporter_is_watched() -> None:
    """The service says when it is ready, is restarted when it hangs or fails, and runs as who may read the queue, with no right besides."""
    service = Unit("qmail-exporter.service")["Service"]
    assert (service["Type"], service["Restart"], service["WatchdogSec"]) == ("notify", "on-failure", "60")
    assert (service["User"], service["Group"], service["CapabilityBoundingSet"]) == ("qmails", "qmail", "")
    assert service["ExecStart"] == "/usr/local/bin/qmail-exporter serve"
    assert service["ProtectSystem"] == "strict"
    assert "ReadWritePaths" not in service


def test_the_exporters_socket() -> None:
    """The socket has the port that the exporter would have, and the drop-in has it taken from systemd, by a variable that is a flag's."""
    port = Config().listen[0].removeprefix(":")
    assert Unit("qmail-exporter.socket")["Socket"]["ListenStream"] == port
    drop_in = Unit(str(DROP_IN))
    assert drop_in["Unit"]["Requires"] == "qmail-exporter.socket"
    variable, _, value = drop_in["Service"]["Environment"].partition("=")
    [flag] = [flag for flag in main.commands["serve"].params if flag.envvar == variable]
    assert (flag.name, flag.type.convert(value, None, None)) == ("systemd_socket", True)
