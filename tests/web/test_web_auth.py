import asyncio
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from importlib.metadata import version

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.web.auth import _REMEMBERED, Passwords, TooManyChecksError, parse_basic
from webrig import run


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


USERS = {"prometheus": hashed(b"secret"), "admin": hashed(b"other")}


class Checks:
    """bcrypt, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def __call__(self, password: bytes, against: bytes) -> bool:
        """Check as bcrypt does."""
        self.asked.append((password, against))
        return bcrypt.checkpw(password, against)


def scenario(test: Callable[[Passwords, Checks], Awaitable[None]]) -> Callable[[], None]:
    def running() -> None:
        async def it() -> None:
            checks = Checks()
            await test(Passwords(checks), checks)

        run(it)

    running.__name__, running.__doc__ = test.__name__, test.__doc__
    return running


@scenario
async def test_right_and_wrong(passwords: Passwords, checks: Checks) -> None:
    """A user gets in with their own password and no other."""
    assert await passwords.are_right(USERS, "prometheus", b"secret", "::1")
    for user, password in [
        ("prometheus", b"other"),
        ("prometheus", b""),
        ("nobody", b"secret"),
        ("", b"secret"),
    ]:
        assert not await passwords.are_right(USERS, user, password, "::1")
    assert len(checks.asked) == 5


@scenario
async def test_a_right_password_is_checked_once(passwords: Passwords, checks: Checks) -> None:
    """A password found right is not checked again, a wrong one is; neither stays in memory."""
    for _ in range(3):
        assert await passwords.are_right(USERS, "prometheus", b"secret", "::1")
        assert not await passwords.are_right(USERS, "prometheus", b"wrong", "::1")
    assert [password for password, _ in checks.asked] == [b"secret", b"wrong", b"wrong", b"wrong"]
    assert b"secret" not in repr(vars(passwords)).encode()


@scenario
async def test_a_changed_hash_counts_at_once(passwords: Passwords, checks: Checks) -> None:
    """When a user's hash changes, or the user goes, the password that was right is right no longer."""
    assert await passwords.are_right(USERS, "prometheus", b"secret", "::1")
    assert not await passwords.are_right({"prometheus": hashed(b"new")}, "prometheus", b"secret", "::1")
    assert not await passwords.are_right({"admin": USERS["admin"]}, "prometheus", b"secret", "::1")
    assert len(checks.asked) == 3


@scenario
async def test_unknown_users_take_as_long(passwords: Passwords, checks: Checks) -> None:
    """For an unknown user too one hash of the file is checked, the same each time; even the right password of that hash fails."""
    for _ in range(2):
        for user in map(str, range(20)):
            for password in (b"secret", b"other"):
                assert not await passwords.are_right(USERS, user, password, "::1")
    assert {against for _, against in checks.asked} == set(USERS.values())
    first, again = checks.asked[:40], checks.asked[40:]
    assert first == again


def test_time_does_not_tell_users() -> None:
    """The quickest of twelve attempts takes the processor the same time, within a half, for a user that exists and one that does not."""
    users = {"prometheus": hashed(b"secret", 8)}

    async def it() -> None:
        passwords, took = Passwords(), {"prometheus": 10.0, "nobody": 10.0}
        for number in range(12):
            for user, least in took.items():
                start = time.process_time()  # with that of bcrypt's thread
                await passwords.are_right(users, user, b"%d" % number, "::1")
                took[user] = min(least, time.process_time() - start)
        assert 0.66 < took["prometheus"] / took["nobody"] < 1.5

    run(it)


@scenario
async def test_memory_is_bounded(passwords: Passwords, checks: Checks) -> None:
    """Only so many right passwords are remembered; the last used stay."""
    users = {str(number): USERS["admin"] for number in range(_REMEMBERED + 20)}
    for user in users:
        assert await passwords.are_right(users, user, b"other", "::1")
        assert await passwords.are_right(users, "0", b"other", "::1")
    assert len(passwords._right) == _REMEMBERED
    assert len(checks.asked) == len(users)
    assert (len(passwords._running), passwords._waiting.total()) == (0, 0)


@scenario
async def test_one_check_for_all_who_ask_the_same(passwords: Passwords, checks: Checks) -> None:
    """Scrapes that come at once with one password share its check, also if the first of them goes away."""
    asking = [
        asyncio.create_task(passwords.are_right(USERS, "prometheus", b"secret", f"10.0.0.{number}"))
        for number in range(10)
    ]
    await asyncio.sleep(0)
    asking[0].cancel()
    assert await asyncio.gather(*asking[1:]) == [True] * 9
    assert len(checks.asked) == 1


