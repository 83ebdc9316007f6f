"""What the exporter shows over HTTP: the metrics, the status page, health. An ASGI 3 application without a framework.

A scrape is exact as of the moment it began: `Site.refresh` is started after the request came, never before, and
the metrics are rendered in the loop that owns the model, right when the refresh has ended.
"""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from qmail_exporter import logfmt
from qmail_exporter.web.openmetrics import ALLOWUTF8, Collecting, encoder

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
_T = TypeVar("_T")

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_QVALUE = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

logger = logfmt.get_logger(__name__)


@dataclass(frozen=True)
class Site:
    """What the daemon gives the pages to show.

    Attributes:
        registry: holds the collectors; rendering it reads the model and waits for nothing.
        refresh: brings the model up to date with what had happened when it was called. Never called again
            before it has ended.
        ready: whether the first scan is done.
        page: the status page, as HTML; it waits for nothing, and is asked for when a refresh has ended.
        policy: the Content-Security-Policy that the page is sent with.
    """

    registry: CollectorRegistry
    refresh: Callable[[], Awaitable[None]]
    ready: Callable[[], bool]
    page: Callable[[], str]
    policy: str = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that the pages look at; several headers of one name are joined by commas."""

    query: bytes
    accept: str
    accept_encoding: str


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whole. `headers` are those besides content-type, content-length and the ones all answers have."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: Headers = ()


Page = Callable[[Request], Awaitable[Response]]


def make_app(site: Site, *, telemetry_path: str = "/metrics", max_requests: int = 40) -> App:
    """Return the ASGI application: the metrics at `telemetry_path`, `/`, `/-/healthy` and `/-/ready`.

    At most `max_requests` scrapes are worked on at once, further ones get 503 (0: no limit). A scrape counts until
    its answer is rendered and not while it is sent, so clients that read slowly or not at all take no place.
    """
    refresh = shared(site.refresh)
    openmetrics = encoder()
    scrapes = 0

    async def metrics(request: Request) -> Response:
        nonlocal scrapes
        if max_requests and scrapes >= max_requests:
            return Response(
                503, f"{max_requests} scrapes are under way, which is the limit; try later.\n".encode()
            )
        try:
            names = parse_names(request.query)
        except ValueError:
            return Response(400, b"The query string is malformed.\n")
        scrapes += 1
        try:
            await refresh()
            return render(site.registry, request, names, openmetrics)
        finally:
            scrapes -= 1

    async def healthy(_: Request) -> Response:
        return Response(200, b"Healthy.\n")

    async def ready(_: Request) -> Response:
        return Response(200, b"Ready.\n") if site.ready() else Response(503, b"The first scan is not done.\n")

    # The telemetry path stands last: at "/" it replaces the status page, as in other exporters.
    pages: dict[str, Page] = {
        "/": _status(site, refresh),
        "/-/healthy": healthy,
        "/-/ready": ready,
        telemetry_path: metrics,
    }

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await send_response(send, await _answer(pages, scope), head=scope["method"] == "HEAD")
        else:
            await send({"type": "websocket.close"})

    return app


def _status(site: Site, refresh: Callable[[], Awaitable[None]]) -> Page:
    async def make() -> bytes:
        await refresh()
        return site.page().encode("utf-8", "backslashreplace")

    # However many ask at once, the page is made once for all who came before that began.
    made = shared(make)
    policy = (b"content-security-policy", site.policy.encode("ascii"))
    headers = (policy, (b"referrer-policy", b"no-referrer"))

    async def status(request: Request) -> Response:
        return compressed(request, await made(), HTML, headers)

    return status


def shared(refresh: Callable[[], Awaitable[_T]]) -> Callable[[], Coroutine[Any, Any, _T]]:
    """Return `refresh` in a form that any number of scrapes may call at once, running it once at a time.

    A call that comes while a run is under way must not take that run's result, which may lack what happened
    since the run began. It waits for the next run, and all calls that come before that one begins share it.
    A caller that goes away does not end the run for the others.
    """
    running: asyncio.Task[_T] | None = None
    coming: asyncio.Task[_T] | None = None

    async def run(before: asyncio.Task[_T] | None) -> _T:
        nonlocal running, coming
        if before is not None and not before.done():
            await asyncio.wait([before])
        running, coming = coming, None
        return await refresh()

    async def call() -> _T:
        nonlocal coming
        if coming is None:
            coming = asyncio.create_task(run(running))
        return await asyncio.shield(coming)

    return call


def render(
    registry: CollectorRegistry,
    request: Request,
    names: list[str] | None,
    openmetrics: Callable[[Collecting], bytes],
) -> Response:
    """Return the metrics, or only the series that `names` names, in the form that the request asks for."""
    # A restricted registry is no CollectorRegistry by its type; the formats ask only for its collect().
    shown: Any = registry if names is None else registry.restricted_registry(names)
    if not wants_openmetrics(request.accept):
        return compressed(request, generate_latest(shown, ALLOWUTF8), PROMETHEUS_TEXT)
    whole = openmetrics if names is None else partial(generate_openmetrics, escaping=ALLOWUTF8)
    return compressed(request, whole(shown), OPENMETRICS)


def compressed(request: Request, body: bytes, content_type: str, headers: Headers = ()) -> Response:
    """Return an answer of status 200, with its body compressed where the request allows it."""
    if not accepts_gzip(request.accept_encoding):
        return Response(200, body, content_type, headers)
    # In the loop: level 1 takes a tenth of the default level's time, for a sixth more bytes.
    body = gzip.compress(body, 1, mtime=0)
    return Response(200, body, content_type, (*headers, (b"content-encoding", b"gzip")))


def parse_names(query: bytes) -> list[str] | None:
    """Return the values of `name[]` in a query string, or None if it names none.

    Raises:
        ValueError: wrong percent-encoding, not UTF-8, or more than 1000 fields.
    """
    text = query.decode("ascii")
    if _BAD_ESCAPE.search(text):
        raise ValueError("wrong percent-encoding")
    fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=1000)
    return fields.get("name[]")


def wants_openmetrics(accept: str) -> bool:
    """Tell whether an Accept header puts OpenMetrics 1.0.0 before the text format (RFC 9110, 12.5.1).

    prometheus_client's `choose_encoder` is not used: it ignores weights, fails on versions that are not numbers,
    and from 0.23 on promises in its content type whatever version the client asked for.
    """
    openmetrics = text = 0.0
    for media_type, parameters, weight in _preferences(accept):
        if media_type == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            openmetrics = max(openmetrics, weight)
        elif media_type == "text/plain":
            text = max(text, weight)
    return openmetrics > 0 and openmetrics >= text


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header allows gzip (RFC 9110, 12.5.3)."""
    weights = {coding: weight for coding, _, weight in _preferences(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _preferences(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield name, parameters and weight of each element of an Accept header; a wrong weight counts as 0."""
    for element in header.lower().split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        parameters = {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in rest)}
        weight = parameters.pop("q", "1")
        yield name, parameters, float(weight) if _QVALUE.fullmatch(weight) else 0.0


async def _answer(pages: dict[str, Page], scope: Message) -> Response:
    """Return the answer to a request; whatever goes wrong inside a page is logged, and told in one line."""
    page = pages.get(scope["path"])
    if page is None:
        return Response(404, b"There is no such page.\n")
    if scope["method"] not in ("GET", "HEAD"):
        return Response(405, b"Only GET and HEAD are possible.\n", headers=((b"allow", b"GET, HEAD"),))
    try:
        return await page(_request(scope))
    except Exception as error:
        logger.exception("page failed", path=scope["path"])
        return Response(500, f"The page failed with {type(error).__name__}; the log says more.\n".encode())


def _request(scope: Message) -> Request:
    def header(name: bytes) -> str:
        return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)

    return Request(scope["query_string"], header(b"accept"), header(b"accept-encoding"))


async def send_response(send: Send, response: Response, *, head: bool) -> None:
    """Send an answer, without its body if the method was HEAD."""
    headers = [
        (b"content-type", response.content_type.encode("ascii")),
        (b"content-length", b"%d" % len(response.body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Agree to the server's start and stop: there is nothing to prepare."""
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})
