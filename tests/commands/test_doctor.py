import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.examine import access, reader, units, user
from qmail_exporter.examine import home as installed
from rig import Rig
from stage import Command, Done, in_terminal

MakeRig = Callable[..., Rig]
DEPLOY = Path(__file__).parents[2] / "deploy" / "systemd"
_NOBODY = 65534
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def furnished(made: Rig) -> Rig:
    """Give a simulated qmail all the modes that hier.c gives, and some mail."""
    for path in (made.queue, *made.queue.rglob("*")):
        if path.is_dir():
            area = path.relative_to(made.queue).parts[:1]
            path.chmod(0o750 if area in {(), ("mess",), ("todo",), ("lock",)} else 0o700)
    made.send(b"defer@a.example", b"fail@b.example")
    made.send(b"defer@c.example", sender=b"")
    made.qmail.run_until(made.clock.now + 10)
    made.send(b"x@todo.example")
    return made


@pytest.fixture
def whole(rig: MakeRig) -> Rig:
    """A simulated qmail as a real one would be."""
    return furnished(rig())


@pytest.fixture
def public(rig: MakeRig) -> Iterator[Rig]:
    """The same, in a directory that any user may pass."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        made = furnished(rig(home=Path(directory) / "home"))
        made.home.chmod(0o755)
        yield made


def examine(command: Command, rig: Rig, *words: object) -> Done:
    return command("doctor", "--qmail.home", rig.home, "--qmail.log", rig.home / "log", *words)


def wrong(done: Done) -> list[dict[str, Any]]:
    """The findings that are bad, but that others cannot run this Python."""
    return [each for each in done.objects if each["level"] == "bad" and each["subject"] != "program"]


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything that reading the wrong way would change."""
    found: dict[str, tuple[int, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        atime = status.st_atime_ns if path.is_relative_to(root / "queue" / "mess") and path.is_file() else 0
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, atime)
    return found


def test_whole_queue(whole: Rig, command: Command) -> None:
    """Of a queue as qmail leaves it nothing is wrong, and nothing is changed: no file, and no message's access time."""
    before = snapshot(whole.home)
    done = examine(command, whole, "--json")
    assert (done.code, wrong(done)) == (0, [])
    texts = {each["subject"]: each["text"] for each in done.objects if each["level"] == "ok"}
    assert texts["queue default"] == "3 messages, and every file is as it should be"
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert texts["log"] == f"{whole.home}/log: written by multilog or svlogd, with TAI64N (as {me})"
    assert snapshot(whole.home) == before


def test_lines_for_people(whole: Rig, command: Command) -> None:
    """Each finding is one line of printable ASCII that begins with its level."""
    done = examine(command, whole)
    assert done.out.isascii()
    assert all(
        line.split()[0] in ("ok", "warn", "bad") and line.isprintable() for line in done.out.splitlines()
    )
    assert done.err == ""


def test_lines_in_a_terminal(whole: Rig) -> None:
    """In a terminal levels are coloured, unless NO_COLOR or a dumb terminal forbids it, and a fix has a line of its own."""
    nothing = whole.home / "nothing"
    (whole.home / "control").chmod(0)
    argv = ("doctor", f"--qmail.home={whole.home}", f"--qmail.log={nothing}", "--no-queue-check")
    shown = in_terminal(80, *argv, colours=True, code=1)
    assert re.search(r"(?m)^\x1b\[31m\x1b\[1mbad \x1b\[0m log ", shown)
    for way in ({"NO_COLOR": ""}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = in_terminal(80, *argv, colours=True, code=1, **way)
        assert "\x1b" not in plain
        assert f"bad  log               {nothing}: there is no such log (as " in plain
    if os.geteuid() == 0:
        closed = in_terminal(80, *argv, "--user=nobody", code=1)
        fix = re.search(r"(?m)^ {23}fix: (\S.*)$", closed)
        assert fix is not None
        assert "qmail-exporter" in fix[1] or "-m qmail_exporter" in fix[1]


def a_message(rig: Rig) -> int:
    """A message that is preprocessed."""
    return min(int(path.name) for path in (rig.queue / "info").rglob("*") if path.is_file())


def _no_mess(rig: Rig) -> None:
    rig.qmail.path("mess", a_message(rig)).unlink()


def _no_info(rig: Rig) -> None:
    rig.qmail.path("info", a_message(rig)).unlink()


def _intd_left(rig: Rig) -> None:
    (rig.queue / "intd" / str(a_message(rig))).touch()


def _bounce_early(rig: Rig) -> None:
    todo = next((rig.queue / "todo").iterdir())
    (rig.queue / "bounce" / todo.name).touch(0o600)


def _copied(rig: Rig) -> None:
    path = rig.qmail.path("mess", a_message(rig))
    keep = path.with_name("copy")
    shutil.copy(path, keep)
    keep.replace(path)


def _misplaced(rig: Rig) -> None:
    path = rig.qmail.path("info", a_message(rig))
    path.rename(path.parents[1] / str((int(path.name) + 1) % 3) / path.name)


def _foreign(rig: Rig) -> None:
    (rig.queue / "mess/0/\x1b[2Jcore").touch()


def _foreign_top(rig: Rig) -> None:
    (rig.queue / "lost+found").mkdir()


def _symlink(rig: Rig) -> None:
    path = rig.qmail.path("info", a_message(rig))
    path.unlink()
    path.symlink_to("/etc/passwd")


def _writable(rig: Rig) -> None:
    rig.qmail.path("remote", a_message(rig)).chmod(0o666)


def _open_directory(rig: Rig) -> None:
    (rig.queue / "info/1").chmod(0o755)


def _no_fifo(rig: Rig) -> None:
    (rig.queue / "lock/trigger").unlink()
    (rig.queue / "lock/trigger").touch()


def _no_mutex(rig: Rig) -> None:
    (rig.queue / "lock/sendmutex").unlink()


def _other_split(rig: Rig) -> None:
    (rig.queue / "local/3").mkdir(0o700)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (_no_mess, "files without a mess file (1): message "),
        (_no_info, "recipients or a bounce without info (1): message "),
        (_intd_left, "an intd file after preprocessing (1): message "),
        (_bounce_early, "a bounce file beside todo (1): message "),
        (_copied, "not named by its inode number (1): mess/"),
        (_misplaced, "in the wrong numbered directory (1): info/"),
        (_foreign, "foreign to a queue (1): mess/0/\\x1b[2Jcore"),
        (_foreign_top, "foreign to a queue (1): lost+found"),
        (_symlink, "no regular file (1): info/"),
        (_writable, "writable by others than its owner (1): remote/"),
        (_open_directory, "mode 0755 lets others in; it should be 0700 (1): info/1"),
        (_no_fifo, "no FIFO (1): lock/trigger"),
        (_no_mutex, "missing (1): lock/sendmutex"),
        (_other_split, "foreign to a queue (1): local/3"),
    ],
)
def test_faults(whole: Rig, command: Command, spoil: Callable[[Rig], None], text: str) -> None:
    """Each thing that qmail would not leave so is found and named, and nothing of it is changed."""
    whole.qmail.kill()
    spoil(whole)
    before = snapshot(whole.home)
    done = examine(command, whole, "--json")
    texts = [
        each["text"].replace("\x1b", "\\x1b") for each in wrong(done) if each["subject"] == "queue default"
    ]
    assert any(found.startswith(text) for found in texts), texts
    assert snapshot(whole.home) == before
    assert "\x1b" not in examine(command, whole).out


