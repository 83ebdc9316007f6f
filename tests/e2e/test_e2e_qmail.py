"""The exporter beside a real qmail-send with its log under multilog, and a scripted SMTP server on loopback."""

import fcntl
import os
import re
import shutil
import signal
import socketserver
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from rig import Series, family
from serving import Exporter, until

pytestmark = [pytest.mark.qmail, pytest.mark.slow]
MAILS = [
    (b"a@mail.test", [b"ok1@x.example", b"defer1@x.example", b"fail1@y.example"]),
    (b"a@mail.test", [b"ok2@x.example"]),
    (b"a@mail.test", [b"defer2@Y.example", b"soft@mail.test", b"joe@mail.test"]),
    (b"", [b"full1@z.example", b"fail2@z.example"]),
    (b"#@[]", [b"defer3@x.example"]),
    (b"list-@mail.test-@[]", [b"reader%d@x.example" % n for n in range(40)] + [b"full2@z.example"]),
]


class Smtp(socketserver.StreamRequestHandler):
    """An SMTP server that answers a recipient by the first letters of its box."""

    answers: ClassVar = {
        b"defer": b"451 4.7.1 Greylisted",
        b"full": b"452 4.2.2 Mailbox full",
        b"fail": b"550 5.1.1 No such user",
    }

    def handle(self) -> None:
        """Answer one client until it goes."""
        self.wfile.write(b"220 peer.example\r\n")
        body = False
        for line in self.rfile:
            if body:
                if line == b".\r\n":
                    body = False
                    self.wfile.write(b"250 2.0.0 Ok\r\n")
                continue
            verb = line[:4].upper()
            answer = b"250 Ok"
            if verb == b"RCPT":
                box = line.partition(b"<")[2]
                answer = next((said for way, said in self.answers.items() if box.startswith(way)), answer)
            elif verb == b"DATA":
                body, answer = True, b"354 Go on"
            elif verb == b"QUIT":
                answer = b"221 Bye"
            self.wfile.write(answer + b"\r\n")
            if verb == b"QUIT":
                break


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def home() -> Iterator[Path]:  # noqa: C901 - there is much to leave as it was
    """An installed qmail that nobody uses now, with an empty queue; its control files are put back in the end."""
    if "QMAIL_HOME" not in os.environ:
        pytest.skip("QMAIL_HOME names no installed qmail")
    if os.geteuid() != 0 or shutil.which("multilog") is None:
        pytest.skip("qmail-start needs root, and multilog")
    home = Path(os.environ["QMAIL_HOME"])
    with (home / "queue" / "lock" / "sendmutex").open("r+b") as mutex:
        try:
            fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pytest.skip("this qmail is in use")
    if any(path.is_file() for path in (home / "queue" / "mess").rglob("*")):
        pytest.skip("this qmail's queue is not empty")
    kept = {path: path.read_bytes() for path in (home / "control").iterdir()}
    soft = home / "alias" / ".qmail-soft"
    kept_soft = soft.read_bytes() if soft.exists() else None
    yield home
    for path in (home / "control").iterdir():
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    if kept_soft is not None:
        soft.write_bytes(kept_soft)
    for area in ("mess", "info", "local", "remote", "bounce", "todo", "intd", "pid"):
        for path in (home / "queue" / area).rglob("*"):
            if path.is_file():
                path.unlink()