def test_guesses_do_not_keep_others_out() -> None:
    """While a client's guesses wait, more of them are refused, another client's password is checked, and a known one at once."""
    release = threading.Event()

    def check(password: bytes, against: bytes) -> bool:
        return release.wait(10) if password.startswith(b"guess") else bcrypt.checkpw(password, against)

    async def it() -> None:
        passwords = Passwords(check)
        assert await passwords.are_right(USERS, "prometheus", b"secret", "10.0.0.1")
        guesser = "2001:db8::1"
        guesses = [
            asyncio.create_task(passwords.are_right(USERS, "nobody", b"guess%d" % number, guesser))
            for number in range(2)
        ]
        await asyncio.sleep(0)
        for neighbour in (guesser, "2001:db8::2"):
            with pytest.raises(TooManyChecksError):
                await passwords.are_right(USERS, "nobody", b"guess3", neighbour)
        assert await passwords.are_right(USERS, "prometheus", b"secret", guesser)
        other = asyncio.create_task(passwords.are_right(USERS, "admin", b"other", "2001:db8:0:1::1"))
        await asyncio.sleep(0)
        assert not other.done()
        release.set()
        assert await other
        assert await asyncio.gather(*guesses) == [False, False]
        assert not await passwords.are_right(USERS, "nobody", b"guess3", guesser)

    run(it)


def test_guesses_of_many_are_bounded() -> None:
    """However many clients guess, only so many checks wait, and one runs."""
    release, running, most = threading.Event(), 0, 0

    def check(_: bytes, __: bytes) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        release.wait(10)
        running -= 1
        return False

    async def it() -> None:
        passwords, refused = Passwords(check), 0
        clients = [f"10.0.{number // 250}.{number % 250}" for number in range(500)]
        tasks = [
            asyncio.create_task(passwords.are_right(USERS, "x", client.encode(), client))
            for client in clients
        ]
        await asyncio.sleep(0)
        refused = sum(task.done() for task in tasks)
        release.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert refused == sum(isinstance(result, TooManyChecksError) for result in results) == 500 - 32
        assert most == 1

    run(it)


def test_a_check_does_not_stop_the_loop() -> None:
    """While bcrypt works, the loop goes on."""
    users = {"prometheus": hashed(b"secret", 10)}

    async def it() -> None:
        check = asyncio.create_task(Passwords().are_right(users, "prometheus", b"secret", "::1"))
        turns = 0
        while not check.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 10

    run(it)


@scenario
async def test_long_passwords(passwords: Passwords, checks: Checks) -> None:
    """A password beyond what bcrypt takes is no fault; what is behind does not count, as it never has."""
    assert not await passwords.are_right(USERS, "prometheus", b"x" * 100_000, "::1")
    long = {"a": hashed(b"y" * 72)}
    assert await passwords.are_right(long, "a", b"y" * 73, "::1")
    assert not await passwords.are_right(USERS, "prometheus", b"\0" * 10, "::1")
    assert max(len(password) for password, _ in checks.asked) == 72


@pytest.mark.parametrize("prefix", [b"$2a$", b"$2b$", b"$2x$", b"$2y$"])
def test_kinds_of_hashes(prefix: bytes) -> None:
    """Every kind of hash that a file may have can be checked."""
    if prefix == b"$2x$" and version("bcrypt") < "4":
        pytest.skip("bcrypt knows it from version 4 on")
    users = {"a": hashed(b"secret").replace(b"$2b$", prefix)}

    async def it() -> None:
        assert await Passwords().are_right(users, "a", b"secret", "::1")

    run(it)


def test_a_password_that_bcrypt_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that bcrypt will not look at, as its older versions none with a NUL byte, is a wrong one."""

    def refuse(password: bytes, hashed: bytes) -> bool:
        raise ValueError((password, hashed))

    async def it() -> None:
        monkeypatch.setattr(bcrypt, "checkpw", refuse)
        assert not await Passwords().are_right(USERS, "prometheus", b"sec\0ret", "::1")

    run(it)


def basic(text: bytes) -> str:
    return "Basic " + b64encode(text).decode()


def test_credentials() -> None:
    """User and password stand before and after the first colon; the scheme's case does not count."""
    assert parse_basic(basic(b"Aladdin:open sesame")) == ("Aladdin", b"open sesame")
    assert parse_basic("BASIC  " + basic(b"a:b:c")[6:]) == ("a", b"b:c")
    assert parse_basic(basic("test:123£".encode())) == ("test", "123£".encode())
    assert parse_basic(basic(b":")) == ("", b"")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic x",
        "Basic =",
        "Bearer abc",
        basic(b"nocolon"),
        basic(b"\xff:x"),
        "Basic YTpi\u20ac",
        "Basic YTpi,Basic YTpi",
    ],
)
def test_no_credentials(header: str) -> None:
    """Whatever is not of the form has none."""
    assert parse_basic(header) is None


@given(st.text(alphabet=st.characters(exclude_characters=":")), st.binary())
def test_all_credentials(user: str, password: bytes) -> None:
    """Every user without a colon and every password come through."""
    encodable = user.encode("utf-8", "surrogatepass")
    try:
        encodable.decode()
    except UnicodeDecodeError:
        assert parse_basic(basic(encodable + b":" + password)) is None
    else:
        assert parse_basic(basic(encodable + b":" + password)) == (user, password)


@given(st.text(max_size=30))
def test_any_header(header: str) -> None:
    """No header makes it fail."""
    parse_basic(header)
    parse_basic("Basic " + header)