@ROOT
def test_wrong_owner(whole: Rig, command: Command) -> None:
    """A file that belongs to another user than its area does is found."""
    os.chown(whole.qmail.path("info", a_message(whole)), 12345, -1)
    assert [each["text"].partition(":")[0] for each in wrong(examine(command, whole, "--json"))] == [
        "of the wrong owner (1)"
    ]


def test_many_faults_are_one_line(whole: Rig, command: Command) -> None:
    """Of many faults of one kind the number and three examples are shown."""
    for number in range(10):
        (whole.queue / "mess/1" / f"x{number}").touch()
    texts = [each["text"] for each in wrong(examine(command, whole, "--json"))]
    assert len(texts) == 1
    assert texts[0].startswith("foreign to a queue (10): mess/1/x")
    assert texts[0].endswith(" and 7 more")


def test_orphans(whole: Rig, command: Command) -> None:
    """A message that was never finished, and not read for 36 hours, is told of, but is nothing wrong; a younger one is not."""
    old, new = whole.send(b"x@a.example"), whole.send(b"x@a.example")
    for msg in (old, new):
        whole.qmail.path("todo", msg).unlink()
    for msg, age in ((old, 40), (new, 30)):
        os.utime(whole.qmail.path("mess", msg), (time.time() - age * 3600,) * 2)
    done = examine(command, whole, "--json")
    told = [each["text"] for each in done.objects if "never finished" in each["text"]]
    assert told == [f"never finished, which qmail-send will remove (1): message {old}"]
    assert (done.code, wrong(done)) == (0, [])


