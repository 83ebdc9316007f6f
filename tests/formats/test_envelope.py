"""Names and contents of the queue's envelope files."""

import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import (
    MAX_DOMAIN,
    MAX_MESSAGE_ID,
    NO_DOMAIN,
    ChannelCount,
    Recipient,
    Sender,
    Todo,
    count_channel,
    domain,
    log_safe,
    message_id,
    parse_channel,
    parse_info,
    parse_todo,
    pending_addresses,
    sender_kind,
)

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
ROUNDS = sorted(path.parent for path in RECORDED.glob("*/queue.tar.gz"))

# Letters that mean something in a record or in an address come up far more often than among all bytes.
addresses = st.one_of(
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"")),
    st.lists(st.sampled_from([b"T", b"D", b"t", b"@", b".", b"\n", b"%", b"(", b"A", b"\xff"])).map(b"".join),
)
recipients = st.lists(st.builds(Recipient, address=addresses, done=st.booleans()), max_size=30)


def channel_file(listed: list[Recipient]) -> bytes:
    """Write a channel's file as qmail-send would leave it."""
    return b"".join((b"D" if done else b"T") + address + b"\0" for address, done in listed)


def queue_files(round_directory: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield directory, message number and content of each envelope file of a recorded queue."""
    with tarfile.open(round_directory / "queue.tar.gz") as tar:
        for member in tar:
            parts = member.name.split("/")
            stream = tar.extractfile(member)
            if stream and parts[-1].isdigit() and parts[1] != "mess":
                yield parts[1], parts[-1], stream.read()


# -- names


@pytest.mark.parametrize("name", [b"1", b"9", b"1467090", b"9223372036854775807"])
def test_message_number(name: bytes) -> None:
    """A message's name is its number in decimal."""
    assert message_id(name) == int(name)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"0",
        b"01",
        b"+1",
        b"-1",
        b"1 ",
        b" 1",
        b"1_0",
        b"1.tmp",
        b"tcpto",
        b".",
        b"9223372036854775808",
        b"18446744073709551616",
        "\N{ARABIC-INDIC DIGIT ONE}".encode(),
        "\N{SUPERSCRIPT TWO}".encode("latin-1"),
        b"1" * 5000,
    ],
)
def test_no_message_number(name: bytes) -> None:
    """A name that qmail would not write is no message, however close it comes to a number."""
    assert message_id(name) is None


@given(st.one_of(st.binary(max_size=25), st.integers(0, 2 * MAX_MESSAGE_ID).map(lambda n: str(n).encode())))
def test_message_number_is_canonical(name: bytes) -> None:
    """A number that is accepted is within the limits and is written in one way only."""
    number = message_id(name)
    if number is not None:
        assert 1 <= number <= MAX_MESSAGE_ID
        assert b"%d" % number == name


# -- senders, info, todo


@pytest.mark.parametrize(
    ("sender", "kind"),
    [
        (b"", Sender.BOUNCE),
        (b"#@[]", Sender.DOUBLE),
        (b"a@mail.test", Sender.MAIL),
        (b"list-return-@lists.test-@[]", Sender.MAIL),
        (b" ", Sender.MAIL),
        (b"##@[]", Sender.MAIL),
    ],
)
def test_sender_tells_bounces(sender: bytes, kind: Sender) -> None:
    """Exactly the empty sender is a bounce and exactly #@[] a double bounce; a VERP list is mail."""
    assert sender_kind(sender) is kind


@pytest.mark.parametrize(
    ("content", "sender"),
    [(b"F\0", b""), (b"Fa@mail.test\0", b"a@mail.test"), (b"FF\nT\0", b"F\nT"), (b"Fa\0hSubject: x\0", b"a")],
)
def test_info(content: bytes, sender: bytes) -> None:
    """An info file holds the sender; what a fork puts behind it does not matter."""
    assert parse_info(content) == sender


