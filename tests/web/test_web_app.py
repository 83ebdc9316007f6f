import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qmail_exporter.web import app as web

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_5 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Collector:
    """Two metrics, or the error that is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def describe(self) -> Iterable[Metric]:
        """Name the metrics, which `name[]` needs."""
        yield GaugeMetricFamily("qmail_queue_messages", "Messages.", labels=["queue"])
        yield CounterMetricFamily("qmail_messages", "Messages so far.")

    def collect(self) -> Iterable[Metric]:
        """Return 12 and 1000."""
        if self.error is not None:
            raise self.error
        messages = GaugeMetricFamily("qmail_queue_messages", "Messages.", labels=["queue"])
        messages.add_metric(["default"], 12)
        yield messages
        yield CounterMetricFamily("qmail_messages", "Messages so far.", value=1000)


async def nothing() -> None:
    pass


@dataclass
class Answer:
    """What an application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class World:
    """A site whose parts a test can change, and the application on it."""

    collector: Collector = field(default_factory=Collector)
    refresh: Callable[[], Awaitable[None]] = nothing
    ready: bool = True
    page: str = "<!DOCTYPE html><title>qmail</title>"

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self.collector)

    def app(self, **settings: Any) -> web.App:
        """Return a new application, whose refresh is the present one at each scrape."""

        async def refresh() -> None:
            await self.refresh()

        return web.make_app(
            web.Site(self.registry, refresh, lambda: self.ready, lambda: self.page), **settings
        )


async def send_request(
    app: web.App, path: str = "/metrics", *, method: str = "GET", query: bytes = b"", **headers: str
) -> Answer:
    answer = Answer()

    async def send(message: web.Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode(): value.decode() for key, value in message["headers"]}
        else:
            answer.body += message["body"]

    async def receive() -> web.Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    raw = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": raw}
    await app(scope, receive, send)
    return answer


def ask(
    app: web.App, path: str = "/metrics", *, method: str = "GET", query: bytes = b"", **headers: str
) -> Answer:
    return asyncio.run(send_request(app, path, method=method, query=query, **headers))


def test_metrics_as_text() -> None:
    """Whoever asks for nothing in particular gets the text format, with its version in the content type."""
    answer = ask(World().app())
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.body == (
        b"# HELP qmail_queue_messages Messages.\n"
        b"# TYPE qmail_queue_messages gauge\n"
        b'qmail_queue_messages{queue="default"} 12.0\n'
        b"# HELP qmail_messages_total Messages so far.\n"
        b"# TYPE qmail_messages_total counter\n"
        b"qmail_messages_total 1000.0\n"
    )
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("accept", [PROMETHEUS_2_42, PROMETHEUS_3_5, "application/openmetrics-text"])
def test_metrics_as_openmetrics(accept: str) -> None:
    """Every Prometheus gets OpenMetrics 1.0.0, which prometheus_client's own parser accepts."""
    answer = ask(World().app(), accept=accept)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    parse: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
    families = {family.name: family for family in parse(answer.body.decode())}
    assert families["qmail_messages"].samples[0].value == 1000
    assert answer.body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        (FIREFOX, False),
        ("text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.5", False),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.5", True),
        ("text/plain;q=0.4, Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.6", True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=9.9", False),
        ("application/openmetrics-text;version=1.x", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=2", False),
        (",;=;,application/openmetrics-text;;", True),
    ],
)
def test_choice_of_the_format(accept: str, wanted: bool) -> None:
    """Weights decide, a tie goes to OpenMetrics, and no version but 1.0.0 is promised."""
    assert web.wants_openmetrics(accept) is wanted


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("xgzip", False),
    ],
)
def test_choice_of_gzip(accept_encoding: str, accepted: bool) -> None:
    """Gzip is used if it is named, or covered by a star, with a weight above 0."""
    assert web.accepts_gzip(accept_encoding) is accepted


@given(st.text())
def test_any_header_gives_a_choice(header: str) -> None:
    """No Accept or Accept-Encoding header, whatever is in it, makes negotiation fail."""
    assert web.wants_openmetrics(header) in (True, False)
    assert web.accepts_gzip(header) in (True, False)