def test_busy_queue_has_no_faults(whole: Rig, command: Command) -> None:
    """A queue at which qmail is at work in each of its steps is never said to be broken."""
    for _ in range(8):
        whole.send(b"ok@a.example", b"fail@b.example", b"defer@c.example")
        whole.qmail.pump(7)
        assert wrong(examine(command, whole, "--json")) == []


# --- what serve would see


def test_no_log(whole: Rig, command: Command) -> None:
    """Without the log serve would not see everything: status 1, and what to do."""
    done = command("doctor", "--qmail.home", whole.home, "--qmail.log", whole.home / "nothing", "--json")
    assert done.code == 1
    assert [each["text"].partition(": ")[2].partition(" (")[0] for each in wrong(done)] == [
        "there is no such log"
    ]


def test_log_of_another_program(whole: Rig, command: Command) -> None:
    """A log without a line of qmail-send's is none."""
    other = whole.home / "other.log"
    other.write_bytes(b"Nov 22 10:45:41 host sshd[1]: hello\n" * 5)
    done = command("doctor", "--qmail.home", whole.home, "--qmail.log", other, "--json")
    assert done.code == 1
    assert "none of 5 lines is qmail-send's" in wrong(done)[0]["text"]


def test_no_home(command: Command, tmp_path: Path) -> None:
    """Where there is nothing, it says so."""
    done = command("doctor", "--qmail.home", tmp_path / "x", "--qmail.log", tmp_path / "y")
    assert done.code == 1
    assert "is not there: name qmail's home" in done.out
    assert "no queue in" in done.out


def test_wrong_usage(command: Command, tmp_path: Path) -> None:
    """A log of a queue that is not there is wrong usage."""
    words = [f"--qmail.queue={name}={tmp_path}/{name}" for name in "ab"]
    assert command("doctor", *words, f"--qmail.log=c={tmp_path}").code == 2


@ROOT
def test_as_another_user(public: Rig) -> None:
    """As a user who may not read the queue, each source is told of with what would let that user read it."""
    public.queue.chmod(0o755)
    (public.home / "log").chmod(0o700)
    (public.home / "control").chmod(0o700)
    argv = [sys.executable, "-m", "qmail_exporter", "doctor", f"--qmail.home={public.home}", "--user=nobody"]
    argv += [f"--qmail.log={public.home}/log", "--no-queue-check", "--json"]
    run = subprocess.run(argv, capture_output=True, check=False, text=True)
    done = Done(run.returncode, run.stdout, run.stderr)
    assert done.code == 1, done
    found = {each["subject"]: each for each in wrong(done)}
    serve = f"-m qmail_exporter serve --qmail.home={public.home} --qmail.log={public.home}/log"
    assert found["queue default"]["fix"] == f"runuser -u root -- {sys.executable} {serve}"
    assert found["log"]["fix"] == f"setfacl -m u:nobody:rx {public.home}/log"
    assert found["control"]["fix"] == f"setfacl -m u:nobody:rx {public.home}/control"
    assert all(each["text"].endswith(" (as nobody)") for each in found.values())


@ROOT
def test_fix_of_a_log_works(public: Rig) -> None:
    """After the fix that is given, the log can be read."""
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    (public.home / "log").chmod(0o700)
    argv = [sys.executable, "-m", "qmail_exporter", "doctor", f"--qmail.home={public.home}", "--user=nobody"]
    argv += [f"--qmail.log={public.home}/log", "--no-queue-check", "--json"]

    def log() -> dict[str, Any]:
        run = subprocess.run(argv, capture_output=True, check=False, text=True)
        objects = Done(run.returncode, run.stdout, run.stderr).objects
        return next(each for each in objects if each["subject"] == "log")

    before = log()
    assert before["level"] == "bad"
    if subprocess.run(before["fix"].split(), check=False).returncode:
        pytest.skip("the file system has no ACLs")
    assert log()["level"] == "ok"