@pytest.mark.parametrize("content", [b"", b"F", b"Fa@mail.test", b"\0", b"Ta\0", b"\0Fa\0"])
def test_bad_info(content: bytes) -> None:
    """An info file that is still being written, or begins with something else, is an error."""
    with pytest.raises(FormatError):
        parse_info(content)


def test_todo() -> None:
    """A todo file holds uid, pid, sender and recipients, all of them in their order."""
    content = b"u1000\0p4711\0Fa@mail.test\0Tb@x.example\0T\0Tb@x.example\0"
    assert parse_todo(content) == Todo(1000, 4711, b"a@mail.test", (b"b@x.example", b"", b"b@x.example"))


def test_todo_of_a_fork() -> None:
    """Records that only a fork knows are passed over."""
    assert parse_todo(b"u0\0p1\0F\0Ta\0eX-Header: y\n\0h\0") == Todo(0, 1, b"", (b"a",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"u1\0p2\0F",
        b"u1\0p2\0Ta\0",
        b"u1\0p2\0Fa\0Fb\0",
        b"p2\0Fa\0",
        b"u1\0Fa\0",
        b"u\0p2\0Fa\0",
        b"u-1\0p2\0Fa\0",
        b"u1\0p2x\0Fa\0",
        b"u" + b"1" * 5000 + b"\0p2\0Fa\0",
    ],
)
def test_bad_todo(content: bytes) -> None:
    """A todo file without an end, a sender, a uid or a pid is an error."""
    with pytest.raises(FormatError):
        parse_todo(content)


def test_todo_cut_anywhere() -> None:
    """Cut within a record a todo file is an error; cut between two it is one with fewer recipients."""
    content = b"u0\0p1\0Fs\0Tone\0Ttwo\0"
    ends = [i + 1 for i, byte in enumerate(content) if byte == 0]
    for size in range(len(content) + 1):
        if size in ends[2:]:
            assert parse_todo(content[:size]).recipients == (b"one", b"two")[: ends.index(size) - 2]
        else:
            with pytest.raises(FormatError):
                parse_todo(content[:size])


# -- channels


def test_channel() -> None:
    """A channel's file lists the recipients that are done and those that are not."""
    content = b"Ta@x.example\0Db@x.example\0T\0"
    assert parse_channel(content) == [(b"a@x.example", False), (b"b@x.example", True), (b"", False)]


def test_empty_channel() -> None:
    """A channel's file that holds nothing yet has no recipients."""
    assert parse_channel(b"") == []
    assert count_channel(b"") == ChannelCount(0, 0, {})
    assert pending_addresses(b"") == []


@pytest.mark.parametrize(
    "content", [b"T", b"Ta", b"Ta\0D", b"\0", b"Ta\0\0", b"\0Ta\0", b"Xa\0", b"Ta\0Xb\0", b"ta\0"]
)
def test_bad_channel(content: bytes) -> None:
    """A record without an end or of another kind is an error, however the file is read."""
    for read in (parse_channel, count_channel, pending_addresses):
        with pytest.raises(FormatError):
            read(content)


def test_count_by_domain() -> None:
    """Recipients are counted under their domain's key, whatever their spelling; those done do not count there."""
    content = b"Ta@X.example\0Tb@x.EXAMPLE.\0Db@x.example\0Tc@y\0Tnowhere\0Tempty@\0T\0Tdot@.\0"
    assert count_channel(content) == ChannelCount(7, 1, {"x.example": 2, "y": 1, NO_DOMAIN: 4})


@given(recipients)
def test_channel_reads_back(listed: list[Recipient]) -> None:
    """What qmail-send writes is read as it was meant."""
    assert parse_channel(channel_file(listed)) == listed


@given(recipients)
def test_count_equals_the_slow_way(listed: list[Recipient]) -> None:
    """Counting in one pass gives what counting record by record gives."""
    pending = [address for address, done in listed if not done]
    assert count_channel(channel_file(listed)) == ChannelCount(
        len(pending), len(listed) - len(pending), dict(Counter(map(domain, pending)))
    )


