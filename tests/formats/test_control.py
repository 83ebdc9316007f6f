"""Files below control/, read as qmail reads them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats.control import Route, parse_int, parse_list, parse_routes, parse_value, route_for

names = st.lists(st.sampled_from([b"a", b"B", b".", b"c.d", b":"]), max_size=6).map(b"".join)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"mail.example\n", b"mail.example"),
        (b"mail.example", b"mail.example"),
        (b"mail.example \t \nsecond\n", b"mail.example"),
        (b" leading", b" leading"),
        (b"dos\r\n", b"dos\r"),
        (b"# no comment\n", b"# no comment"),
        (b"\nsecond\n", b""),
        (b"", b""),
    ],
)
def test_value(content: bytes, value: bytes) -> None:
    """A value is the first line without the blanks at its end, and nothing else about it changes."""
    assert parse_value(content) == value


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b"604800\n", 604800),
        (b"0", 0),
        (b"007\n", 7),
        (b"7d\n", 7),
        (b"20 # per host\n", 20),
        (b"1\n2\n", 1),
        (b"", None),
        (b"\n7\n", None),
        (b" 7\n", None),
        (b"-1\n", None),
        (b"+1\n", None),
        (b"seven\n", None),
        ("\N{ARABIC-INDIC DIGIT SEVEN}\n".encode(), None),
        (b"2147483647\n", 2147483647),
        (b"2147483648\n", -2147483648),
        (b"4294967296\n", 0),
        (b"18446744073709551617\n", 1),
    ],
)
def test_int(content: bytes, number: int | None) -> None:
    """A number is what the first line begins with, as a C int; without one qmail stays with its default."""
    assert parse_int(content) == number


@given(st.integers(0, 10**200))
def test_int_overflows_as_in_c(number: int) -> None:
    """A number of any length is cut to the 32 bits that an int has."""
    cut = number % 2**32
    assert parse_int(b"%d\n" % number) == (cut if cut < 2**31 else cut - 2**32)


def test_int_of_a_million_digits() -> None:
    """A file of digits costs no more than reading it."""
    assert parse_int(b"0" * 1_000_000 + b"5") == 5


def test_list() -> None:
    """A list is its lines less comments, empty lines and blanks at the end of a line."""
    content = b"one.example\n\n# comment\ntwo.example \t\n #no comment\n\t\nlast"
    assert parse_list(content) == (b"one.example", b"two.example", b" #no comment", b"last")


def test_list_with_nuls() -> None:
    """A NUL ends an entry and begins another, as in qmail; a line that begins with one is empty to it."""
    assert parse_list(b"a\0b\n\0c\nd\n") == (b"a", b"b", b"d")


@pytest.mark.parametrize(
    ("line", "route"),
    [
        (b"x.example:relay.example", Route(b"x.example", b"relay.example", 25)),
        (b"x.example:relay.example:26 ", Route(b"x.example", b"relay.example", 26)),
        (b":relay.example", Route(b"", b"relay.example", 25)),
        (b".x.example:", Route(b".x.example", b"", 25)),
        (b"x.example:relay.example:", Route(b"x.example", b"relay.example", 0)),
        (b"x.example:relay.example:smtp", Route(b"x.example", b"relay.example", 0)),
        (b"x.example:relay.example:65561", Route(b"x.example", b"relay.example", 25)),
        (b"x.example:[192.0.2.1]:587", Route(b"x.example", b"[192.0.2.1]", 587)),
    ],
)
def test_route(line: bytes, route: Route) -> None:
    """A route is a domain, a relay that may be empty, and a port that is 25 unless given."""
    assert parse_routes(line + b"\n") == (route,)


@pytest.mark.parametrize(
    "line",
    [b":relay:587 user secret", b":relay:587|user|secret", b":relay user secret", b":relay|user|secret"],
)
def test_route_keeps_no_password(line: bytes) -> None:
    """What a patched qmail-remote keeps behind a route to log in with does not come out of the file."""
    (route,) = parse_routes(line)
    assert route.relay == b"relay"
    assert b"secret" not in b"".join(part for part in route if isinstance(part, bytes))


def test_lines_that_are_no_routes() -> None:
    """A line without a colon routes nothing, and comments and empty lines are none."""
    assert parse_routes(b"x.example\n# a:b\n\n\n") == ()


def test_lookup() -> None:
    """The whole domain comes first, then what begins at each dot from the left, then the empty domain."""
    routes = parse_routes(b":all\n.example:below\n.x.example:nearer\nx.example:exact\n")
    found = {
        name: route.relay
        for name in (
            b"x.example",
            b"a.x.example",
            b"a.b.x.example",
            b"y.example",
            b"example",
            b"other.test",
            b"",
        )
        if (route := route_for(routes, name))
    }
    assert found == {
        b"x.example": b"exact",
        b"a.x.example": b"nearer",
        b"a.b.x.example": b"nearer",
        b"y.example": b"below",
        b"example": b"all",
        b"other.test": b"all",
        b"": b"all",
    }


def test_lookup_without_a_route() -> None:
    """Without an empty domain in the file some domains have no route."""
    assert route_for(parse_routes(b"x.example:relay\n"), b"y.example") is None
    assert route_for(parse_routes(b"x.example:relay\n"), b"a.x.example") is None
    assert route_for((), b"x.example") is None


def test_lookup_ignores_case() -> None:
    """ASCII case makes no difference, in the file or in the address."""
    assert route_for(parse_routes(b"X.Example:relay\n"), b"x.EXAMPLE") == Route(b"X.Example", b"relay", 25)


def test_last_of_equal_lines_counts() -> None:
    """Of two lines for one name constmap() finds the later."""
    assert route_for(parse_routes(b"x.example:one\nX.example:two\n"), b"x.example") == Route(
        b"X.example", b"two", 25
    )


def test_empty_relay_ends_the_search() -> None:
    """An empty relay takes a domain out of a wider route: its mail goes by MX as usual."""
    routes = parse_routes(b":smarthost\nx.example:\n")
    assert route_for(routes, b"x.example") == Route(b"x.example", b"", 25)


@given(st.lists(names, max_size=6), names)
def test_lookup_equals_the_plain_loop(keys: list[bytes], domain: bytes) -> None:
    """The lookup finds what the loop in qmail-remote.c does, written plainly."""
    routes = tuple(Route(key, b"%d" % index, 25) for index, key in enumerate(keys))
    expected = None
    for i in range(len(domain) + 1):
        if i in {0, len(domain)} or domain[i : i + 1] == b".":
            matching = [route for route in routes if route.domain.lower() == domain[i:].lower()]
            if matching:
                expected = matching[-1]
                break
    assert route_for(routes, domain) == expected


def test_lookup_of_a_name_of_dots() -> None:
    """A name takes time in proportion to its length, however many dots it has."""
    begin = time.process_time()
    assert route_for(parse_routes(b".example:a\n:b"), b"." * 1_000_000) == Route(b"", b"b", 25)
    assert time.process_time() - begin < 5


@given(st.binary(max_size=80), st.binary(max_size=20))
def test_any_bytes(content: bytes, domain: bytes) -> None:
    """Any bytes whatever give values, since nothing in a control file is an error to qmail."""
    assert b"\n" not in parse_value(content)
    assert isinstance(parse_int(content), int | None)
    assert all(b"\n" not in entry and b"\0" not in entry for entry in parse_list(content))
    routes = parse_routes(content)
    assert all(0 <= route.port <= 65535 for route in routes)
    found = route_for(routes, domain)
    assert found is None or found in routes
