"""Run a copy of the installed qmail, alone, and print as JSON what its tools and `queue` say of its queue.

Meant to be run in a mount namespace of its own (`unshare --mount`), where a copy of qmail's home is mounted over the home:
qmail's programs have that path built in.  Whatever else runs on the installed qmail sees nothing of it.

    unshare --mount --propagation private --pid --fork --kill-child python own_qmail.py HOME DIRECTORY

All mail is for a port of this host where nobody listens, so every attempt is deferred at once.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME, WORK = Path(sys.argv[1]), Path(sys.argv[2])
QUEUE, LOG = HOME / "queue", HOME / "log"
PATIENCE = 30.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit("it did not come to be")
        time.sleep(0.05)


def mount() -> None:
    copy = WORK / "home"
    subprocess.run(["cp", "-a", str(HOME), str(copy)], check=True)
    subprocess.run(["mount", "--bind", str(copy), str(HOME)], check=True)
    for area in ("mess", "info", "local", "remote", "bounce", "todo", "intd", "pid"):
        for path in (QUEUE / area).rglob("*"):
            if path.is_file():
                path.unlink()
    (QUEUE / "lock" / "tcpto").write_bytes(bytes(1024))
    control = {
        "me": "mail.test",
        "locals": "mail.test",
        "rcpthosts": "mail.test",
        "smtproutes": ":127.0.0.1:9",
    }
    for name, value in control.items():
        (HOME / "control" / name).write_text(value + "\n")
    (HOME / "control" / "queuelifetime").unlink(missing_ok=True)
    LOG.mkdir(mode=0o755)
    shutil.chown(LOG, "qmaill")


def start() -> "subprocess.Popen[bytes]":
    argv = [f"{HOME}/bin/qmail-start", "./Mailbox", "multilog", "t", str(LOG)]
    return subprocess.Popen(argv, cwd="/", env={"PATH": f"{HOME}/bin:/usr/bin:/bin"})


def inject(sender: bytes, *recipients: bytes) -> None:
    envelope = b"F" + sender + b"\0" + b"".join(b"T" + r + b"\0" for r in recipients) + b"\0"
    read, write = os.pipe()
    os.write(write, envelope)
    os.close(write)
    body_read, body_write = os.pipe()
    os.write(body_write, b"Subject: t\n\nhello\n")
    os.close(body_write)
    script = f"exec {HOME}/bin/qmail-queue <&{body_read} 1<&{read}"
    subprocess.run(["/bin/sh", "-c", script], pass_fds=(read, body_read), check=True)
    os.close(read)
    os.close(body_read)


def deferrals() -> int:
    return sum(path.read_bytes().count(b" deferral: ") for path in LOG.glob("*") if path.name != "lock")


def command(*words: str) -> bytes:
    argv = [
        sys.executable,
        "-m",
        "qmail_exporter",
        "queue",
        f"--qmail.home={HOME}",
        f"--qmail.log={LOG}",
        *words,
    ]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout


def shown() -> list[Any]:
    return [json.loads(line) for line in command("--json").splitlines()]


def mtimes() -> dict[str, int]:
    """The next attempts that a qmail-send which has exited left."""
    return {path.name: int(path.stat().st_mtime) for path in (QUEUE / "remote").rglob("*") if path.is_file()}


def stop(send: "subprocess.Popen[bytes]") -> dict[str, int]:
    send.send_signal(signal.SIGTERM)
    send.wait(PATIENCE)
    until(lambda: b"status: exiting" in b"".join(sorted((LOG / "current").read_bytes().splitlines())[-1:]))
    return mtimes()


def main() -> None:
    mount()
    found: dict[str, Any] = {}
    send = start()
    inject(b"a@mail.test", b"x@a.example")
    inject(b"a\x1b@mail.test", b"x\xff\n@b.example", b"y@b.example", b"z@c.example")
    inject(b"@", b"x@d.example.")
    until(lambda: deferrals() >= 5)
    time.sleep(1.1)  # let the clock pass the second of the attempts
    found["first"] = shown()
    # Another age, which counts from the next attempt on.
    infos = sorted(path for path in (QUEUE / "info").rglob("*") if path.is_file())
    os.utime(infos[0], (time.time() - 90000,) * 2)
    found["touched"] = shown()
    found["first_mtimes"] = stop(send)
    found["stopped"] = shown()
    found["qread"] = subprocess.run(
        [f"{HOME}/bin/qmail-qread"], stdout=subprocess.PIPE, check=True
    ).stdout.hex()
    found["our_qread"] = command("--qread").hex()
    send = start()
    until(lambda: b"status: local 0" in (LOG / "current").read_bytes().splitlines()[-1])
    found["restarted"] = shown()
    before = deferrals()
    send.send_signal(signal.SIGALRM)
    until(lambda: deferrals() >= before + 5)
    found["alarmed"] = shown()
    found["alarmed_mtimes"] = stop(send)
    json.dump(found, sys.stdout)


main()
