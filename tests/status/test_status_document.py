"""The page: whole, accessible, and proof against what strangers write."""

import base64
import hashlib
import itertools
import re
from dataclasses import fields, replace
from datetime import timedelta, timezone
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from facts import CALM, NETWORK, NOW, OWN, destination, down, page, queue
from qmail_exporter.status import document as module
from qmail_exporter.status.document import POLICY
from qmail_exporter.status.facts import DeadHost, Doubles, Expiring, Facts, Run, Timeouts, Unknown, Waiting
from qmail_exporter.status.text import Speech, speech

_VOID = {"meta", "link", "br"}
HOSTILE = '"><script>alert(1)</script><img src=//x.example/ onerror=alert(1)>\x1b[31m\u202e\x00&lt;'


class Outline(HTMLParser):
    """Elements with their attributes, and text, of a document; all that is opened must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element of SVG without content."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that it is the innermost one."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of that name."""
        return [attributes for name, attributes in self.elements if name == tag]


def render(facts: Facts) -> str:
    return module.render(facts, timezone.utc)


def outline(html: str) -> Outline:
    found = Outline()
    found.feed(html)
    found.close()
    assert found._open == []
    return found


def words(html: str) -> str:
    """Return what is to be read of a page, with single spaces."""
    return " ".join("".join(outline(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)).texts).split())


FULL = queue(
    waiting=Waiting((destination(), destination("y.example", 7, words=None, said=None), destination("z.example", 5, words=Speech("Sorry.", ""), earlier=Speech("", "421 Busy"), spoken=NOW - 60)), 3, 160),
    timeouts=Timeouts(tuple(DeadHost(f"192.0.2.{n}", 2, NOW - 60, NOW + 3780, NOW + 5764) for n in range(20)), 1, 64),
    network=NETWORK._replace(
        state="settling",
        outages=2,
        started=NOW - 400,
        runs=(Run("tcpok", NOW - 86_500, "ok"), Run("redeliver", None, None)),
        skip=(NOW - 50, "no_dead_hosts"),
    ),
    expiring=Expiring(1, 2, 3, 4),
    doubles=Doubles(9, 2, NOW - 60, (("d.example", 5),)),
    own=OWN._replace(unparsed=4),
)  # fmt: skip


def test_all_that_is_asked_for_is_there() -> None:
    """The page tells depth, todo, the oldest, deliveries, concurrency, domains with words, hosts, hook, expiry, double bounces."""
    text = words(render(page(FULL)))
    for told in (
        "Messages12", "To be preprocessed0", "Oldest message2 h", "Deferred recipients160", "Using remote3 of 20",
        "Deliveries a minute3010 deferred, 2 failed", "x.example150 1 h 30 min", "greylist", "“451 4.7.1 Greylisted” 30 s ago",
        "not in the retained log", "Sorry. 30 s ago“421 Busy” 1 min ago", "20 hosts", "09:03 to 09:36", "and 8 more", "1 other host has timed out once",
        "Hosts answer again", "redelivernot yet", "it did not act: no dead hosts", "1234", "9 since this exporter started",
        "d.example (5)", "4 lines of the log were not understood", "As of 08:00:00 UTC", "running for 10 min",
    ):  # fmt: skip
        assert told in text, told


