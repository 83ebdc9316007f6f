"""The parts of systemd's protocols that a service needs: readiness and watchdog, and sockets passed at start.

Formats from sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). Without systemd every function does nothing.
"""

import os
import socket

_FIRST_FD = 3  # SD_LISTEN_FDS_START


def notify(state: str) -> bool:
    r"""Tell systemd of a state such as `READY=1` or `STOPPING=1\nSTATUS=…`; return whether it was sent.

    It is False where nothing listens (`NOTIFY_SOCKET` is unset) or listens no more: neither is a reason to stop.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    # A leading "@" stands for the NUL byte of Linux's abstract socket names.
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        # systemd reads at once; should it not, the loop must not hang on it.
        sock.settimeout(1)
        try:
            sock.sendto(state.encode("utf-8", "backslashreplace"), address)
        except OSError:
            return False
    return True


def watchdog_interval() -> float | None:
    """Return how often, in seconds, to send `WATCHDOG=1`: half the time after which systemd would act.

    None if no watchdog is set, or it is set for another process.
    """
    usec = _number("WATCHDOG_USEC")
    if not usec or _number("WATCHDOG_PID", os.getpid()) != os.getpid():
        return None
    return usec / 2_000_000


def listen_fds() -> list[socket.socket]:
    """Return the sockets that systemd passed to this process, and forget them for processes that it starts.

    Raises:
        OSError: a passed descriptor is no stream socket (ListenStream=).
    """
    count = _number("LISTEN_FDS", 0) if _number("LISTEN_PID") == os.getpid() else 0
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return [_adopt(fd) for fd in range(_FIRST_FD, _FIRST_FD + (count or 0))]


def _adopt(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise OSError(f"descriptor {fd} from systemd is no socket") from error
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise OSError(f"descriptor {fd} from systemd is no stream socket (ListenStream=)")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _number(name: str, default: int | None = None) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default
