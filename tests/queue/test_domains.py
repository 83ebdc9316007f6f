from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats.envelope import domain
from qmail_exporter.queue.domains import Domains, domain_of, elect

WEIGHTS = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 40))


@given(WEIGHTS, st.sets(st.sampled_from("abcdefghij")), st.integers(0, 6))
def test_election_fills_the_seats_with_the_heaviest(
    weights: dict[str, int], sitting: set[str], seats: int
) -> None:
    """No more sit than there are seats, none is left free, and no outsider weighs over a quarter more than who sits."""
    sitting = {name for name in sorted(sitting) if name in weights}
    sitting = set(sorted(sitting)[:seats])
    chosen = elect(sitting, weights.keys() - sitting, weights.__getitem__, seats)
    assert len(chosen) == min(seats, len(weights))
    lightest = min((weights[name] for name in chosen), default=0)
    assert all(weights[name] <= 1.25 * lightest for name in weights.keys() - chosen) or not seats
    assert elect(chosen, weights.keys() - chosen, weights.__getitem__, seats) == chosen


def test_equals_do_not_take_turns() -> None:
    """A domain that weighs as much, or up to a quarter more, does not displace who sits; one that weighs more does."""
    for weight, winner in ((100, "old"), (125, "old"), (126, "new")):
        weights = {"old": 100, "new": weight}
        assert elect({"old"}, {"new"}, weights.__getitem__, 1) == {winner}
    assert elect({"new"}, {"old"}, {"old": 130, "new": 126}.__getitem__, 1) == {"new"}


@given(st.one_of(st.binary(max_size=40), st.just(b"x@" + b"a" * 300), st.from_regex(rb"[a-c]@[A-C(.@]{0,3}")))
def test_remembered_name_is_the_name(address: bytes) -> None:
    """The remembered key of an address is its `domain`."""
    assert domain_of(address) == domain(address) == domain_of(address)


def deferred(domains: Domains, name: str) -> dict[int, int]:
    found = domains.get(name)
    assert found is not None
    return {reason: count for reason, count in (found.deferred or {}).items() if count}


def oldest(domains: Domains, name: str) -> int | None:
    found = domains.get(name)
    return found.births.first() if found and found.births else None


def test_domain_lives_while_something_waits_for_it() -> None:
    """A domain is known while it has pending recipients; then its number is given to another."""
    domains = Domains(10)
    first = domains.number("a.example")
    domains.wait(first, 2)
    second = domains.number("b.example")
    domains.wait(second, 1)
    assert (domains.number("a.example"), domains.name(first), len(domains), domains.pending) == (
        first,
        "a.example",
        2,
        3,
    )
    domains.wait(first, -2)
    assert domains.get("a.example") is None
    assert domains.number("c.example") == first != second
    domains.wait(first, 1)
    assert {found.name for found in domains.shown()} == {"b.example", "c.example"}


def test_deferred_recipients_are_counted_by_reason() -> None:
    """Deferrals add up by domain and reason, and what is taken back is gone; the oldest birth is known meanwhile."""
    domains = Domains(10)
    number = domains.number("a.example")
    domains.wait(number, 3)
    domains.defer(number, [(1, 2), (4, 1)], 500)
    domains.defer(number, [(1, 1)], 400)
    found = domains.get("a.example")
    assert found is not None
    assert found.births is not None
    assert (deferred(domains, "a.example"), found.births.first()) == ({1: 3, 4: 1}, 400)
    domains.undefer(number, [(1, 1)], 400)
    assert (deferred(domains, "a.example"), found.births.first()) == ({1: 2, 4: 1}, 500)
    domains.undefer(number, [(1, 2), (4, 1)], 500)
    assert domains.get("a.example") is found
    assert not found.deferred
    assert not oldest(domains, "a.example")
    assert not any(domains.deferred.values())


@given(
    st.integers(1, 4),
    st.lists(
        st.one_of(st.none(), st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 9)), st.integers(0, 20))
    ),
)
def test_shown_domains_are_the_largest(seats: int, steps: list[tuple[str, int] | int | None]) -> None:
    """As many domains are shown as there are seats and domains; after an election none hidden is a quarter larger."""
    domains = Domains(seats)
    waiting: Counter[str] = Counter()
    added: list[tuple[str, int]] = []
    for step in steps:
        if step is None:
            domains.elect()
            shown = {found.name: found.pending for found in domains.shown()}
            assert shown == {name: waiting[name] for name in shown}
            assert len(shown) == min(seats, len(waiting))
            assert all(n <= 1.25 * min(shown.values()) for name, n in waiting.items() if name not in shown)
        elif isinstance(step, tuple):
            domains.wait(domains.number(step[0]), step[1])
            waiting[step[0]] += step[1]
            added.append(step)
        elif added:
            name, count = added.pop(step % len(added))
            domains.wait(domains.number(name), -count)
            waiting[name] -= count
            waiting += Counter()
        assert len(domains) == len(waiting)
        assert domains.pending == sum(waiting.values())
        assert len(domains.shown()) <= seats


def test_edge_does_not_flap() -> None:
    """Two domains at the edge that overtake one another by little leave the choice as it was."""
    domains = Domains(1)
    domains.wait(domains.number("a.example"), 100)
    domains.wait(domains.number("b.example"), 95)
    chosen = []
    for step in (10, -10) * 5:
        domains.wait(domains.number("b.example"), step)
        domains.elect()
        chosen += [found.name for found in domains.shown()]
    assert chosen == ["a.example"] * 10


@pytest.mark.parametrize("seats", [0, 1])
def test_few_seats(seats: int) -> None:
    """With no seats at all nothing is shown, and nothing breaks."""
    domains = Domains(seats)
    for name in ("a.example", "b.example"):
        domains.wait(domains.number(name), 1)
    domains.elect()
    assert len(domains.shown()) == seats