@ROOT
def test_program_that_another_user_cannot_run(public: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python is closed to the user who is to run `serve`, no right to read anything would help."""
    private = public.home / "private"
    private.mkdir(mode=0o700)
    (private / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(private / "python"))

    def program() -> list[str]:
        exam = access.Exam(public.home / "control", (), (), {})
        found = user.run_as("nobody", lambda: [each.as_dict() for each in access.examine(exam)])
        return [each["text"] for each in found if each["subject"] == "program"]

    (text,) = program()
    assert text.startswith(f"this user cannot run it, for {private}/python is closed: install it where ")
    assert [
        each for each in access.examine(access.Exam(public.home, (), (), {})) if each.subject == "program"
    ] == []


@ROOT
@pytest.mark.parametrize("own", [True, False])
def test_serve_as_the_reader(public: Rig, own: bool) -> None:
    """The command that runs `serve` gives the group of the queue, unless the user has it anyway: that would drop all others."""
    name, number = "daemon", pwd.getpwnam("daemon").pw_uid
    group = pwd.getpwnam("daemon").pw_gid if own else pwd.getpwnam("mail").pw_gid
    os.chown(public.queue / "info", number, -1)
    os.chown(public.queue / "mess", -1, group)
    who = f"runuser -u {name}" if own else f"runuser -u {name} -g mail"
    assert reader.of(str(public.queue)).command("a b", "c") == f"{who} -- 'a b' c"


def test_unknown_user(whole: Rig, command: Command) -> None:
    """A user who is not there is a finding, and no success."""
    done = examine(command, whole, "--user", "no-such-user", "--json")
    assert done.code == 1
    assert [each["text"] for each in wrong(done)] == ["no-such-user: there is no user 'no-such-user'"]


def test_own_user_needs_no_root(whole: Rig, command: Command) -> None:
    """Checking as oneself is what is done anyway."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert examine(command, whole, "--user", name).code == 0


# --- what is installed


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["home/bin/qmail-send"], "netqmail, or qmail 1.03"),
        (["home/bin/qmail-send", "home/doc/INSTALL.md"], "notqmail"),
        (["home/bin/qmail-send", "home/bin/surblqueue", "home/plugins/x"], "sagredo's qmail"),
        (["home/bin/qmail-send", "home/bin/qmail-multi"], "indimail"),
        (["home/bin/qmail-send", "home/bin/qmail-queue-handlers"], "Plesk's qmail"),
        (["home/bin/x"], None),
    ],
)
def test_flavour(tmp_path: Path, paths: list[str], name: str | None) -> None:
    """Which qmail it is, is told by files that only that one has."""
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert installed.flavour(tmp_path / "home", tmp_path) == name


@ROOT
def test_fix_opens_the_whole_way(public: Rig, tmp_path: Path) -> None:
    """One fix is enough where several directories and the file are closed, and it is the command that is printed."""
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    place = public.home / "var" / "log it"
    place.mkdir(parents=True)
    shutil.copy(public.home / "log" / "current", place / "current")
    for path in (place / "current", place, place.parent):
        path.chmod(0o700 if path.is_dir() else 0o600)
    argv = [sys.executable, "-m", "qmail_exporter", "doctor", f"--qmail.home={public.home}", "--user=nobody"]
    argv += [f"--qmail.log={place}", "--no-queue-check"]

    def log() -> str:
        run = subprocess.run(argv, capture_output=True, check=False, text=True)
        return next(line for line in run.stdout.splitlines() if line.split()[1] == "log")

    level, _, fix = log().partition(" - fix: ")
    assert level.startswith("bad ")
    if subprocess.run(fix, shell=True, cwd=tmp_path, check=False).returncode:  # noqa: S602 - as it would be pasted
        pytest.skip("the file system has no ACLs")
    assert log().startswith("ok ")


@ROOT
def test_root_is_told_of_who_may_read_the_queue(public: Rig) -> None:
    """Run by root, without --user, sources are tried as the user who may read the queue as well."""
    for area in ("info", "local", "remote", "bounce"):
        for path in (public.queue / area, *(public.queue / area).rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)
    for path in (public.queue, *public.queue.rglob("*")):
        os.chown(path, -1, _NOBODY)
    (public.home / "log").chmod(0o700)
    argv = [sys.executable, "-m", "qmail_exporter", "doctor", f"--qmail.home={public.home}", "--json"]
    run = subprocess.run(
        [*argv, f"--qmail.log={public.home}/log"], capture_output=True, check=False, text=True
    )
    done = Done(run.returncode, run.stdout, run.stderr)
    assert done.code == 1
    assert [each["fix"] for each in wrong(done)] == [f"setfacl -m u:nobody:rx {public.home}/log"]
    texts = [each["text"] for each in done.objects if each["level"] == "ok"]
    assert "root: serve would see everything" in texts
    assert "nobody: serve would see everything" not in texts
    assert any(text.endswith("all of it can be read (as root, nobody)") for text in texts)


