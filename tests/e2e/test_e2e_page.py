"""The status page in a real, headless Chromium: as it looks, on a phone too, and that strangers' texts do nothing there.

The pictures are left below pytest's temporary directory, for whoever wants to look.
"""

import http.server
import json
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from browser import Browser
from facts import destination, page, queue
from qmail_exporter.demo import report
from qmail_exporter.demo.qmail import Outcome
from qmail_exporter.status import POLICY
from qmail_exporter.status.document import render
from qmail_exporter.status.facts import Use, Waiting
from qmail_exporter.status.text import Speech
from rig import Rig, answer
from serving import Exporter, until

MakeRig = Callable[..., Rig]
pytestmark = pytest.mark.slow
QUARTER = 900.0
WIDE, PHONE = (1200, 1600), (360, 2400)


@pytest.fixture(scope="module")
def chromium() -> Browser:
    try:
        return Browser()
    except FileNotFoundError as error:
        pytest.skip(f"{error}: the package chromium has one")


class Listener(http.server.ThreadingHTTPServer):
    """A server on loopback that notes what is asked for, and has pages to give.

    Attributes:
        asked: paths.
        pages: HTML and headers by path; what is not among them is an empty answer.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.pages: dict[str, tuple[str, dict[str, str]]] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        """Answer with a page, or with nothing."""
        self.server.asked.append(self.path)
        html, headers = self.server.pages.get(self.path, ("", {}))
        body = html.encode()
        self.send_response(200)
        for name, value in {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - as it is called above
        """Say nothing."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def serving(made: Rig, *flags: str, **given: Any) -> Iterator[Exporter]:
    """Run an exporter on a rig's queue and log until it has read them."""
    with Exporter(f"--qmail.home={made.home}", f"--qmail.log={made.home}/log", *flags, **given) as exporter:
        until(exporter.ready)
        yield exporter


@pytest.fixture
def present(tmp_path: Path) -> Iterator[Rig]:
    """A simulated qmail whose clock begins a quarter of an hour before now."""
    with Rig(tmp_path / "qmail", start=False) as made:
        made.clock.now = time.time() - QUARTER
        made.qmail.start()
        yield made


def empty(made: Rig) -> None:
    """All that came has been delivered."""
    made.qmail.run_until(made.clock.now + QUARTER)
    made.send(b"ok@x.example", b"joe")
    made.qmail.run_until(made.clock.now + 1)


def busy(made: Rig) -> None:
    """Mail to many places, most of which is delivered, deferred, or bounces."""
    boxes = (b"ok", b"ok", b"ok", b"defer", b"full", b"fail", b"hole-9", b"mangle")
    for place in range(120):
        made.send(b"%b@host%d.example" % (boxes[place % len(boxes)], place % 17), age=place**2.7)
        made.send(b"joe")
    made.qmail.run_until(made.clock.now + QUARTER)


def outage(made: Rig) -> None:
    """Hosts took mail, and then none of them answers any more, for some minutes."""
    present = made.clock.now + QUARTER
    for place in range(30):
        made.send(b"ok@host%d.example" % place)
    made.qmail.run_until(present - 300)
    while made.clock.now < present:
        for place in range(20):
            made.send(b"hole-20@host%d.example" % place)
        made.qmail.run_until(min(made.clock.now + 50, present))


def broken(made: Rig) -> None:
    """The log is elsewhere, and part of the queue and of qmail's own files cannot be read."""
    busy(made)
    shutil.rmtree(made.queue / "info" / "0")
    (made.queue / "info" / "0").write_text("no directory")
    (made.queue / "lock" / "tcpto").unlink()
    os.rename(made.home / "log", made.home / "aside")


SCENES = {
    "empty": (empty, "Nothing to act on"),
    "busy": (busy, "host1.example"),
    "outage": (outage, "The network seems to be out"),
    "broken": (broken, "info is not read"),
}