def test_landmarks_headings_and_tables() -> None:
    """There is one main, header and footer, headings go down a level at a time, and every table has a caption and scoped heads."""
    html = render(page(FULL, queue(name="second")))
    found = outline(html)
    for landmark in ("header", "main", "footer", "h1"):
        assert len(found.named(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(found.named("caption")) == len(found.named("table")) > 5
    assert {head.get("scope") for head in found.named("th")} == {"col", "row"}
    assert found.named("html") == [{"lang": "en"}]


def test_ids_are_unique_and_referred_to() -> None:
    """No id is there twice, and whatever is labelled is labelled by one that is there."""
    found = outline(render(page(FULL, FULL, CALM)))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes.get("aria-labelledby") or "" for _, attributes in found.elements]
    assert {name for names in named for name in names.split()} <= set(ids)
    links = [str(link["href"]) for link in found.named("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {"/metrics", "/-/healthy", "/-/ready"} <= set(links)


def test_nothing_is_loaded_or_run() -> None:
    """The page has no script, loads nothing, has no style but the one that its policy names, and asks for itself again."""
    html = render(page(FULL))
    found = outline(html)
    assert not {tag for tag, _ in found.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "form",
        "use",
        "image",
    }
    assert not {name for _, attributes in found.elements for name in attributes} & {
        "style",
        "src",
        "srcset",
        "background",
    }
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert POLICY.startswith("default-src 'none';")
    assert "url(" not in style
    assert {"http-equiv": "refresh", "content": "30"} in found.named("meta")


def test_unknown_is_said_with_its_reason() -> None:
    """Every fact that may be unknown shows as unknown, with why, and never as a number."""
    why = Unknown("info: Permission denied")
    unknown = {
        field.name: why
        for field in fields(CALM)
        if field.name
        in (
            "messages",
            "todo",
            "size",
            "oldest",
            "ages",
            "expiring",
            "lifetime",
            "waiting",
            "use",
            "rate",
            "timeouts",
            "network",
        )
    }
    facts = page(queue(**unknown, points=(), minutes=(None,) * 60), CALM)
    text = words(render(facts))
    assert text.count("Permission denied") >= 11
    own = text.partition("Queue default")[2].partition("Queue default")[0]
    assert "Messagesunknowninfo: Permission denied" in own
    assert not re.search(r"(Messages|preprocessed|recipients|progress|minute)[0-9]", own)


def test_no_queue() -> None:
    """Without any queue, and where it is not there, the page says so."""
    assert "There is no queue" in words(render(page()))
    absent = queue(sources=(down("mess", "No such file or directory")[0]._replace(name="queue"),))
    text = words(render(page(absent)))
    assert "The queue directory cannot be opened" in text
    assert "There is no queue to be read here" in text
    assert "Using remote" not in text


def test_several_queues_have_an_overview() -> None:
    """With several queues there is a table of all first, and a section for each; with one there is none."""
    html = render(page(queue(name="queue1", messages=5), queue(name="queue2", todo=77)))
    text = words(html)
    assert "Queue queue1" in text
    assert "Queue queue2" in text
    assert "All queues of this host" in text
    assert "queue2: 77 messages wait to be preprocessed" in text
    assert "All queues of this host" not in render(page(CALM))


def test_moments_of_another_day_have_a_date() -> None:
    """A time of the day stands alone for today only."""
    text = words(render(page(FULL)))
    assert "14 Jan 07:58, 1 d ago" in text


def test_impossible_moments_do_no_harm() -> None:
    """A moment that no calendar has, as a log may tell of, is no reason for there to be no page."""
    network = NETWORK._replace(started=1e18, cleared=-1e18, skip=(float("inf"), "cooldown"))
    facts = page(queue(network=network, oldest=-1e18, heard=float("-inf")))
    assert "The last outage began at an impossible time" in words(render(facts))


@pytest.mark.parametrize("moment", [-62_135_596_800.0, 253_402_300_799.0])
@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_the_calendar_ends_earlier_in_some_time_zones(moment: float, hours: int) -> None:
    """The first and the last moment of the calendar, which a line's label may name, are shown, or said to be impossible."""
    facts = page(queue(network=NETWORK._replace(started=moment)))
    zone = timezone(timedelta(hours=hours))
    possible = hours == 0 or (hours > 0) == (moment < 0)
    assert ("began at an impossible time" not in words(module.render(facts, zone))) == possible


def test_report_without_words() -> None:
    """Where a report could not be read, the page says so in place of words."""
    waiting = Waiting((destination("x.example", 5, words=Speech("", "")),), 0, 50)
    assert "nothing that could be read 30 s ago" in words(render(page(queue(waiting=waiting))))


def test_hostile_texts_stay_texts() -> None:
    """Whatever a name, a path, a reason or a remote host says: no element, no attribute and no control character comes of it."""
    clean = render(page(FULL))
    hostile = queue(
        name=HOSTILE,
        path=HOSTILE,
        waiting=Waiting(
            (
                destination(
                    HOSTILE,
                    words=Speech(HOSTILE, HOSTILE),
                    earlier=Speech(HOSTILE, HOSTILE),
                    spoken=NOW,
                    reasons=((HOSTILE, 150),),
                ),
                destination(),
            ),
            3,
            160,
        ),
        timeouts=Timeouts((DeadHost(HOSTILE, 2, NOW, NOW, NOW),), 0, 64),
        doubles=Doubles(1, 0, None, ((HOSTILE, 1),)),
        alerts=((HOSTILE, 1),),
        sources=down("log", HOSTILE),
        todo=Unknown(HOSTILE),
    )
    html = render(replace(page(hostile), host=HOSTILE))
    found = outline(html)
    assert "script" not in {tag for tag, _ in found.elements}
    names = {name for _, attributes in found.elements for name in attributes}
    assert names <= {name for _, attributes in outline(clean).elements for name in attributes}
    assert html.replace("\n", "").isprintable()
    assert "&lt;script&gt;" in html


_NAMES = st.text(max_size=40)


@example("", b"\x00", "\r", "%s@%s")
@given(_NAMES, st.binary(max_size=300), _NAMES, st.sampled_from(["<%s@%s>", "%s@%s", '"%s"@%s', "to:%s@%s,"]))
def test_no_address_and_no_markup_ever(name: str, said: bytes, local: str, form: str) -> None:
    """Property: with any domain and any report the page has the same elements, and no address in it."""
    recipient = f"{local}@x.example".encode("utf-8", "replace")
    report = said + (form % (local, "x.example")).encode("utf-8", "replace")
    spoken = speech(report, recipient)
    html = render(page(queue(waiting=Waiting((destination(name, 5, words=spoken),), 0, 50))))
    plain = render(page(queue(waiting=Waiting((destination("name", 5),), 0, 50))))
    assert [tag for tag, _ in outline(html).elements] == [tag for tag, _ in outline(plain).elements]
    cell = html.partition('class="words"')[2].partition("</tr>")[0]
    assert not re.search(r"[A-Za-z0-9.+=!-]@", cell)


def test_page_of_many_is_small() -> None:
    """With all that can be shown, and texts as long as they may be, a queue's part is well below 200 kB."""
    text = Speech("q" * 320, "<" * 320)
    waiting = Waiting(
        tuple(destination("d" * 253, words=text, earlier=text, spoken=NOW) for _ in range(25)), 10**6, 10**9
    )
    dead = FULL.timeouts._replace(dead=FULL.timeouts.dead * 3)  # type: ignore[union-attr]
    assert len(render(page(queue(waiting=waiting, timeouts=dead))).encode()) < 120_000


# --- colours


def _schemes() -> list[dict[str, str]]:
    style = module._STYLE
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", part)) for part in (light, dark)]
    assert found[0].keys() == found[1].keys()
    return found


def _luminance(colour: str) -> float:
    """Return the relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", _schemes(), ids=["light", "dark"])
def test_contrast(scheme: dict[str, str]) -> None:
    """Texts have a contrast of 4.5 at least, and what is drawn of 3, in both schemes."""
    for text in ("fg", "soft", "act", "look", "note", "ok", "link"):
        assert _contrast(scheme[text], scheme["bg"]) >= 4.5, text
    assert _contrast(scheme["fg"], scheme["panel"]) >= 4.5
    for tag in ("act", "look", "note"):
        assert _contrast(scheme["tag"], scheme[tag]) >= 4.5, tag
    for drawn in ("line", "success", "deferral", "failure", "bounce"):
        assert _contrast(scheme[drawn], scheme["bg"]) >= 3, drawn