def test_messages_are_not_opened(whole: Rig, tmp_path: Path) -> None:
    """The doctor opens directories of the queue, and of its files none below mess, and nothing to write."""
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=file,desc"]
    if shutil.which("strace") is None or subprocess.run([*strace, "true"], check=False).returncode:
        pytest.skip("needs strace, and that it may trace")
    argv = [sys.executable, "-m", "qmail_exporter", "doctor", f"--qmail.home={whole.home}"]
    done = subprocess.run([*strace, *argv, f"--qmail.log={whole.home}/log"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    # What is opened by a name relative to a directory's descriptor counts as well: no file is a bare number then.
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD|\d+)?,? ?"([^"]*)", ([A-Z_|]+)', trace.read_text())
    queue = [(path, flags) for path, flags in opened if not path.startswith("/") or str(whole.queue) in path]
    assert ("mess/1", "O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY") in queue
    numbered = [(path, flags) for path, flags in queue if re.search(r"(^|/)\d{4,}$", path)]
    assert numbered  # an info file, to see whether its like can be read
    assert not [path for path, _ in numbered if "mess" in path or "/" not in path]
    assert not [path for path, flags in queue if re.search("O_WRONLY|O_RDWR|O_CREAT", flags)]


# --- what starts it


def test_units_of_systemd(tmp_path: Path) -> None:
    """Of the units that are installed it is said whether they are enabled and running, and what to do where not."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    shown = "\n\n".join(
        f"Id={name}\nLoadState={load}\nUnitFileState={enabled}\nActiveState={active}\nSubState={detail}"
        for name, load, enabled, active, detail in (
            ("qmail.service", "not-found", "", "inactive", "dead"),
            ("qmail-send.service", "loaded", "enabled", "active", "running"),
            ("qmail-exporter.service", "loaded", "disabled", "inactive", "dead"),
            ("qmail-exporter-tcpok.socket", "loaded", "enabled", "active", "listening"),
            ("qmail-exporter-expire-bounces.timer", "loaded", "enabled", "failed", "failed"),
        )
    )
    found = units.examine(tmp_path, lambda: shown)
    assert [(each.level, each.text, each.fix) for each in found] == [
        ("ok", "qmail-send.service: enabled, active (running)", None),
        (
            "warn",
            "qmail-exporter.service: disabled, inactive (dead)",
            "systemctl enable --now qmail-exporter.service",
        ),
        ("ok", "qmail-exporter-tcpok.socket: enabled, active (listening)", None),
        (
            "warn",
            "qmail-exporter-expire-bounces.timer: enabled, failed (failed)",
            "systemctl status qmail-exporter-expire-bounces.timer",
        ),
    ]
    assert not any(each.blind for each in found)


def test_units_that_may_be_off(tmp_path: Path) -> None:
    """Nothing is to be done about a socket or timer of the exporter's that nobody enabled, for a package installs them all."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    state = "LoadState=loaded\nUnitFileState={}\nActiveState=inactive\nSubState=dead"
    for name in (path.name for path in DEPLOY.iterdir() if path.suffix in (".socket", ".timer")):
        [off] = units.examine(tmp_path, lambda name=name: f"Id={name}\n{state.format('disabled')}")  # type: ignore[misc]
        [stopped] = units.examine(tmp_path, lambda name=name: f"Id={name}\n{state.format('enabled')}")  # type: ignore[misc]
        assert (off.level, off.fix) == ("ok", None)
        assert (stopped.level, stopped.fix) == ("warn", f"systemctl enable --now {name}")


def test_no_systemd(tmp_path: Path) -> None:
    """Where systemd does not run it is not asked, and nothing is missed; supervised services are named, each once."""
    assert units.examine(tmp_path, lambda: pytest.fail("systemd was asked")) == []
    (tmp_path / "service/qmail-send").mkdir(parents=True)
    (tmp_path / "service/qmail-send/run").touch()
    (tmp_path / "var").mkdir()
    (tmp_path / "var/service").symlink_to("../service")
    assert [each.text for each in units.examine(tmp_path)] == [f"{tmp_path}/service/qmail-send"]


def test_units_are_those_that_are_shipped() -> None:
    """Every unit in deploy/systemd that can be enabled is one that the doctor knows."""
    shipped = [path for path in DEPLOY.iterdir() if path.is_file() and "[Install]" in path.read_text()]
    assert shipped
    assert {path.name for path in shipped} <= set(units.UNITS)


def test_systemctl_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without systemctl nothing is known of units."""
    monkeypatch.setenv("PATH", "")
    assert units.show() == ""
    assert units.parse("") == units.parse("Id=other.service\nLoadState=loaded\n") == []