@given(recipients)
def test_addresses_equal_the_slow_way(listed: list[Recipient]) -> None:
    """The pending addresses in one pass are those of the records, in their order, doubles kept."""
    expected = [log_safe(address) for address, done in listed if not done]
    assert pending_addresses(channel_file(listed)) == expected


def accepts(parse: Callable[[bytes], object], content: bytes) -> bool:
    """Tell a value from a FormatError; any other exception fails the test."""
    try:
        parse(content)
    except FormatError:
        return False
    return True


@given(st.one_of(st.binary(max_size=60), st.text("TDF up01@\0", max_size=40).map(str.encode)))
def test_any_bytes(content: bytes) -> None:
    """Any bytes whatever give a value or a FormatError, and the ways to read a channel agree on which."""
    assert len({accepts(read, content) for read in (parse_channel, count_channel, pending_addresses)}) == 1
    accepts(parse_info, content)
    accepts(parse_todo, content)


# -- addresses in the log and as keys


def test_log_safe() -> None:
    """The log shows a newline as a slash and any other unsafe byte as an underscore."""
    assert log_safe(b"a b%c\td\ne\x7ff\xffg~!h") == b"a_b_c_d/e_f_g~!h"


@given(st.binary())
def test_log_safe_byte_by_byte(raw: bytes) -> None:
    """log_safe is what logsafe() in qsutil.c is, and doing it twice changes nothing."""
    plain = bytes(
        ord("/") if byte == 10 else ord("_") if byte == ord("%") or byte < 33 or byte > 126 else byte
        for byte in raw
    )
    assert log_safe(raw) == plain
    assert log_safe(plain) == plain


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (b"a@x.example", "x.example"),
        (b"a@b@X.Example", "x.example"),
        (b"a@x.example.", "x.example"),
        (b"a@x.example..", "x.example."),
        (b"a@[127.0.0.1]", "[127.0.0.1]"),
        (b"a@x y\n%\xc3\xa9", "x_y/___"),
        (b"a@" + b"x" * 300, "x" * 253),
        (b"", NO_DOMAIN),
        (b"a", NO_DOMAIN),
        (b"a@", NO_DOMAIN),
        (b"a@.", NO_DOMAIN),
        (b"a@(other)", NO_DOMAIN),
        (b"a@x\0y", "x_y"),
    ],
)
def test_domain(address: bytes, key: str) -> None:
    """The key is the domain in lower case without its final dot, safe to print; without a domain it says so."""
    assert domain(address) == key


@given(addresses)
def test_domain_is_a_safe_label(address: bytes) -> None:
    """A key is short, printable and nobody's to choose beyond that: only `(none)` begins with a parenthesis."""
    key = domain(address)
    assert 1 <= len(key) <= MAX_DOMAIN
    assert all(33 <= ord(char) <= 126 for char in key)
    assert key == NO_DOMAIN or not key.startswith("(")


@given(addresses)
def test_domain_from_the_log(address: bytes) -> None:
    """The address in the queue and the same address in the log have one key."""
    assert domain(log_safe(address)) == domain(address)


# -- recordings


@pytest.mark.parametrize("directory", ROUNDS, ids=lambda path: path.name)
def test_recorded_envelopes(directory: Path) -> None:
    """What a real qmail left in its queue counts up to what its own qmail-qread listed."""
    counted: Counter[tuple[str, bool]] = Counter()
    bounces = 0
    for kind, name, content in queue_files(directory):
        assert message_id(name.encode()) == int(name)
        if kind == "info":
            bounces += sender_kind(parse_info(content)) is Sender.BOUNCE
        elif kind in {"local", "remote"}:
            count = count_channel(content)
            assert sum(count.domains.values()) == count.pending == len(pending_addresses(content))
            counted[kind, False] += count.pending
            counted[kind, True] += count.done
    listing = (directory / "qread.txt").read_text("latin-1").splitlines()
    listed = Counter((line.split("	")[1], line.startswith("  done")) for line in listing if "	" in line)
    assert +counted == listed
    assert bounces == sum("  <>  " in line or line.endswith("  <> ") for line in listing)
