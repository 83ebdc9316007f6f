"""What stands between a request and the pages: the headers, passwords and rate limit of `--web.config.file`."""

import time
from collections.abc import Callable, Iterable

from qmail_exporter.web.app import App, Message, Receive, Response, Send, send_response
from qmail_exporter.web.auth import Passwords, TooManyChecksError, parse_basic
from qmail_exporter.web.settings import RateLimit, Settings

_UNAUTHORIZED = Response(
    401,
    b"This takes a user and a password.\n",
    headers=((b"www-authenticate", b'Basic realm="qmail_exporter", charset="UTF-8"'),),
)
_TOO_MANY = Response(
    429, b"There were too many requests; try again later.\n", headers=((b"retry-after", b"1"),)
)

Header = tuple[bytes, bytes]


def guarded(
    app: App,
    settings: Callable[[], Settings],
    *,
    passwords: Passwords | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> App:
    """Return the application behind what `settings`, asked for at each request, demand.

    As in exporter-toolkit that holds for all paths, and the rate limit for requests without a password too. A refused
    request does not reach the application, and so takes none of its places.
    """
    checks = passwords or Passwords()
    bucket: Bucket | None = None

    async def refusal(scope: Message, now: Settings) -> Response | None:
        nonlocal bucket
        if bucket is None or bucket.limit != now.rate_limit:
            bucket = Bucket(now.rate_limit, clock())
        if not bucket.take(clock()):
            return _TOO_MANY
        if not now.users:
            return None
        written = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        credentials = parse_basic(written[0]) if len(written) == 1 else None
        if credentials is None:
            return _UNAUTHORIZED
        client = (scope.get("client") or ("",))[0]
        try:
            right = await checks.are_right(now.users, *credentials, client)
        except TooManyChecksError:
            return _TOO_MANY
        return None if right else _UNAUTHORIZED

    async def guard(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)  # neither the lifespan nor a refused websocket shows anything
            return
        now = settings()
        adorned = _adorned(send, now.headers)
        refused = await refusal(scope, now)
        if refused is None:
            await app(scope, receive, adorned)
        else:
            await send_response(adorned, refused, head=scope["method"] == "HEAD")

    return guard


class Bucket:
    """The requests that a rate limit lets through: `burst` at once, and then one an interval."""

    def __init__(self, limit: RateLimit | None, now: float) -> None:
        self.limit = limit
        self._left = float(limit.burst) if limit else 0.0
        self._at = now

    def take(self, now: float) -> bool:
        """Tell whether a request may pass at that time, in seconds of a clock that never goes back."""
        if self.limit is None:
            return True
        self._left = min(self.limit.burst, self._left + (now - self._at) / self.limit.interval)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _adorned(send: Send, headers: Iterable[Header]) -> Send:
    """Return a send that puts headers into an answer, in place of those of the same name."""
    added = tuple(headers)
    names = {name for name, _ in added}

    async def adorned(message: Message) -> None:
        if added and message["type"] == "http.response.start":
            kept = [header for header in message["headers"] if header[0] not in names]
            message["headers"] = [*kept, *added]
        await send(message)

    return adorned
