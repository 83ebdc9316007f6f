import asyncio
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import bcrypt

from qmail_exporter.web.app import App
from qmail_exporter.web.guard import Bucket, guarded
from qmail_exporter.web.settings import RateLimit, Settings
from webrig import make_app, run

USERS = {"prometheus": bcrypt.hashpw(b"secret", bcrypt.gensalt(4))}
RIGHT = "Basic " + b64encode(b"prometheus:secret").decode()
WRONG = "Basic " + b64encode(b"prometheus:wrong").decode()


class Answer:
    """What came back from an application."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def send(self, message: Any) -> None:
        """Take what the application sends."""
        self.status = message.get("status", self.status)
        self.headers += message.get("headers", [])
        self.body += message.get("body", b"")

    def header(self, name: bytes) -> bytes | None:
        """Return a header's value, None if there is none."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, found
        return found[0] if found else None


async def ask(app: App, path: str = "/metrics", *authorization: str, method: str = "GET") -> Answer:
    answer = Answer()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"authorization", value.encode()) for value in authorization],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, answer.send)
    return answer


def behind(settings: Settings, app: App | None = None, clock: Callable[[], float] = lambda: 0.0) -> App:
    return guarded(app or make_app(), lambda: settings, clock=clock)


def test_nothing_is_demanded() -> None:
    """Without users, headers and limit the application answers as ever."""

    async def scenario() -> None:
        assert (await ask(behind(Settings()))).status == 200

    run(scenario)


def test_passwords_are_demanded_of_all_paths() -> None:
    """Every path, existing or not, wants a password; the challenge is that of RFC 7617."""

    async def scenario() -> None:
        app = behind(Settings(users=USERS))
        for path in ("/metrics", "/", "/-/healthy", "/-/ready", "/none"):
            for headers in ((), (WRONG,), ("Bearer x",), (RIGHT, RIGHT)):
                answer = await ask(app, path, *headers)
                assert answer.status == 401
                assert answer.header(b"www-authenticate") == b'Basic realm="qmail_exporter", charset="UTF-8"'
                assert answer.body == b"This takes a user and a password.\n"
            assert (await ask(app, path, RIGHT)).status == (404 if path == "/none" else 200)
        assert (await ask(app, method="HEAD")).body == b""

    run(scenario)


def test_who_is_refused_takes_no_place() -> None:
    """With the one permitted scrape under way, a request without a password is asked for it, and one with it gets 503."""

    async def scenario() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def refresh() -> None:
            begun.set()
            await release.wait()

        app = behind(Settings(users=USERS), make_app(refresh, max_requests=1))
        assert [(await ask(app)).status for _ in range(3)] == [401] * 3
        scrape = asyncio.create_task(ask(app, "/metrics", RIGHT))
        await begun.wait()
        assert (await ask(app)).status == 401
        assert (await ask(app, "/metrics", RIGHT)).status == 503
        release.set()
        assert (await scrape).status == 200

    run(scenario)


def test_too_many_guesses() -> None:
    """Of many guesses at once from one client some are refused with 429, which says when to come again."""

    async def scenario() -> None:
        app = behind(Settings(users=USERS))
        guesses = [f"Basic {b64encode(b'a:%d' % number).decode()}" for number in range(10)]
        answers = await asyncio.gather(*(ask(app, "/", guess) for guess in guesses))
        assert sorted(answer.status for answer in answers) == [401] * 2 + [429] * 8
        assert {answer.header(b"retry-after") for answer in answers if answer.status == 429} == {b"1"}

    run(scenario)


def test_headers_replace_the_usual_ones() -> None:
    """The headers of the file are in every answer, refusals among them, once each."""
    headers = ((b"content-security-policy", b"default-src 'self'"), (b"x-frame-options", b"deny"))

    async def scenario() -> None:
        for settings in (Settings(headers=headers), Settings(headers=headers, users=USERS)):
            for path in ("/", "/metrics", "/none"):
                answer = await ask(behind(settings), path)
                assert [answer.header(name) for name, _ in headers] == [value for _, value in headers]
                assert answer.header(b"cache-control") == b"no-store"

    run(scenario)


def test_settings_of_each_moment() -> None:
    """A request is judged by the settings that are in force when it comes."""
    current = [Settings()]

    async def scenario() -> None:
        app = guarded(make_app(), lambda: current[0])
        assert (await ask(app)).status == 200
        current[0] = Settings(users=USERS)
        assert (await ask(app)).status == 401
        current[0] = Settings(rate_limit=RateLimit(3600, 1))
        assert [(await ask(app)).status for _ in range(2)] == [200, 429]
        current[0] = Settings(rate_limit=RateLimit(3600, 2))
        assert [(await ask(app)).status for _ in range(3)] == [200, 200, 429]

    run(scenario)


def test_rate_limit() -> None:
    """Beyond the burst a request passes an interval; those without a password count too, and all that do not pass get 429."""
    now = [0.0]

    async def scenario() -> None:
        app = behind(Settings(rate_limit=RateLimit(2.0, 3), users=USERS), clock=lambda: now[0])
        assert [(await ask(app)).status for _ in range(4)] == [401, 401, 401, 429]
        now[0] = 2.0
        assert [(await ask(app, "/metrics", RIGHT)).status for _ in range(2)] == [200, 429]
        now[0] = 1000.0
        assert [(await ask(app)).status for _ in range(4)] == [401, 401, 401, 429]

    run(scenario)


def test_bucket_never_passes_more() -> None:
    """In any time t at most burst + t / interval requests pass."""
    bucket, passed = Bucket(RateLimit(0.25, 5), 0.0), 0
    for step in range(4000):
        passed += bucket.take(step / 100)
        assert passed <= 5 + step / 25
    assert passed >= 160


def test_what_is_no_request_passes() -> None:
    """The server's start and stop reach the application, and a websocket is refused by it."""
    sent: list[Any] = []

    async def scenario() -> None:
        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await behind(Settings(users=USERS))({"type": "lifespan"}, receive, send)
        await behind(Settings(users=USERS))({"type": "websocket"}, receive, send)

    run(scenario)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]
