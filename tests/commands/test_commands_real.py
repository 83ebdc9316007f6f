"""The commands on a real qmail-send, the one of QMAIL_HOME: its queue must be empty, and it must not be running."""

import fcntl
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import qmail_exporter
from qmail_exporter import actions
from qmail_exporter.double_bounce import parse_entry
from stage import Command, wait_until

pytestmark = [pytest.mark.qmail, pytest.mark.slow]

_CHANGED = ("control", "alias")


class Peer(socketserver.StreamRequestHandler):
    """An SMTP server that defers recipients called `defer…`, refuses those called `fail…`, and takes the others."""

    def handle(self) -> None:
        """Talk until QUIT."""
        self.connection.settimeout(30)
        self.wfile.write(b"220 peer.example ESMTP\r\n")
        while line := self.rfile.readline(2000):
            verb = line[:4].upper()
            self.wfile.write(self.reply(verb, line))
            if verb == b"QUIT":
                return
            if verb == b"DATA":
                while self.rfile.readline(100_000) not in (b".\r\n", b""):
                    pass
                self.wfile.write(b"250 2.0.0 Ok\r\n")

    def reply(self, verb: bytes, line: bytes) -> bytes:
        """The reply to one command."""
        if verb == b"RCPT" and b"<defer" in line:
            return b"451 4.7.1 Greylisted\r\n"
        if verb == b"RCPT" and b"<fail" in line:
            return b"550 5.1.1 No such user here\r\n"
        return {b"DATA": b"354 Go ahead\r\n", b"QUIT": b"221 Bye\r\n"}.get(verb, b"250 Ok\r\n")


class Server(socketserver.ThreadingTCPServer):
    """The SMTP servers' listener."""

    allow_reuse_address = True
    daemon_threads = True


class Real:
    """A running qmail with its log in a file."""

    def __init__(self, home: Path, log: Path) -> None:
        self.home = home
        self.queue = home / "queue"
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start qmail-send; it has its controls from now."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.home / "bin/qmail-start"), "./Mailbox"],
                stdout=log, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True,
                env={"PATH": f"{self.home}/bin:/usr/bin:/bin"},
            )  # fmt: skip
        wait_until(lambda: b"status: local 0/" in self.log())

    def stop(self) -> None:
        """End qmail-send, in its own way first."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait(20)

    def log(self) -> bytes:
        """The log so far."""
        return self._log.read_bytes()

    def send(self, *recipients: bytes, sender: bytes = b"a@mail.test") -> int:
        """Queue a message, wait until qmail-send has tried it, and return its number."""
        before = self.log()
        content, envelope = os.pipe(), os.pipe()
        # qmail-queue reads the message from descriptor 0 and the envelope from descriptor 1.
        process = subprocess.Popen([self.home / "bin/qmail-queue"], stdin=content[0], stdout=envelope[0])
        os.write(content[1], b"Subject: hello\n\nHello.\n")
        os.write(envelope[1], b"F%b\0" % sender + b"".join(b"T%b\0" % each for each in recipients) + b"\0")
        for fd in (*content, *envelope):
            os.close(fd)
        assert process.wait(30) == 0
        wait_until(lambda: re.search(rb"\ndelivery \d+: ", self.log()[len(before) :]))
        found = re.search(rb"new msg (\d+)\n", self.log()[len(before) :])
        assert found is not None
        return int(found[1])

    def attempts(self, msg: int) -> int:
        """How many attempts the log has of a message."""
        return len(re.findall(rb": msg %d to remote " % msg, self.log()))


def refuse_unless_idle(home: Path) -> None:
    """Skip unless there is a qmail that no mail depends on."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start qmail")
    files = [path for path in (home / "queue").rglob("*") if path.is_file() and path.parent.name != "lock"]
    if files:
        pytest.skip(f"the queue of {home} is not empty")
    with (home / "queue/lock/sendmutex").open("r+b") as mutex:
        try:
            fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.skip(f"a qmail-send is running on {home}")


def configure(home: Path, port: int) -> None:
    for name in ("me", "locals", "rcpthosts", "plusdomain", "defaultdomain"):
        (home / "control" / name).write_text("mail.test\n")
    (home / "control/smtproutes").write_text(f":127.0.0.1:{port}\n")
    (home / "control/timeoutremote").write_text("10\n")
    (home / "control/queuelifetime").unlink(missing_ok=True)