def _size(picture: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    header = picture.read_bytes()[:24]
    assert header.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", header[16:24])
    return width, height


def _pictures(chromium: Browser, url: str, place: Path) -> None:
    """Take pictures of a page, wide and as on a phone, light and dark; none is blank, and the dark ones are other ones."""
    for name, size in (("wide", WIDE), ("phone", PHONE)):
        light = chromium.screenshot(url, place / f"{name}-light.png", size)
        dark = chromium.screenshot(url, place / f"{name}-dark.png", size, dark=True)
        assert _size(light) == _size(dark) == size
        assert light.stat().st_size > 20_000
        assert light.read_bytes() != dark.read_bytes()


def _width(chromium: Browser, listener: Listener, html: str, width: int) -> dict[str, int]:
    """Lay a page out in a frame of that width, and return how wide it came to be, and its elements' greatest right edge.

    The page has no script and its policy would allow none, so the one that measures is in the page around it.
    """
    listener.pages["/measure"] = (
        f"""<!doctype html><body><iframe width="{width}" height="800" style="border:0" srcdoc="{escape(html)}"></iframe><pre></pre>
        <script>onload = () => {{
            const inner = document.querySelector("iframe").contentDocument;
            const shown = [...inner.body.querySelectorAll("*")].filter(each => !each.closest("thead"));
            document.querySelector("pre").textContent = JSON.stringify({{
                scroll: inner.documentElement.scrollWidth,
                right: Math.ceil(Math.max(...shown.map(each => each.getBoundingClientRect().right))),
                view: inner.documentElement.clientWidth,
            }});
        }}</script></body>""",
        {},
    )
    document = chromium.document(listener.url + "/measure")
    found: dict[str, int] = json.loads(unescape(document.rpartition("<pre>")[2].partition("</pre>")[0]))
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_scene(scene: str, present: Rig, chromium: Browser, listener: Listener, tmp_path: Path) -> None:
    """An empty queue, a busy one, an outage and a broken source have their page, in both schemes; at 360 pixels nothing sticks out."""
    act, told = SCENES[scene]
    act(present)
    with serving(present) as exporter:
        html = exporter.get("/")[1]
        assert told in html
        _pictures(chromium, exporter.urls[0], tmp_path)
    wide = _width(chromium, listener, html, 360)
    assert wide["view"] <= 360
    assert wide["scroll"] <= 360
    assert wide["right"] <= 360


def _hostile(url: str) -> str:
    """Return what a stranger might say to a browser; all of it asks `url` if it works."""
    return (
        f'</td></table><script>fetch("{url}/script")</script><img src="{url}/img" onerror=fetch("{url}/onerror")>'
        f"<svg/onload=fetch('{url}/svg')><link rel=stylesheet href={url}/css><style>@import'{url}/import';</style>"
        f'<iframe src="{url}/frame"></iframe><meta http-equiv=refresh content="0;url={url}/meta">'
    )


def test_several_queues_fit_a_phone(chromium: Browser, listener: Listener) -> None:
    """Several queues, with numbers, names and words as long as they come, do not stick out at 360 pixels either."""
    long = destination(
        "a-very-long-name-without-any-break-in-it." * 5, 1_000_000, words=Speech("q" * 300, "r" * 300)
    )
    queues = [
        queue(
            name=name,
            messages=1_234_567,
            todo=99_999,
            waiting=Waiting((long,), 7, 1_000_007),
            use=(Use("remote", 255, 255),),
        )
        for name in ("queue1", "an-unusually-long-name-of-a-queue", "queue3")
    ]
    html = render(page(*queues))
    assert _width(chromium, listener, html, 360)["scroll"] <= 360


def _names(document: str) -> tuple[set[str], set[str]]:
    """Return the names of a document's elements and attributes."""
    elements, attributes = set[str](), set[str]()

    class Names(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            elements.add(tag)
            attributes.update(name for name, _ in attrs)

    Names().feed(document)
    return elements, attributes


def test_hostile_texts_do_nothing(
    rig: MakeRig, chromium: Browser, listener: Listener, tmp_path: Path
) -> None:
    """A domain and a report made of markup add no element and no attribute to the document, and no request comes of them."""
    hostile = _hostile(listener.url)

    def respond(channel: str, recipient: bytes, now: float) -> Outcome:
        if b"hostile" in recipient:
            return report.recipient_refused("192.0.2.1", f"451 {hostile}")
        return answer(channel, recipient, now)

    made = rig(home=tmp_path / "qmail", respond=respond)
    domains = (
        "<script>alert(1)</script>",
        "\"><img/src='//x'onerror=alert(1)>",
        "\x1b[31m\u202eevil.example",
    )
    made.send(b"defer@plain.example")
    for name in domains:
        made.send(b"hostile@" + name.encode())
    made.send(b"hostile@plain.example")
    made.qmail.run_until(made.clock.now + 5)
    with serving(made) as exporter:
        document = chromium.document(exporter.urls[0])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in document
    assert "&lt;script&gt;fetch(" in document
    elements, attributes = _names(document)
    assert not elements & {"script", "img", "iframe", "link", "object"}
    assert not {name for name in attributes if name.startswith("on") or name in {"src", "style"}}
    assert document.count("<meta") == 3
    assert document.count("<style") == 1
    assert listener.asked == []


def test_policy_is_a_second_wall(chromium: Browser, listener: Listener) -> None:
    """Were a text not escaped, the page's policy would still keep it from running and from loading; without it, it would."""
    body = f"<!doctype html><title>x</title><body>{_hostile(listener.url).partition('<meta')[0]}</body>"
    listener.pages = {"/open": (body, {}), "/walled": (body, {"Content-Security-Policy": POLICY})}
    chromium.document(listener.url + "/open")
    assert {"/script", "/img", "/svg", "/css"} <= set(listener.asked)
    listener.asked.clear()
    chromium.document(listener.url + "/walled")
    assert [path for path in listener.asked if path != "/favicon.ico"] == ["/walled"]


def test_style_of_the_page_is_applied(rig: MakeRig, chromium: Browser, tmp_path: Path) -> None:
    """The policy's digest is that of the page's style: a browser applies it, so that the page looks other than without."""
    made = rig(home=tmp_path / "qmail")
    busy(made)
    with serving(made) as exporter:
        html = exporter.get("/")[1]
        served = chromium.screenshot(exporter.urls[0], tmp_path / "served.png", (800, 600))
    bare = tmp_path / "bare.html"
    bare.write_text(html.replace("<style>", "<style media=print>"), encoding="utf-8")
    assert (
        served.read_bytes()
        != chromium.screenshot(bare.as_uri(), tmp_path / "bare.png", (800, 600)).read_bytes()
    )
    dressed = tmp_path / "dressed.html"
    dressed.write_text(html, encoding="utf-8")
    alike = chromium.screenshot(dressed.as_uri(), tmp_path / "dressed.png", (800, 600))
    assert abs(served.stat().st_size - alike.stat().st_size) < 0.1 * alike.stat().st_size
