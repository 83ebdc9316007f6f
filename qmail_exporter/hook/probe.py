"""Probes: whether hosts that qmail passes over take connections again.

A probe is one TCP connection, and no mail. It is closed as soon as it stands; where a greeting comes within two seconds, after
QUIT. Nothing is sent before the greeting is whole, which many hosts punish, and names are never looked up.

A connection that is refused counts as no answer. It shows that something on the way is alive, perhaps this host's own firewall;
mail that is tried now would be deferred again all the same.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic
from typing import NamedTuple

from qmail_exporter import logfmt
from qmail_exporter.formats.control import SMTP_PORT, Route

logger = logfmt.get_logger(__name__)

_LONGEST_GREETING = 4096
_STALE_TURN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often is probed; times are seconds.

    With these values 15 probes a minute go out while nothing answers, to all hosts together. Each is three packets at most,
    to a host that qmail tries too; when hosts answer, the outage is over after some five more.

    Attributes:
        interval: between two probes. It is the longest that the network's return goes unnoticed; a probe that is under
            way notices it sooner, as the kernel repeats the first packet after one and three seconds.
        quick: between two probes when something has answered. Four of them fit into `Rules.settle`, one more than
            `Rules.hosts`.
        per_host: between two probes of one host.
        per_minute: probes in any minute.
        at_once: probes under way.
        timeout: for a connection. The repeated packets are in it, and as many probes end as begin.
        greeting: for the greeting, once connected.
    """

    interval: float = 5.0
    quick: float = 1.0
    per_host: float = 3.0
    per_minute: int = 20
    at_once: int = 4
    timeout: float = 5.0
    greeting: float = 2.0


class Target(NamedTuple):
    """Where to connect to."""

    host: str
    port: int


Connect = Callable[[Target, Pace, Callable[[bool], None]], Awaitable[None]]
"""Probes a target as `probe` does."""


def relay_ports(routes: Iterable[Route]) -> dict[str, tuple[int, ...]]:
    """Return the ports that `smtproutes` gives to addresses; under the key "" the one for all other hosts.

    A relay that is written as an address has the ports of its routes. Of one that is a name nobody here knows the address;
    but if all mail goes to it, by a route for the empty domain, then hosts without ports of their own are most likely it.
    """
    ports: dict[str, tuple[int, ...]] = {"": (SMTP_PORT,)}
    for route in routes:
        address = _address(route.relay.decode("ascii", "replace").strip("[]"))
        if address is not None:
            key = str(address)
            ports[key] = tuple(dict.fromkeys((*ports.get(key, ()), route.port)))
        elif not route.domain and route.relay:
            ports[""] = (route.port,)
    return ports


def targets(hosts: Iterable[str], ports: Mapping[str, tuple[int, ...]]) -> list[Target]:
    """Return where to probe the hosts, addresses in text, each at its ports; none of an address that is not one host's."""
    return [
        Target(host, port)
        for host in hosts
        if (address := _address(host)) and not (address.is_multicast or address.is_unspecified)
        for port in ports.get(host, ports[""])
        if port
    ]


async def probe(target: Target, pace: Pace, answer: Callable[[bool], None]) -> None:
    """Connect to a target, call `answer` with whether it took the connection, and take leave of it."""
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_connect(sock, target), pace.timeout)
        except (OSError, asyncio.TimeoutError):
            answer(False)
            return
        answer(True)
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(_quit(sock), pace.greeting)


class Prober:
    """Probes the targets it is given, one after another, at a pace.

    Args:
        pace: how often.
        answered: takes host, whether it took a connection, and how many seconds that took.
        clock: seconds, of any clock.
        connect: how to probe.
    """

    def __init__(
        self,
        pace: Pace,
        answered: Callable[[str, bool, float], None],
        *,
        clock: Callable[[], float] = monotonic,
        connect: Connect = probe,
    ) -> None:
        self._pace = pace
        self._answered = answered
        self._clock = clock
        self._connect = connect
        self._under_way: dict[asyncio.Task[None], Target] = {}
        self._started: deque[float] = deque(maxlen=pace.per_minute)
        self._last: dict[Target, float] = {}
        self._turn = 0

    def step(self, wanted: Collection[Target], *, stale: Collection[str] = (), quick: bool = False) -> None:
        """Begin a probe if it is time for one; call this once a second or so, in the loop.

        Hosts in `stale` were dead before the outage, and will not tell of its end: they are probed when there is no other
        host, and beside one every fourth time.
        """
        now = self._clock()
        # A clock that was set back must not stop the probes.
        waited = now - self._started[-1] if self._started else self._pace.interval
        if 0 <= waited < (self._pace.quick if quick else self._pace.interval):
            return
        self._last = {target: last for target, last in self._last.items() if target in wanted}
        fresh = [target for target in wanted if target.host not in stale]
        rest = [target for target in wanted if target.host in stale]
        self._turn += 1
        began = self._begin(fresh, now)
        if not began or self._turn % _STALE_TURN == 0:
            self._begin(rest, now)

    def stop(self) -> None:
        """End all probes; nothing is told of them."""
        for task in self._under_way:
            task.cancel()
        self._under_way.clear()

    def _begin(self, among: list[Target], now: float) -> bool:
        """Begin a probe of the target that was probed longest ago; of several, in the network that was."""
        full = len(self._started) == self._pace.per_minute and 0 <= now - self._started[0] < 60
        busy = {target.host for target in self._under_way.values()}
        recent = {target.host for target, last in self._last.items() if 0 <= now - last < self._pace.per_host}
        free = [target for target in among if target.host not in busy | recent]
        if not free or full or len(self._under_way) >= self._pace.at_once:
            return False
        networks: dict[str, float] = {}
        for target, last in self._last.items():
            networks[_network(target)] = max(last, networks.get(_network(target), last))
        never = float("-inf")
        target = min(free, key=lambda t: (self._last.get(t, never), networks.get(_network(t), never)))
        self._last[target] = now
        self._started.append(now)
        task = asyncio.get_running_loop().create_task(self._probe(target, now))
        self._under_way[task] = target
        task.add_done_callback(self._ended)
        return True

    async def _probe(self, target: Target, began: float) -> None:
        await self._connect(
            target, self._pace, lambda reached: self._answered(target.host, reached, self._clock() - began)
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a probe failed", error=error)


async def _quit(sock: socket.socket) -> None:
    """Wait for the last line of the greeting; answer it with QUIT."""
    loop = asyncio.get_running_loop()
    said = b""
    while len(said) < _LONGEST_GREETING:
        more = await loop.sock_recv(sock, 512)
        if not more:
            return
        said += more
        if said.endswith(b"\n") and said[said.rfind(b"\n", 0, -1) + 1 :].startswith(b"220 "):
            await loop.sock_sendall(sock, b"QUIT\r\n")
            return


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _network(target: Target) -> str:
    """Return the first 16 bits of an IPv4 address, the first 32 of an IPv6 address; as text, they are the same to compare."""
    return ip_address(target.host).packed[: 4 if ":" in target.host else 2].hex()