@pytest.fixture
def real() -> Iterator[Real]:
    """A qmail of which all mail goes to `Peer`; its control files and .qmail files are put back afterwards."""
    if "QMAIL_HOME" not in os.environ:
        pytest.skip("QMAIL_HOME names no qmail")
    home = Path(os.environ["QMAIL_HOME"])
    refuse_unless_idle(home)
    with tempfile.TemporaryDirectory() as directory, Server(("127.0.0.1", 0), Peer) as server:
        kept = Path(directory)
        kept.chmod(0o755)
        for name in _CHANGED:
            subprocess.run(["cp", "-a", home / name, kept / name], check=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Real(home, kept / "log")
        try:
            configure(home, server.server_address[1])
            made.start()
            yield made
        finally:
            made.stop()
            server.shutdown()
            clear(home)
            for name in _CHANGED:
                shutil.rmtree(home / name)
                subprocess.run(["cp", "-a", kept / name, home / name], check=True)


def clear(home: Path) -> None:
    """Take out of the queue what the test put there; it was empty before."""
    for area in ("mess", "info", "local", "remote", "bounce", "todo", "intd", "pid"):
        for path in (home / "queue" / area).rglob("*"):
            if path.is_file():
                path.unlink()


def test_bounce_and_now(real: Real, command: Command, audit: list[str]) -> None:
    """The message that was named bounces at once; another one is tried, and stays."""
    msg, other = real.send(b"defer@one.example"), real.send(b"defer@two.example")
    done = command("bounce", "--qmail.home", real.home, msg, "--now")
    assert (done.code, done.err) == (0, "")
    wait_until(lambda: b"bounce msg %d qp " % msg in real.log())
    wait_until(lambda: real.attempts(other) == 2)
    assert b"I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./" in real.log()
    assert b"bounce msg %d " % other not in real.log()
    assert [line.split()[0] for line in audit] == ["action=bounce", "action=redeliver"]


def test_bounce_takes_effect_at_the_next_attempt(real: Real, command: Command) -> None:
    """Without --now nothing happens to the message before its next attempt."""
    msg = real.send(b"defer@one.example")
    assert command("bounce", "--qmail.home", real.home, "--domain", "one.example").code == 0
    real.send(b"ok@two.example")
    assert b"bounce msg %d qp " % msg not in real.log()
    assert command("redeliver", "--qmail.home", real.home).code == 0
    wait_until(lambda: b"bounce msg %d qp " % msg in real.log())


def test_rejuvenate(real: Real, command: Command) -> None:
    """A message that is too old, and made young again, outlives its next attempt."""
    young, old = real.send(b"defer@one.example"), real.send(b"defer@two.example")
    for msg in (young, old):
        (info,) = (real.queue / "info").rglob(str(msg))
        os.utime(info, (1000, 1000))
    assert command("rejuvenate", "--qmail.home", real.home, young, "--now").code == 0
    wait_until(lambda: b"bounce msg %d qp " % old in real.log())
    wait_until(lambda: real.attempts(young) == 2)
    assert b"bounce msg %d qp " % young not in real.log()


def test_expire_bounces(real: Real, command: Command) -> None:
    """An old bounce becomes a double bounce, and an old double bounce ends."""
    msg = real.send(b"defer@one.example", sender=b"")
    twice = real.send(b"defer@one.example", sender=b"#@[]")
    for each in (msg, twice):
        (info,) = (real.queue / "info").rglob(str(each))
        os.utime(info, (time.time() - 3 * 86400,) * 2)
    assert command("expire-bounces", "--qmail.home", real.home, "--now").code == 0
    wait_until(lambda: b"bounce msg %d qp " % msg in real.log())
    wait_until(lambda: b"triple bounce: discarding bounce/%d" % twice in real.log())


@pytest.mark.parametrize("user", ["root", "qmails"])
def test_redeliver(real: Real, user: str) -> None:
    """qmail-send tries a message now; its own user needs no more than that to tell it."""
    msg = real.send(b"defer@one.example")
    script = "import sys; from qmail_exporter import actions; print(actions.redeliver(sys.argv[1]))"
    done = subprocess.run(
        [*as_user(user), "-c", script, str(real.queue)], capture_output=True, check=False, env=environment()
    )
    assert real.process is not None
    assert (done.stderr, done.stdout) == (b"", b"%d\n" % real.process.pid)
    wait_until(lambda: real.attempts(msg) == 2)


def as_user(user: str) -> list[str]:
    """The start of a command line for Python as another user, whom root's may be out of reach to."""
    if user == "root":
        return [sys.executable]
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    group = "qmail" if user.startswith("qmail") else "nofiles"
    prefix = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    if python is None or shutil.which("setpriv") is None:
        pytest.skip("no Python, or no setpriv, for other users")
    script = "import psutil, qmail_exporter"
    if subprocess.run(
        [*prefix, python, "-c", script], env=environment(), capture_output=True, check=False
    ).returncode:
        pytest.skip("no Python with what the exporter needs is in reach of other users")
    return [*prefix, python]


def environment() -> dict[str, str]:
    """Where Python finds the package and what it needs."""
    root = Path(qmail_exporter.__file__).parent.parent
    return {
        "PYTHONPATH": os.pathsep.join(
            [str(root), *(path for path in sys.path if path.endswith("site-packages"))]
        )
    }


def table(real: Real) -> Path:
    path = real.queue / "lock/tcpto"
    record = bytes((192, 0, 2, 1, 3, 0, 0, 0)) + int(time.time() - 60).to_bytes(4, "little") + bytes(4)
    path.write_bytes(record.ljust(1024, b"\0"))
    return path


def test_tcpto_is_qmail_tcptos_list(real: Real, command: Command) -> None:
    """The first lines are those that qmail-tcpto prints at the same moment."""
    table(real)

    def same() -> bool:
        theirs = subprocess.run(
            [real.home / "bin/qmail-tcpto"], capture_output=True, check=True
        ).stdout.decode()
        return command("tcpto", "--qmail.home", real.home).out.startswith(theirs) and bool(theirs)

    assert same() or same()  # unless the second changed between the two


def test_tcpok_does_what_qmail_tcpok_does(real: Real) -> None:
    """The program of qmail is used, and without it the same bytes are written to the same file."""
    path = table(real)
    assert actions.tcpok(str(real.queue), str(real.home)) == (1, True)
    theirs, inode = path.read_bytes(), path.stat().st_ino
    table(real)
    assert actions.tcpok(str(real.queue)) == (1, False)
    assert (path.read_bytes(), path.stat().st_ino) == (theirs, inode)
    assert theirs == bytes(1024)


def test_tcpok_by_several_at_once(real: Real) -> None:
    """Two exporters and an admin with qmail-tcpok at the same time leave an empty table, and mail goes on."""
    path = table(real)
    runs: list[Callable[[], Any]] = [
        lambda: actions.tcpok(str(real.queue)),
        lambda: actions.tcpok(str(real.queue), str(real.home)),
        lambda: subprocess.run([real.home / "bin/qmail-tcpok"], check=True),
    ]
    threads = [threading.Thread(target=run) for run in runs * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert path.read_bytes() == bytes(1024)
    real.send(b"ok@one.example")


def test_record_double_bounce(real: Real, tmp_path: Path) -> None:
    """A double bounce that qmail-local gives to the program is logged, with who sent what to whom and why that failed."""
    assert tmp_path.exists()
    python = as_user("alias")[-1]
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        shutil.chown(directory, "alias")
        paths = environment()["PYTHONPATH"]
        (real.home / "alias/.qmail-postmaster").write_text(
            f"|env PYTHONPATH={paths} PYTHONDONTWRITEBYTECODE=1 {python} -m qmail_exporter record-double-bounce --file {log}\n"
        )
        real.send(b"fail-1@one.example", sender=b"fail-2@two.example")
        wait_until(lambda: log.exists() and log.read_bytes().endswith(b"\n"))
        entry = parse_entry(log.read_bytes()[:-1])
    assert entry.double
    assert entry.sender == b"fail-2@two.example"
    assert [failure.address for failure in entry.failures] == [b"fail-1@one.example"]
    assert b"Remote host said: 550 5.1.1 No such user here" in entry.failures[0].text
