"""Faults of the network: clients that give up, leave, or come all at once."""

import socket
import struct
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

from faults.scene import Scene

_RESET = struct.pack("ii", 1, 0)
_ASK = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def impatient(scene: Scene, places: int = 5, seconds: float = 1.0, timeout: float = 0.001) -> None:
    """It is scraped from several places at once, each of which gives up after a millisecond and asks again."""
    end = time.monotonic() + seconds

    def scrape() -> None:
        while time.monotonic() < end:
            with suppress(OSError):
                _ask(scene, timeout)

    threads = [threading.Thread(target=scrape) for _ in range(places)]
    for thread in threads:
        thread.start()
    scene.traffic()
    scene.scraped()
    for thread in threads:
        thread.join()


def _ask(scene: Scene, timeout: float) -> None:
    """Ask for the metrics, and leave with a reset when they have not come in time."""
    with socket.create_connection(address(scene), timeout=30) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.settimeout(timeout)
        client.sendall(_ASK)
        while client.recv(1 << 16):
            pass


def half_closed(scene: Scene) -> None:
    """Clients leave at every moment of a request and of its answer: after some of its bytes, or some of the answer's."""
    for asked in (0, 1, 15, len(_ASK) - 1, len(_ASK)):
        for wanted in (0, 1, 200):
            with socket.create_connection(address(scene), timeout=30) as client:
                client.sendall(_ASK[:asked])
                if asked == len(_ASK) and wanted:
                    client.recv(wanted)
                elif wanted == 1:
                    client.shutdown(socket.SHUT_WR)
    scene.traffic()


def address(scene: Scene) -> tuple[str, int]:
    """Where the exporter listens."""
    found = urlsplit(scene.exporter.urls[0])
    return str(found.hostname), int(found.port or 0)


ACTS = (impatient, half_closed)
