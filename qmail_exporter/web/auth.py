"""Basic authentication (RFC 7617): credentials out of a header, and passwords checked against bcrypt hashes.

bcrypt is slow on purpose: a check of cost 10 takes some 70 ms of a processor. So it is done in a thread, one at a time, and a
client has few of them waiting: whoever guesses passwords waits for himself, and a scrape whose password is known waits for nobody.
"""

import asyncio
import hashlib
import secrets
import threading
from base64 import b64decode
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address

import bcrypt

# Right passwords that are remembered, as keyed hashes.
_REMEMBERED = 128
# Checks that may wait, of one client and of all.
_WAITING_OF_ONE = 2
_WAITING = 32
# bcrypt takes no more of a password; what is behind has never counted.
_LONGEST = 72


class TooManyChecksError(Exception):
    """A check that would have to wait too long."""


def parse_basic(header: str) -> tuple[str, bytes] | None:
    """Return user and password of an Authorization header, None if it has none in the form of RFC 7617.

    A user that is not UTF-8 is none that a file could name.
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode("utf-8"), password) if colon else None
    except ValueError:  # wrong base64, not ASCII, or not UTF-8
        return None


def _checkpw(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except (
        ValueError
    ):  # before bcrypt 4, of a password with a NUL byte, and of every hash that begins with $2x$
        return False


class Passwords:
    """Checks passwords, and remembers which were right.

    Only right ones are remembered, so guesses cannot push them out; of each a hash with a key of this process, so that no
    password stays in memory. A user that does not exist takes as long as a wrong password, for it is checked against the hash
    of some user.
    """

    def __init__(self, check: Callable[[bytes, bytes], bool] = _checkpw) -> None:
        self._check = check
        self._pepper = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._waiting: Counter[str] = Counter()
        self._turn = asyncio.Semaphore(1)

    async def are_right(self, users: Mapping[str, bytes], user: str, password: bytes, client: str) -> bool:
        """Tell whether a user has that password; `users` has the hashes, and is not empty.

        Args:
            users: name and bcrypt hash.
            user: whom the client says to be.
            password: as the client sent it.
            client: its address, of which only few checks may wait.

        Raises:
            TooManyChecksError: so many are waiting already.
        """
        hashed = users.get(user)
        name = self._digest(user.encode())
        against = hashed or sorted(users.values())[int.from_bytes(name, "big") % len(users)]
        key = self._digest(name, against, password)
        if key in self._right:
            self._right.move_to_end(key)
            return hashed is not None
        if key not in self._running:
            place = _network(client)
            if self._waiting[place] >= _WAITING_OF_ONE or self._waiting.total() >= _WAITING:
                raise TooManyChecksError
            self._waiting[place] += 1
            task = asyncio.create_task(self._run(password, against))
            self._running[key] = task
            task.add_done_callback(lambda _: self._ended(key, place))
        # The caller's going away does not end the check for others who wait for the same.
        right = await asyncio.shield(self._running[key]) and hashed is not None
        if right:
            self._remember(key)
        return right

    async def _run(self, password: bytes, hashed: bytes) -> bool:
        async with self._turn:
            return await _in_thread(lambda: self._check(password[:_LONGEST], hashed))

    def _ended(self, key: bytes, place: str) -> None:
        del self._running[key]
        self._waiting[place] -= 1
        if not self._waiting[place]:
            del self._waiting[place]

    def _remember(self, key: bytes) -> None:
        self._right[key] = None
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)

    def _digest(self, *parts: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._pepper)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


def _network(client: str) -> str:
    """Return who shares the places of an address: of IPv6, whoever has the same 64 bits before it."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if not isinstance(address, IPv6Address) or address.ipv4_mapped:
        return client
    return address.packed[:8].hex()


def _in_thread(work: Callable[[], bool]) -> asyncio.Future[bool]:
    """Do work in a thread that the end of the program does not wait for, as it would for those of an executor."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def tell(result: bool) -> None:
        if not done.done():
            done.set_result(result)

    def run() -> None:
        result = False
        try:
            with suppress(ValueError):  # bcrypt's word for what it cannot take
                result = work()
        finally:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, name="bcrypt", daemon=True).start()
    return done
