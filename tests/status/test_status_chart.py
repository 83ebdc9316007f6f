"""The pictures."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.status import chart
from qmail_exporter.status.facts import Ages
from qmail_exporter.status.history import Point

T = 1_800_000_000.0


def parts(picture: str) -> tuple[ET.Element, str, str]:
    """Return a picture's root, its title and its description."""
    root = ET.fromstring(picture)  # noqa: S314 - a picture of our own
    return root, root.findtext("title") or "", root.findtext("desc") or ""


def test_pictures_are_told_in_words() -> None:
    """Each picture is an image with a title and a description that say what it shows, by ids of its own."""
    points = [Point(T + 10 * place, depth, (0, 0, 0)) for place, depth in enumerate((5, 9, 7))]
    minutes = [None] * 58 + [{"success": 4, "deferral": 1, "failure": 0}] * 2
    found = Ages((60, 3600), (3, 8, 0), (0, 1, 0))
    for picture, told in (
        (chart.depth(points, "d1"), "Between 5 and 9 messages; 7 at last."),
        (chart.deliveries(minutes, "r1"), "In 2 minutes: 8 success, 2 deferral, 0 failure."),
        (chart.ages(found, "a1"), "12 up to 1h."),
    ):
        root, title, description = parts(picture)
        assert root.get("role") == "img"
        ids = (root.get("aria-labelledby") or "").split()
        assert [child.get("id") for child in root[:2]] == ids
        assert title
        assert description == told


def test_unknown_is_drawn_as_such() -> None:
    """Where nothing is known a picture says so, and has neither line nor bar."""
    for picture in (
        chart.depth([], "d"),
        chart.depth([Point(T, None, None)], "d"),
        chart.deliveries([None] * 60, "r"),
    ):
        assert "not known yet" in picture
        assert 'class="line"' not in picture
        assert 'class="bar' not in picture


def test_line_is_broken_where_nothing_is_known() -> None:
    """A gap is a gap: no line leads from before an unknown stretch to after it."""
    points = [
        Point(T, 1, None),
        Point(T + 10, 2, None),
        Point(T + 20, None, None),
        Point(T + 30, 3, None),
        Point(T + 40, 4, None),
    ]
    assert chart.depth(points, "d").count('class="line"') == 2
    assert (
        chart.depth([*points[:2], Point(T + 900, 5, None), Point(T + 910, 5, None)], "d").count(
            'class="line"'
        )
        == 2
    )


def test_little_is_seen_beside_much() -> None:
    """One failure among a million is still a bar."""
    minutes = [{"success": 1_000_000, "deferral": 0, "failure": 1}]
    heights = re.findall(r'class="bar failure".*?height="([0-9.]+)"', chart.deliveries(minutes, "r"))
    assert [float(height) > 0.5 for height in heights] == [True]


_COUNTS = st.lists(st.integers(min_value=0, max_value=10**7), min_size=15, max_size=15)


@given(_COUNTS, _COUNTS)
def test_every_message_has_its_bar(mail: list[int], bounces: list[int]) -> None:
    """However the ages are put together for lack of room, no message is left out, and all is drawn within the picture."""
    bounds = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 259200, 432000, 604800)
    found = chart.merged(Ages(bounds, tuple(mail), tuple(bounces)))
    assert (sum(found.mail), sum(found.bounces)) == (sum(mail), sum(bounces))
    assert len(found.mail) == len(found.bounces) == len(found.bounds) + 1
    picture = chart.ages(found, "a")
    for y, height in re.findall(r'<rect [^>]* y="([-0-9.]+)" [^>]*height="([0-9.]+)"', picture):
        assert float(y) >= 0
        assert float(y) + float(height) <= chart.HEIGHT


@given(st.integers(min_value=0, max_value=10**9))
def test_axis_ends_at_a_round_number(most: int) -> None:
    """The top of an axis is not below what is drawn, not above twice as much where that is more than a few, and round."""
    top = chart.ceiling(most)
    assert most <= top <= max(2 * most, 1)
    assert len(str(top).rstrip("0")) <= 1


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (1234, "1.2k"),
        (45_600, "46k"),
        (999_600, "1.0M"),
        (12_000_000, "12M"),
    ],
)
def test_brief(number: int, said: str) -> None:
    """A number fits above a bar."""
    assert chart.brief(number) == said