def test_gzip() -> None:
    """The compressed metrics are the same bytes after decompression."""
    world = World()
    answer = ask(world.app(), accept_encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert gzip.decompress(answer.body) == generate_latest(world.registry)


def test_name_filter() -> None:
    """`name[]` leaves only the series of that name; an unknown name leaves none."""
    app = World().app()
    assert b"qmail_messages_total 1000.0\n" in ask(app, query=b"name[]=qmail_messages_total").body
    assert b"queue" not in ask(app, query=b"name[]=qmail_messages_total").body
    both = ask(app, query=b"name%5B%5D=qmail_messages_total&name[]=qmail_queue_messages&other")
    assert both.body.count(b"# TYPE") == 2
    assert ask(app, query=b"name[]=nothing").body == b""
    assert ask(app, query=b"name[]=").body == b""


@pytest.mark.parametrize("query", [b"name[]=%zz", b"name[]=%", b"name[]=%ff", b"name[]=\xff", b"a=&" * 1001])
def test_malformed_query(query: bytes) -> None:
    """A query that cannot be decoded, or has a thousand fields, is answered with 400 and a reason."""
    answer = ask(World().app(), query=query)
    assert (answer.status, answer.body) == (400, b"The query string is malformed.\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nothing"])
def test_head(path: str) -> None:
    """HEAD has the status and headers of GET, and no body."""
    app = World().app()
    got, head = ask(app, path), ask(app, path, method="HEAD")
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods(method: str) -> None:
    """Any other method gets 405, which says what is allowed."""
    answer = ask(World().app(), method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_unknown_page() -> None:
    """There is nothing below or beside the pages."""
    assert [ask(World().app(), path).status for path in ("/metrics/", "/metricsx", "/-/", "")] == [404] * 4


def test_status_page() -> None:
    """The status page is sent with the policy that it was made for, and tells no other site where it was read."""
    answer = ask(World(page="<p>\udcff</p>").app(), "/")
    assert answer.body == b"<p>\\udcff</p>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_status_page_is_compressed_on_request() -> None:
    """A client that takes gzip gets the page so."""
    answer = ask(World(page="x" * 5000).app(), "/", accept_encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == b"x" * 5000
    assert len(answer.body) < 500


def test_status_page_is_as_fresh_as_a_scrape() -> None:
    """The page is made after a refresh that began when it was asked for, and shows what that brought."""
    world = World(page="old")

    async def refresh() -> None:
        await asyncio.sleep(0)
        world.page = "new"

    world.refresh = refresh
    assert ask(world.app(), "/").body == b"new"


def _counted(calls: list[int]) -> str:
    calls.append(1)
    return "page"


def test_status_page_is_made_once_for_many() -> None:
    """However many ask for the page at once, it is made for one and for all that came after it, and each is answered."""
    world, made = World(), list[int]()

    async def scenario() -> list[Answer]:
        app = web.make_app(web.Site(world.registry, nothing, lambda: True, lambda: _counted(made)))
        return await asyncio.gather(*(send_request(app, "/") for _ in range(50)))

    answers = asyncio.run(scenario())
    assert [answer.body for answer in answers] == [b"page"] * 50
    assert len(made) <= 2


def test_status_page_needs_no_place_among_the_scrapes() -> None:
    """The page is there while as many scrapes are under way as there may be."""
    world = World()

    async def scenario() -> tuple[int, int]:
        held, waits = asyncio.Event(), [True]

        async def refresh() -> None:
            if waits:
                waits.clear()
                await held.wait()

        world.refresh = refresh
        app = world.app(max_requests=1)
        scrape = asyncio.create_task(send_request(app))
        await asyncio.sleep(0)
        page = asyncio.create_task(send_request(app, "/"))
        refused = await send_request(app)
        held.set()
        await scrape
        return refused.status, (await page).status

    assert asyncio.run(scenario()) == (503, 200)


def test_every_answer_is_neither_kept_nor_guessed_at() -> None:
    """No answer may be cached, and none taken for another type than it says."""
    for path in ("/", "/metrics", "/-/healthy", "/nothing"):
        headers = ask(World().app(), path).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_health() -> None:
    """Healthy says that the process answers, ready that the first scan is done."""
    world = World(ready=False)
    app = world.app()
    assert ask(app, "/-/healthy").body == b"Healthy.\n"
    assert ask(app, "/-/ready").status == 503
    world.ready = True
    assert (ask(app, "/-/ready").status, ask(app, "/-/ready").body) == (200, b"Ready.\n")


def test_telemetry_path() -> None:
    """The metrics can be elsewhere, even where the status page would be."""
    app = World().app(telemetry_path="/qmail")
    assert (ask(app, "/qmail").status, ask(app, "/metrics").status) == (200, 404)
    assert ask(World().app(telemetry_path="/"), "/").headers["content-type"] == web.PROMETHEUS_TEXT


def test_scrape_waits_for_the_refresh() -> None:
    """The metrics are rendered after the refresh, so they show what it brought."""
    world = World()

    async def refresh() -> None:
        await asyncio.sleep(0)
        world.collector.collect = lambda: [GaugeMetricFamily("fresh", "", value=1)]  # type: ignore[method-assign]

    world.refresh = refresh
    assert b"fresh 1.0\n" in ask(world.app()).body


def test_too_many_scrapes() -> None:
    """One scrape more than the limit gets 503 at once; an ended one, well or not, leaves its place."""

    async def scenario() -> list[int]:
        world, release = World(), asyncio.Event()

        async def refresh() -> None:
            await release.wait()

        world.refresh = refresh
        app = world.app(max_requests=2)
        waiting = [asyncio.create_task(send_request(app)) for _ in range(2)]
        await asyncio.sleep(0)
        refused = await asyncio.wait_for(send_request(app), 10)
        health = await send_request(app, "/-/healthy")
        world.collector.error = RuntimeError()
        release.set()
        failed = [(await task).status for task in waiting]
        world.collector.error = None
        return [refused.status, health.status, *failed, (await send_request(app)).status]

    assert asyncio.run(scenario()) == [503, 200, 500, 500, 200]


def test_no_limit_of_scrapes() -> None:
    """A limit of 0 is none."""

    async def scenario() -> set[int]:
        app = World().app(max_requests=0)
        return {answer.status for answer in await asyncio.gather(*(send_request(app) for _ in range(100)))}

    assert asyncio.run(scenario()) == {200}


def test_failing_collector(caplog: pytest.LogCaptureFixture) -> None:
    """A collector's error is told in one line without its text, logged with it, and over when the collector is well."""
    world = World()
    app = world.app()
    world.collector.error = KeyError("secret")
    answer = ask(app)
    assert (answer.status, answer.body) == (500, b"The page failed with KeyError; the log says more.\n")
    [record] = caplog.records
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)
    world.collector.error = None
    assert ask(app).status == 200


def test_failing_refresh() -> None:
    """A refresh that fails gives 500 to the scrapes that shared it, and the next scrape starts afresh."""
    world = World()

    async def refresh() -> None:
        world.refresh = nothing
        raise OSError

    world.refresh = refresh
    app = world.app()

    async def scenario() -> list[int]:
        both = await asyncio.gather(send_request(app), send_request(app))
        return [*(answer.status for answer in both), (await send_request(app)).status]

    assert asyncio.run(scenario()) == [500, 500, 200]


class Runs:
    """A refresh that ends when told to, and counts its runs."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.end = asyncio.Event()

    async def run(self) -> None:
        """Be the refresh."""
        assert self.begun == self.ended, "two runs at once"
        self.begun += 1
        self.end.clear()
        await self.end.wait()
        self.ended += 1


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@given(st.text("ces", max_size=30))
def test_refresh_is_exact_for_each_caller(steps: str) -> None:
    """In any order of [c]alls, [e]nds and pau[s]es, a call ends with the first run that began after it, not before."""

    async def scenario() -> None:
        runs = Runs()
        refresh = web.shared(runs.run)
        needed: dict[asyncio.Task[None], int] = {}
        for step in steps + "see" * 2:
            if step == "c":
                call = asyncio.create_task(refresh())
                await asyncio.sleep(0)
                needed[call] = runs.begun + 1
            elif step == "e":
                runs.end.set()
                await settle()
            else:
                await settle()
            for call, run in needed.items():
                assert call.done() == (runs.ended >= run)
        assert all(call.done() for call in needed)

    asyncio.run(scenario())


def test_refresh_survives_a_caller() -> None:
    """A caller that goes away does not take the run from the one that shares it."""

    async def scenario() -> None:
        runs = Runs()
        refresh = web.shared(runs.run)
        first, second = asyncio.create_task(refresh()), asyncio.create_task(refresh())
        await settle()
        first.cancel()
        await settle()
        runs.end.set()
        await second
        assert (runs.begun, first.cancelled()) == (1, True)

    asyncio.run(scenario())


def test_lifespan_and_websocket() -> None:
    """The server's start and stop are agreed to, a websocket is refused."""

    async def scenario() -> list[str]:
        sent: list[str] = []

        async def send(message: web.Message) -> None:
            sent.append(message["type"])

        async def receive() -> web.Message:
            return {}

        app = World().app()
        await app({"type": "lifespan"}, receive, send)
        await app({"type": "websocket", "path": "/"}, receive, send)
        return sent

    assert asyncio.run(scenario()) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
        "websocket.close",
    ]
