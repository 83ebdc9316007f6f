"""Strangers' words: readable, without addresses, harmless, short."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmail_exporter.formats.envelope import log_safe
from qmail_exporter.status.text import _PLAIN_WORDS, LONGEST, MASK, Speech, harmless, speech

TO = b"joe.doe@x.example"


@pytest.mark.parametrize(
    ("report", "qmail", "remote"),
    [
        (
            b"192.0.2.1_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisted/Giving_up_on_192.0.2.1./",
            "192.0.2.1 does not like recipient.",
            "451 4.7.1 Greylisted",
        ),
        (
            b"192.0.2.1_failed_after_I_sent_the_message./Remote_host_said:_550-5.7.1_See/550_5.7.1_https://x.example/a?b/",
            "192.0.2.1 failed after I sent the message.",
            "550-5.7.1 See 550 5.7.1 https://x.example/a?b",
        ),
        (
            b"Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/",
            "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)",
            "",
        ),
        (
            b"Sorry,_no_luck._(#4.4.1)/I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./",
            "Sorry, no luck. (#4.4.1)",
            "",
        ),
        (b"", "", ""),
    ],
)
def test_report_becomes_readable(report: bytes, qmail: str, remote: str) -> None:
    """Underscores are spaces again, line ends are seen where a sentence or a reply code begins, and slashes of a URL stay."""
    assert speech(report, TO) == Speech(qmail, remote)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"550_<joe.doe@x.example>_unknown", "550 <…@x.example> unknown"),
        (b"550_joe.doe@x.example:_unknown", "550 …@x.example: unknown"),
        (b"550_<ann_lee@y.example>_unknown", "550 <…@y.example> unknown"),
        (b'550_"ann_lee"@y.example_unknown', "550 …@y.example unknown"),
        (b"550_mailto:ann@y.example", "550 mailto:…@y.example"),
        (b"550_User_joe.doe_unknown", "550 User … unknown"),
        (b"550_JOE.DOE_is_over_quota", "550 … is over quota"),
        (b"550_http://x.example/?r=ann_40y.example", "550 http://x.example/?… 40y.example"),
        (b"550_SRS0=ab=cd=y.example=ann@z.example", "550 …@z.example"),
        (b"550_'ann@y.example'_unknown", "550 …@y.example' unknown"),
        (b"550_a@b@c.example", "550 …@…@c.example"),
        (b"550_4.7.1_try_again_in_240_s", "550 4.7.1 try again in 240 s"),
    ],
)
def test_addresses_are_masked(said: bytes, shown: str) -> None:
    """Of an address only its domain is left, and of the recipient's local part nothing, wherever it stands."""
    assert speech(b"Remote_host_said:_" + said + b"/", TO).remote == shown


_LOCAL = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+-=!#$&'*?^`{|}~_", min_size=3, max_size=30).filter(
    lambda text: any(character.isalpha() for character in text) and text not in _PLAIN_WORDS
)
_AROUND = st.sampled_from(
    ["<%s>", "%s", "(%s)", "<%s>:", '"%s"', "mailto:%s,", "to=<%s>;", "[%s]", "%s/", "/%s_", "RCPT_TO:<%s>"]
)


@given(
    _LOCAL, st.lists(_AROUND, min_size=1, max_size=5), st.booleans(), st.integers(min_value=1, max_value=400)
)
@example("a_b", ["%s"], False, 320)
def test_recipient_never_shows(local: str, around: list[str], spaced: bool, longest: int) -> None:
    """However a report quotes its recipient, no address comes out, and nothing of the local part."""
    address = log_safe(f"{local}@host.example".encode())
    said = ("_" if spaced else "/550_").join(form % address.decode() for form in around)
    found = speech(f"Remote_host_said:_550_{said}/".encode(), address, longest=longest)
    shown = " ".join(found)
    assert not re.search(r"[A-Za-z0-9.+=!-]@", shown)
    assert not re.search(rf"(?<![A-Za-z0-9]){re.escape(local)}(?![A-Za-z0-9])", shown)


@given(_LOCAL.map(lambda text: text.replace("_", "")).filter(bool), _AROUND)
def test_strangers_address_never_shows(local: str, around: str) -> None:
    """Nor does the address of anybody else, whom a remote host may name."""
    shown = " ".join(speech(f"550_{around % f'{local}@other.example'}_no/".encode(), b"ann@x.example"))
    assert not re.search(r"[A-Za-z0-9.+=!-]@", shown)
    assert "other.example" in shown


@given(st.binary(max_size=600), st.binary(max_size=40), st.booleans())
@example(b"<joe@", b"", True)
@example(b"\x1b[31m\xe2\x80\xae_550/", b"@", False)
def test_anything_comes_out_harmless_and_short(report: bytes, recipient: bytes, cut: bool) -> None:
    """Whatever bytes come in, what comes out is printable ASCII but for the ellipsis, short, and has no local part before an @."""
    for part in speech(report, recipient, cut=cut):
        assert len(part) <= LONGEST
        assert part.replace(MASK, "").isascii()
        assert part.isprintable()
        assert not re.search(r"[A-Za-z0-9.+=!-]@", part)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("piece", [b"a", b"_", b"a=40", b'"', b"<", b"a@", b"a_40", b" "])
def test_hostile_length(piece: bytes, cut: bool) -> None:
    """A report a hundred times as long as any that qmail writes is read at once: time grows with length alone."""
    report = b"Remote_host_said:_" + piece * (1_000_000 // len(piece)) + b"_x"
    begin = time.process_time()
    speech(report, TO, cut=cut)
    assert time.process_time() - begin < 5


def test_plain_word_stays_legible() -> None:
    """A recipient with the name of a word that tells why, and names nobody, is masked before an @ only."""
    said = b"Remote_host_said:_452_<full@x.example>_mailbox_full/"
    assert speech(said, b"full@x.example").remote == "452 <…@x.example> mailbox full"


def test_recipient_called_as_qmails_words_are() -> None:
    """A recipient with the name of a word of qmail's does not keep what the host said from being told apart."""
    report = b"192.0.2.1_does_not_like_recipient./Remote_host_said:_550_no/"
    assert speech(report, b"remote@x.example") == Speech("192.0.2.1 does not like recipient.", "550 no")


def test_cut_report_ends_before_what_may_be_an_address() -> None:
    """The end of a report that was cut may be half an address, so it is left out."""
    assert speech(b"550_unknown_user_ann.le", TO, cut=True).qmail == "550 unknown user"
    assert speech(b"550_unknown_<ann_le", TO, cut=True).qmail == "550 unknown"


@given(st.text())
@example("\x1b[31m\u202egnp.exe\u2066\ud800\x00\n")
def test_names_become_harmless(text: str) -> None:
    """No control character, bidi mark or lone surrogate is left in a name, and a name without any stays as it is."""
    shown = harmless(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
