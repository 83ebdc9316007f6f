"""Run a copy of the installed qmail, alone, and print as JSON what its tools and `queue` say of its queue.

Meant to be run in a mount namespace of its own (`unshare --mount`), where a copy of qmail's home is mounted over the home:
qmail's programs have that path built in.  Whatever else runs on the installed qmail sees nothing of it.

    unshare --mount --propagation private --pid --fork --kill-child python own_qmail.py HOME DIRECTORY

All remote mail is for a port of this host where nobody listens, so every attempt is deferred at once; local mail is for
programs that defer it, refuse it, or take it.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
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
    for box, code in (("soft", 111), ("hard", 100), ("default", 0)):
        (HOME / "alias" / f".qmail-{box}").write_text(f"|exit {code}\n")
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


def command(name: str, *words: str) -> bytes:
    argv = [sys.executable, "-m", "qmail_exporter", name, f"--qmail.home={HOME}", *words]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout


def shown() -> list[Any]:
    return [json.loads(line) for line in command("queue", f"--qmail.log={LOG}", "--json").splitlines()]


def channel_files() -> list[Path]:
    files = (path for channel in ("local", "remote") for path in (QUEUE / channel).rglob("*"))
    return sorted(path for path in files if path.is_file())


def mtimes() -> dict[str, int]:
    """The next attempts, by channel and number, that a qmail-send which has exited left."""
    found = {f"{path.parents[1].name}/{path.name}": path for path in channel_files()}
    return {name: int(path.stat().st_mtime) for name, path in found.items()}


def last_line() -> bytes:
    return ((LOG / "current").read_bytes().splitlines() or [b""])[-1]


def stop(send: "subprocess.Popen[bytes]") -> dict[str, int]:
    send.send_signal(signal.SIGTERM)
    send.wait(PATIENCE)
    until(lambda: last_line().endswith(b"status: exiting"))
    return mtimes()


def unlocked() -> bool:
    """Whether the multilog before has ended; the next one would give up at once."""
    with (LOG / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def again() -> "subprocess.Popen[bytes]":
    until(unlocked)
    send = start()
    until(lambda: b"status: local 0" in last_line())
    return send


def idle() -> bool:
    lines = [line for line in (LOG / "current").read_bytes().splitlines() if b" status: " in line]
    return bool(lines) and lines[-1].endswith(b" local 0/10 remote 0/20")


def settled(count: int) -> None:
    """Wait for that many deferrals in all, and let the clock pass the second of the attempts."""
    until(lambda: deferrals() >= count and idle())
    time.sleep(1.1)


def attempts(found: dict[str, Any]) -> None:
    """Have qmail-send started, stopped, alarmed and killed, and its messages touched; what is shown, and what it left."""
    send = start()
    inject(b"a@mail.test", b"x@a.example")
    inject(b"a\x1b@mail.test", b"x\xff\n@b.example", b"y@b.example", b"z@c.example")
    inject(b"@", b"x@d.example.")
    inject(b"a@mail.test", b"soft@mail.test")
    inject(b"a@mail.test", b"ok@mail.test", b"soft@mail.test", b"x@e.example")
    inject(b"a@mail.test", b"y@e.example")
    inject(b"", b"z@e.example")
    inject(b"a@mail.test", b"hard@mail.test", b"w@e.example")
    settled(11)
    found["first"] = shown()
    ids = {each["recipients"][-1]["address"]: str(each["id"]) for each in found["first"]}
    # Another age, which counts from the next attempt on.
    command("rejuvenate", ids["x@a.example"])
    command("bounce", ids["z@e.example"])
    info = next(path for path in (QUEUE / "info").rglob(ids["soft@mail.test"]))
    os.utime(info, (time.time() - 90000,) * 2)
    found["touched"] = shown()
    found["first_mtimes"] = stop(send)
    found["stopped"] = shown()
    found["qread"] = subprocess.run(
        [f"{HOME}/bin/qmail-qread"], stdout=subprocess.PIPE, check=True
    ).stdout.hex()
    found["our_qread"] = command("queue", "--qread").hex()
    send = again()
    found["restarted"] = shown()
    before = deferrals()
    send.send_signal(signal.SIGALRM)
    settled(before + 10)  # one message ends; the bounce of a bounce is for a local user
    found["alarmed"] = shown()
    found["alarmed_mtimes"] = stop(send)
    send = again()
    send.send_signal(signal.SIGALRM)
    settled(before + 20)
    inject(b"new@mail.test", b"x@f.example")
    settled(before + 21)
    send.kill()
    send.wait(PATIENCE)
    # It has the times that the one before it wrote down, and for what came since, none: that is due at once.
    send = again()
    settled(before + 22)
    found["killed"] = shown()
    found["killed_mtimes"] = stop(send)
    moments = {}
    for number, path in enumerate(channel_files()):
        moments[path] = int(time.time()) + (3 + number if number % 2 else 5000)
        os.utime(path, (moments[path],) * 2)
    send = again()
    found["planned"] = shown()
    last = max(moment for moment in moments.values() if moment < time.time() + 1000)
    until(lambda: time.time() > last + 3)
    until(idle)
    found["done"] = shown()
    stop(send)


def traffic(found: dict[str, Any]) -> None:
    """Have the doctor look again and again while mail comes, is delivered, deferred and bounced."""
    send = again()

    def flood() -> None:
        for number in range(300):
            inject(b"a@mail.test", b"ok-%d@mail.test" % number, b"hard@mail.test", b"x@a.example")

    sender = threading.Thread(target=flood)
    sender.start()
    found["doctor"] = []
    while sender.is_alive():
        words = (f"--qmail.log={LOG}", "--user=root", "--json")
        found["doctor"].append([json.loads(line) for line in command("doctor", *words).splitlines()])
    sender.join()
    stop(send)
    found["messages"] = len([path for path in (QUEUE / "mess").rglob("*") if path.is_file()])


def main() -> None:
    mount()
    found: dict[str, Any] = {}
    attempts(found)
    traffic(found)
    json.dump(found, sys.stdout)


main()