@contextmanager
def sending(home: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run qmail-send with its log in a directory."""
    log.mkdir()
    shutil.chown(log, "qmaill")
    os.chmod(log, 0o755)  # noqa: S103 - others must get in
    command = [str(home / "bin" / "qmail-start"), "./Mailbox", "multilog", "t", "s16384", "n50", str(log)]
    with subprocess.Popen(
        command, env={"PATH": f"{home}/bin:/usr/bin:/bin"}, cwd="/", start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def inject(home: Path, sender: bytes, recipients: list[bytes]) -> None:
    """Queue one message through qmail-queue."""
    message, body = os.pipe()
    envelope, addresses = os.pipe()
    with os.fdopen(body, "wb") as file:
        file.write(b"Subject: test\n\nHello.\n")
    with os.fdopen(addresses, "wb") as file:
        file.write(b"F" + sender + b"\0" + b"".join(b"T" + r + b"\0" for r in recipients) + b"\0")
    subprocess.run([str(home / "bin" / "qmail-queue")], stdin=message, stdout=envelope, check=True)
    os.close(message)
    os.close(envelope)


def lines(log: Path) -> list[str]:
    """Return all lines of a multilog directory, without their times."""
    files = [*sorted(log.glob("@*")), log / "current"]
    return [
        line.partition(" ")[2]
        for file in files
        if file.exists()
        for line in file.read_text("latin-1").splitlines()
    ]


def at_rest(home: Path, log: Path) -> bool:
    """Tell whether nothing is under way: no delivery, nothing to preprocess."""
    status = [line for line in lines(log) if line.startswith("status: local")]
    todo = any(path.is_file() for path in (home / "queue" / "todo").rglob("*"))
    ended = sum(line.startswith("delivery ") for line in lines(log))
    started = sum(line.startswith("starting ") for line in lines(log))
    return (
        bool(status)
        and status[-1].startswith("status: local 0/")
        and " remote 0/" in status[-1]
        and not todo
        and started == ended > 0
    )


def read_queue(home: Path) -> dict[str, object]:
    """Return what qmail-qread and qmail-qstat say."""
    tool = {
        name: subprocess.run([str(home / "bin" / name)], capture_output=True, check=True).stdout.decode()
        for name in ("qmail-qread", "qmail-qstat")
    }
    heads = [line for line in tool["qmail-qread"].splitlines() if "GMT" in line]
    recipients = Counter[tuple[str, str]]()
    for done, channel in re.findall(r"^( {2}done)?\t(local|remote)\t", tool["qmail-qread"], re.MULTILINE):
        recipients[channel, "done" if done else "pending"] += 1
    messages, todo = map(int, re.findall(r": (\d+)", tool["qmail-qstat"]))
    return {
        "messages": messages,
        "todo": todo,
        "recipients": dict(recipients),
        "bouncing": sum(line.endswith("bouncing") for line in heads),
        "bounces": sum("<>" in line for line in heads),
        "bytes": sum(int(re.findall(r"#\d+ {2}(\d+)", line)[0]) for line in heads),
    }


def shown(series: Series) -> dict[str, object]:
    """Return what the exporter says, as `read_queue` does of the tools."""
    return {
        "messages": family(series, "qmail_queue_messages")[()],
        "todo": family(series, "qmail_queue_todo_messages")[()],
        "recipients": {key: n for key, n in family(series, "qmail_queue_recipients").items() if n},
        "bouncing": family(series, "qmail_queue_failed_messages")[()],
        "bounces": family(series, "qmail_queue_bounce_messages")["bounce",],
        "bytes": family(series, "qmail_queue_bytes")[()],
    }


def test_exporter_agrees_with_qmails_own_tools(home: Path) -> None:
    """At rest, and again after a restart, the gauges are what qmail-qread and qmail-qstat say, and the counters what the log does."""
    with tempfile.TemporaryDirectory() as directory, _Server(("127.0.0.1", 0), Smtp) as smtp:
        os.chmod(directory, 0o755)  # noqa: S103 - others must get in
        threading.Thread(target=smtp.serve_forever, daemon=True).start()
        for name in ("me", "locals", "rcpthosts"):
            (home / "control" / name).write_text("mail.test\n")
        (home / "control" / "smtproutes").write_text(f":127.0.0.1:{smtp.server_address[1]}\n")
        (home / "alias" / ".qmail-soft").write_text("|exit 111\n")
        log = Path(directory) / "log"
        with Exporter(f"--qmail.home={home}", f"--qmail.log={log}") as exporter:
            until(exporter.ready)
            with sending(home, log):
                for sender, recipients in MAILS:
                    inject(home, sender, recipients)
                until(lambda: at_rest(home, log))
                assert exporter.value("qmail_process_up", program="qmail-send") == 1
                check(exporter.series(), home, log)
            log2 = Path(directory) / "second"
        with sending(home, log2), Exporter(f"--qmail.home={home}", f"--qmail.log={log2}") as exporter:
            until(exporter.ready)
            until(lambda: lines(log2))
            assert shown(exporter.series()) == read_queue(home)
        smtp.shutdown()


def check(series: Series, home: Path, log: Path) -> None:
    """Compare one scrape with the tools and the log."""
    assert shown(series) == read_queue(home)
    assert family(series, "qmail_up") == {(): 1.0}
    said = lines(log)
    for result in ("success", "failure", "deferral"):
        logged = sum(bool(re.match(rf"delivery \d+: {result}: ", line)) for line in said)
        counted = sum(
            n for (_, kind), n in family(series, "qmail_deliveries_total").items() if kind == result
        )
        assert counted == logged > 0
    assert family(series, "qmail_messages_total")[()] == sum(line.startswith("new msg") for line in said)
    assert family(series, "qmail_messages_ended_total")[()] == sum(
        line.startswith("end msg") for line in said
    )
    assert family(series, "qmail_exporter_log_unparsed_lines_total") == {(): 0.0}
    assert family(series, "qmail_domain_deferred_recipients") == {
        ("x.example", "greylist"): 2.0,
        ("y.example", "greylist"): 1.0,
        ("z.example", "mailbox_full"): 2.0,
    }
