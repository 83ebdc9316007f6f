import configparser
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Parameter

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
DROP_INS = {"socket": 1.5, "tls": 1.5, "log-group": 1.6, "log-closed": 1.8, "own-user": 1.8}
"""The exporter's exposure with each of them."""
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
    return tmp_path


@pytest.fixture(params=DROP_INS)
def dropped_in(request: pytest.FixtureRequest, installed: Path) -> str:
    """The name of a drop-in that is installed beside the units."""
    place = installed / "qmail-exporter.service.d"
    place.mkdir()
    shutil.copy(UNITS / f"drop-ins/{request.param}.conf", place)
    return str(request.param)


class Unit(configparser.ConfigParser):
    """A unit file, of a key that is given twice the last value; upper and lower case differ."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.read_string((UNITS / name).read_text())

    def optionxform(self, optionstr: str) -> str:
        """Keep a key as it is."""
        return optionstr


def verified(analyze: str, unit: Path) -> tuple[int, bytes]:
    """Return the status of `systemd-analyze verify` and what it says."""
    argv = [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(argv, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


def exposure(analyze: str, unit: Path) -> float:
    """Return the level that `systemd-analyze security` gives."""
    argv = [analyze, "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(argv, capture_output=True, check=False)
    found = re.search(rb"Overall exposure level .*: ([0-9.]+) ", done.stdout)
    if found is None:
        pytest.skip(
            f"systemd-analyze security does not work here: {done.stderr.decode(errors='replace')[:200]}"
        )
    return float(found[1])


@pytest.mark.parametrize("name", OURS)
def test_units_verify(name: str, installed: Path, analyze: str) -> None:
    """Verify has nothing to say against any of them."""
    assert verified(analyze, installed / name) == (0, b"")


@pytest.mark.parametrize(("name", "most"), SCORES.items())
def test_units_expose_little(name: str, most: float, installed: Path, analyze: str) -> None:
    """The exposure is what it was when it was looked at; a newer systemd may know of more to forbid."""
    assert exposure(analyze, installed / name) <= most


def test_drop_ins(dropped_in: str, installed: Path, analyze: str) -> None:
    """With any drop-in the exporter's unit verifies, and its exposure is what README.md says."""
    unit = installed / "qmail-exporter.service"
    assert verified(analyze, unit) == (0, b"")
    assert exposure(analyze, unit) == DROP_INS[dropped_in]


def test_all_drop_ins_are_tested() -> None:
    """Each drop-in that there is, is in the tests, and README.md says what it is for."""
    assert {path.stem for path in (UNITS / "drop-ins").iterdir()} == set(DROP_INS)
    readme = (UNITS / "README.md").read_text()
    assert [name for name in DROP_INS if f"`{name}.conf`" not in readme] == []


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
    drop_in = Unit("drop-ins/socket.conf")
    assert drop_in["Unit"]["Requires"] == "qmail-exporter.socket"
    variable, _, value = drop_in["Service"]["Environment"].partition("=")
    flag = serve_flag(variable)
    assert (flag.name, flag.type.convert(value, None, None)) == ("systemd_socket", True)


def serve_flag(variable: str) -> Parameter:
    """Return the flag of `serve` that a variable of the environment is."""
    [flag] = [flag for flag in main.commands["serve"].params if flag.envvar == variable]
    return flag


def test_credentials_are_found() -> None:
    """The drop-in for TLS names the file of --web.config.file among the credentials that it loads."""
    text = (UNITS / "drop-ins/tls.conf").read_text()
    loaded = re.findall(r"^LoadCredential=(\S+):/etc/qmail-exporter/\1$", text, re.MULTILINE)
    [(variable, name)] = re.findall(r"^Environment=(\w+)=%d/(\S+)$", text, re.MULTILINE)
    assert serve_flag(variable).name == "web_config"
    assert {name, *re.findall(r"^#\s+(?:cert|key)_file: (\S+)$", text, re.MULTILINE)} == set(loaded)


def test_the_environment_file() -> None:
    """Each variable of the environment file is a setting, takes the value that stands there, and is commented out."""
    settings = {option.envvar: option for option in main.commands["serve"].params} | {
        "QMAIL_EXPORTER_CONFIG_FILE": None
    }
    lines = (UNITS / "qmail-exporter.default").read_text().splitlines()
    shown = [
        line.removeprefix("#").partition("=")[::2] for line in lines if line.startswith("#QMAIL_EXPORTER_")
    ]
    assert len(shown) > 5
    assert [line for line in lines if line and not line.startswith("#")] == []
    for variable, value in shown:
        option = settings[variable]
        if option is not None:
            assert option.type.convert(value, option, None) is not None


# --- logs that the exporter's user may not read


@pytest.fixture
def closed_log() -> Iterator[Path]:
    """A log directory that only its owner may look into, below ones that all may pass; the log in it may be read by all."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        log = Path(top) / "send"
        log.mkdir()
        (log / "current").write_text("")
        (log / "current").chmod(0o644)
        os.chown(log, 4001, 4002)
        log.chmod(0o700)
        yield log


def can_read(log: Path, *rights: str) -> bool:
    """Tell whether user 4003, given these arguments of setpriv, may list the directory and read the log."""
    user = ["--reuid=4003", "--regid=4003", *(rights or ("--clear-groups",))]
    tried = ["sh", "-c", 'ls "$0" && cat "$0/current"', str(log)]
    return subprocess.run(["setpriv", *user, *tried], capture_output=True, check=False).returncode == 0


def test_a_closed_log_and_its_group(closed_log: Path) -> None:
    """SupplementaryGroups= gives a closed log directory only where its group may read it."""
    assert not can_read(closed_log)
    assert not can_read(closed_log, "--groups=4002")
    closed_log.chmod(0o750)
    assert can_read(closed_log, "--groups=4002")


def test_a_closed_log_and_an_entry(closed_log: Path) -> None:
    """An entry for the user on the directory alone gives it."""
    if subprocess.run(
        ["setfacl", "-m", "u:4003:rx", str(closed_log)], check=False, capture_output=True
    ).returncode:
        pytest.skip("no access control lists here")
    assert can_read(closed_log)


def test_a_closed_log_and_the_capability(closed_log: Path) -> None:
    """CAP_DAC_READ_SEARCH, as systemd gives it to a user, opens it, whatever its mode."""
    capability = "+dac_read_search"
    given = (f"--inh-caps={capability}", f"--ambient-caps={capability}", f"--bounding-set=-all,{capability}")
    assert can_read(closed_log, "--clear-groups", *given)
