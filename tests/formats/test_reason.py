"""Why a delivery was deferred or failed."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmail_exporter.formats import reason as module
from qmail_exporter.formats.envelope import log_safe
from qmail_exporter.formats.reason import REASONS, answered, reason

RECORDED = Path(__file__).parents[1] / "data" / "recorded"

GREETING = "Connected to 192.0.2.1 but greeting failed.\nRemote host said: {}\n"
HELO = "Connected to 192.0.2.1 but my name was rejected.\nRemote host said: {}\n"
MAIL = "Connected to 192.0.2.1 but sender was rejected.\nRemote host said: {}\n"
RCPT = "192.0.2.1 does not like recipient.\nRemote host said: {}\nGiving up on 192.0.2.1.\n"
DATA = "192.0.2.1 failed on DATA command.\nRemote host said: {}\n"
SENT = "192.0.2.1 failed after I sent the message.\nRemote host said: {}\n"

GIVEN_UP = "I'm not going to try again; this message has been in the queue too long.\n"

# What hosts say, at which command, and the reason.
SAID = [
    # Gmail
    (RCPT, "550-5.1.1 The email account that you tried to reach does not exist. Please try\n550-5.1.1 double-checking the recipient's email address for typos or\n550-5.1.1 unnecessary spaces. Learn more at\n550 5.1.1  https://support.google.com/mail/?p=NoSuchUser a1si1 - gsmtp", "no_such_user"),
    (RCPT, "550-5.2.1 The email account that you tried to reach is disabled. Learn more at\n550 5.2.1  https://support.google.com/mail/?p=DisabledUser a1si1 - gsmtp", "no_such_user"),
    (RCPT, "452-4.2.2 The recipient's inbox is out of storage space. Please direct the\n452 4.2.2 recipient to https://support.google.com/mail/?p=OverQuotaTemp a1si1 - gsmtp", "mailbox_full"),
    (RCPT, "450-4.2.1 The user you are trying to contact is receiving mail at a rate that\n450-4.2.1 prevents additional messages from being delivered. a1si1 - gsmtp", "rate_limit"),
    (RCPT, "450-4.2.1 The user you are trying to contact is receiving mail too quickly. a1si1 - gsmtp", "rate_limit"),
    (SENT, "421-4.7.0 [192.0.2.7      15] Our system has detected that this message is\n421-4.7.0 suspicious due to the very low reputation of the sending IP address. a1si1 - gsmtp", "policy"),
    (SENT, "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP\n421-4.7.28 address. To protect our users from spam, mail has been temporarily rate limited. a1si1 - gsmtp", "rate_limit"),
    (SENT, "421-4.7.0 [192.0.2.7] Our system has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users from spam, mail sent from your IP address has been temporarily blocked. a1si1 - gsmtp", "rate_limit"),
    (SENT, "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM. a1si1 - gsmtp", "policy"),
    (SENT, "550-5.7.25 [192.0.2.7] The IP address sending this message does not have a\n550-5.7.25 PTR record setup. a1si1 - gsmtp", "policy"),
    (SENT, "550-5.7.1 [192.0.2.7] Our system has detected that this message is likely\n550-5.7.1 unsolicited mail. a1si1 - gsmtp", "policy"),
    (SENT, "552-5.7.0 This message was blocked because its content presents a potential\n552-5.7.0 security issue. a1si1 - gsmtp", "policy"),
    (SENT, "552-5.2.3 Your message exceeded Google's message size limits. a1si1 - gsmtp", "policy"),
    (MAIL, "421-4.7.0 TLS required for RCPT domain, closing connection. a1si1 - gsmtp", "tls"),
    (RCPT, "421 4.4.5 Server busy, try again later. a1si1 - gsmtp", "rate_limit"),
    (RCPT, "452 4.5.3 Your message has too many recipients. a1si1 - gsmtp", "rate_limit"),
    (RCPT, "550 5.4.5 Daily sending quota exceeded. a1si1 - gsmtp", "rate_limit"),
    (HELO, "421 4.7.0 Try again later, closing connection. (HELO) a1si1 - gsmtp", "greeting"),
    # Outlook, Exchange
    (MAIL, "550 5.7.1 Unfortunately, messages from [192.0.2.7] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140).", "policy"),
    (MAIL, "451 4.7.650 The mail server [192.0.2.7] has been temporarily rate limited due to IP reputation. For e-mail delivery information, see https://aka.ms/postmaster (S775)", "rate_limit"),
    (MAIL, "451 4.7.500 Server busy. Please try again later from [192.0.2.7]. (S77719)", "rate_limit"),
    (GREETING, "421 4.3.2 The maximum number of concurrent server connections has exceeded a limit, closing transmission channel", "rate_limit"),
    (RCPT, "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", "no_such_user"),
    (RCPT, "550 5.4.1 Recipient address rejected: Access denied. [x.prod.protection.outlook.com]", "no_such_user"),
    (SENT, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "no_such_user"),
    (SENT, "554 5.2.2 mailbox full; STOREDRV.Deliver; delivery result banner", "mailbox_full"),
    (RCPT, "550 5.7.606 Access denied, banned sending IP [192.0.2.7].", "policy"),
    (SENT, "550 5.7.515 Access denied, sending domain x.example does not meet the required authentication level.", "policy"),
    # Yahoo, AOL
    (MAIL, "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes", "rate_limit"),
    (MAIL, "421 Message from (192.0.2.7) temporarily deferred - 4.16.50. Please refer to http://help.yahoo.com/", "rate_limit"),
    (SENT, "554 delivery error: dd This user doesn't have a yahoo.com account (a@yahoo.com) [0] - mta1.mail.example", "no_such_user"),
    (SENT, "554 delivery error: dd Sorry, your message to a@yahoo.com cannot be delivered. This mailbox is disabled (554.30).", "no_such_user"),
    (GREETING, "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.7, because the ip is in Spamhaus's list; see http://postmaster.yahoo.com/550-bl23.html", "policy"),
    # Apple, GMX, others
    (RCPT, "552 5.2.2 <a@icloud.example>: user is over quota (in reply to RCPT TO command)", "mailbox_full"),
    (SENT, "550-Requested action not taken: mailbox unavailable\n550-Reject due to policy restrictions.\n550 For explanation visit https://postmaster.gmx.example/", "policy"),
    (GREETING, "554-mx.x.example\n554 Your access to this mail system has been rejected due to the sending MTA's poor reputation.", "policy"),
    (GREETING, "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.7", "policy"),
    (RCPT, "550 5.7.1 Service unavailable, Client host [192.0.2.7] blocked using Barracuda Reputation.", "policy"),
    (RCPT, "550 #5.1.0 Address rejected.", "no_such_user"),
    (RCPT, "550 5.1.1 <quota@x.example>... User unknown", "no_such_user"),
    # Postfix and policy daemons
    (RCPT, "450 4.2.0 <a@x.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/x.example.html", "greylist"),
    (RCPT, "451 4.7.1 Greylisting in action, please come back later", "greylist"),
    (RCPT, "550 5.1.1 <a@x.example>: Recipient address rejected: User unknown in virtual mailbox table", "no_such_user"),
    (RCPT, "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.7]", "policy"),
    (RCPT, "450 4.1.8 <s@y.example>: Sender address rejected: Domain not found", "policy"),
    (RCPT, "450 4.1.2 <a@x.example>: Recipient address rejected: Domain not found", "dns"),
    (RCPT, "554 5.7.1 <a@x.example>: Relay access denied", "policy"),
    (RCPT, "504 5.5.2 <mx>: Helo command rejected: need fully-qualified hostname", "policy"),
    (RCPT, "450 4.7.1 Error: too much mail from 192.0.2.7", "policy"),
    (MAIL, "530 5.7.0 Must issue a STARTTLS command first", "tls"),
    (MAIL, "452 4.3.1 Insufficient system storage", "system"),
    (MAIL, "552 5.3.4 Message size exceeds fixed limit", "policy"),
    (SENT, "554 5.4.0 Error: too many hops", "system"),
    (SENT, "421 4.4.2 mx.x.example Error: timeout exceeded", "connection_died"),
    (SENT, "554 5.7.0 Reject, id=23375-02 - SPAM", "policy"),
    (SENT, "550 5.7.1 Message contains a virus (Eicar-Signature)", "policy"),
    (DATA, "554 5.5.1 Error: no valid recipients", "protocol"),
    # Exim, sendmail, spamd, qmail-smtpd
    (RCPT, "550 Unrouteable address", "no_such_user"),
    (RCPT, "550 No Such User Here", "no_such_user"),
    (RCPT, "451 Temporary local problem - please try later", "system"),
    (RCPT, "550-Verification failed for <s@y.example>\n550-No Such User Here\n550 Sender verify failed", "policy"),
    (RCPT, "451-192.0.2.7 is not yet authorized to deliver mail from\n451 to <a@x.example>. Greylisted. Please try later.", "greylist"),
    (RCPT, "451 Temporary failure, please try again later.", "greylist"),
    (RCPT, "552 5.2.2 Over quota", "mailbox_full"),
    (RCPT, "550 5.2.1 <a@x.example>... Mailbox disabled for this recipient", "no_such_user"),
    (RCPT, "511 sorry, no mailbox here by that name (#5.1.1 - chkuser)", "no_such_user"),
    (RCPT, "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "policy"),
    (MAIL, "553 sorry, your envelope sender domain must exist (#5.7.1)", "policy"),
    (SENT, "451 qq temporary problem (#4.3.0)", "system"),
    (MAIL, "550 5.1.0 Address rejected", "policy"),
    # Nothing but a code, and less
    (RCPT, "550 no", "no_such_user"),
    (SENT, "550 no", "policy"),
    (RCPT, "552 no", "mailbox_full"),
    (SENT, "500 no", "protocol"),
    (RCPT, "450 no", "other"),
    (RCPT, "550 5.1.1.9 is where I live", "no_such_user"),
    (RCPT, "450 4.9.9 no", "other"),
    (RCPT, "no", "other"),
    (RCPT, "", "other"),
    (GREETING, "554 5.7.1 No SMTP service here", "greeting"),
    (GREETING, "", "greeting"),
]  # fmt: skip

# What qmail says itself, without another host.
OWN = [
    ("Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n", "connect"),
    ("Sorry, I wasn't able to establish an SMTP connection.\n", "connect"),
    ("CNAME lookup failed temporarily. (#4.4.3)\n", "dns"),
    ("Sorry, I couldn't find any host by that name. (#4.1.2)\n", "dns"),
    ("Sorry, I couldn't find any host named x.example. (#5.1.2)\n", "dns"),
    ("Sorry, I couldn't find any host named (#5.7.1).spam.tls.example. (#5.1.2)\n", "dns"),
    ("Sorry, I couldn't find any host named spam.tls.example.\n", "dns"),
    ("Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n", "dns"),
    (
        "Sorry. Although I'm listed as a best-preference MX or A for that host,\nit isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n",
        "system",
    ),
    ("Connected to 192.0.2.1 but connection died. (#4.4.2)\n", "connection_died"),
    ("Connected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)\n", "connection_died"),
    ("Connected to 192.0.2.1 but greeting failed.\n", "greeting"),
    ("Connected to 192.0.2.1 but sender was rejected.\n", "policy"),
    ("SMTP cannot transfer messages with partial final lines. (#5.6.2)\n", "protocol"),
    ("I (qmail-remote) was invoked improperly. (#5.3.5)\n", "system"),
    ("System resources temporarily unavailable. (#4.3.0)\n", "system"),
    ("Unable to read message. (#4.3.0)\n", "system"),
    ("qmail-remote crashed.\n", "system"),
    ("Unable to run qmail-remote.\n", "system"),
    ("Sorry, address must include host name. (#5.1.3)\n", "no_such_user"),
    ("TLS connect failed: timed out; connecting to 192.0.2.1\n", "tls"),
    ("TLS not available: no ciphers; connecting to 192.0.2.1\nRemote host said: 454 4.3.0 no\n", "tls"),
    ("this host is throttled here\n", "rate_limit"),
    ("Something new. (#4.9.1)\n", "other"),
    ("192.0.2.1 does not like recipient.\nGiving up on 192.0.2.1.\n", "other"),
    ("", "other"),
]

LOCAL = [
    ("", "local"),
    ("Sorry, no mailbox here by that name. (#5.1.1)\n", "no_such_user"),
    ("Sorry, no mailbox here by that name. vpopmail (#5.1.1)\n", "no_such_user"),
    ("Recipient's mailbox is full, message returned to sender. (#5.2.2)\n", "mailbox_full"),
    ("user is over quota\n", "mailbox_full"),
    ("maildrop: maildir over quota.\n", "mailbox_full"),
    ("Unable to chdir to maildir. (#4.2.1)\n", "local"),
    ("Temporary error on maildir delivery. (#4.3.0)\n", "local"),
    ("Uh-oh: first line of .qmail file is program delivery. (#4.7.0)\n", "local"),
    ("This message is looping: it already has my Delivered-To line. (#5.4.6)\n", "local"),
    ("Unable to find alias user!\n", "local"),
    ("this list is for members only, greylisted by policy\n", "local"),
    ("Unable to open ./Mailbox: disk quota exceeded. (#4.2.1)\n", "local"),
    ("Connected to 192.0.2.1 but connection died. (#4.4.2)\n", "local"),
    (GIVEN_UP, "expired"),
]

# Every report of the recordings but for their delivery number.
RECORDED_REMOTE = {
    "127.0.0.1_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisted,_please_try_again_in_300_seconds/Giving_up_on_127.0.0.1./": "greylist",
    "127.0.0.1_does_not_like_recipient./Remote_host_said:_452_4.2.2_Mailbox_full/Giving_up_on_127.0.0.1./": "mailbox_full",
    "127.0.0.1_does_not_like_recipient./Remote_host_said:_550_5.1.1_No_such_user_here/Giving_up_on_127.0.0.1./": "no_such_user",
    "127.0.0.1_failed_after_I_sent_the_message./Remote_host_said:_452_4.3.1_Insufficient_system_storage/": "system",
    "127.0.0.1_failed_after_I_sent_the_message./Remote_host_said:_554_5.7.1_Message_looks_like_spam/": "policy",
    "127.0.0.1_failed_on_DATA_command./Remote_host_said:_451_4.3.0_Temporary_failure_on_DATA/": "system",
    "127.0.0.1_failed_on_DATA_command./Remote_host_said:_554_5.6.0_Message_refused_on_DATA/": "protocol",
    "Connected_to_127.0.0.1_but_connection_died._(#4.4.2)/": "connection_died",
    "Connected_to_127.0.0.1_but_greeting_failed./Remote_host_said:_421_4.3.2_Service_not_available,_too_many_connections/": "rate_limit",
    "Connected_to_127.0.0.1_but_greeting_failed./Remote_host_said:_554_5.7.1_No_SMTP_service_here/": "greeting",
    "Connected_to_127.0.0.1_but_my_name_was_rejected./Remote_host_said:_451_4.3.0_temporary_HELO_problem/": "greeting",
    "Connected_to_127.0.0.1_but_sender_was_rejected./Remote_host_said:_451_4.1.8_Sender_domain_does_not_resolve/": "policy",
    "Connected_to_127.0.0.1_but_sender_was_rejected./Remote_host_said:_550_5.7.1_Mail_from_66.31.124.111_rejected;_see_http://www.example.net/blackhole?ip=66.31.124.111/": "policy",
    "Sorry,_I_couldn't_find_any_host_named_nodns.example._(#5.1.2)/": "dns",
    "Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/": "connect",
}  # fmt: skip


def recorded_reports() -> set[tuple[str, str]]:
    """Return each channel and report of a deferral or failure in the recordings."""
    channels: dict[str, str] = {}
    reports = set()
    for path in sorted(RECORDED.glob("*/log")):
        for line in path.read_text("ascii").splitlines():
            if match := re.search(r"starting delivery (\d+): msg \d+ to (\w+) ", line):
                channels[match[1]] = match[2]
            elif match := re.search(r"delivery (\d+): (?:deferral|failure): (.*)", line):
                reports.add((channels[match[1]], match[2]))
    return reports


@pytest.mark.parametrize(("stage", "text", "expected"), SAID)
def test_what_hosts_say(stage: str, text: str, expected: str) -> None:
    """What a host says has its reason, as qmail-remote reports it and as the log shows it; the host answered."""
    report = stage.format(text).encode()
    assert reason(report) == reason(log_safe(report)) == expected
    assert answered(report)
    assert answered(log_safe(report))


@pytest.mark.parametrize(("text", "expected"), OWN)
def test_what_qmail_says(text: str, expected: str) -> None:
    """What qmail says itself has its reason in both forms, and a quoted domain does not decide it."""
    report = text.encode()
    assert reason(report) == reason(log_safe(report)) == expected


@pytest.mark.parametrize(("text", "expected"), LOCAL)
def test_local_reports(text: str, expected: str) -> None:
    """Of local reports the recipient's own trouble and the end of the lifetime are told apart, and no more."""
    report = text.encode()
    assert reason(report, "local") == reason(log_safe(report), "local") == expected


def test_other_channels_are_remote() -> None:
    """A channel that only a fork has is read as remote."""
    report = b"Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/"
    assert reason(report, "slow1") == reason(report, "remote") == "connect"


@pytest.mark.parametrize(
    "before", ["", "Connected to 192.0.2.1 but connection died. (#4.4.2)\n", RCPT.format("451 4.7.1 no")]
)
def test_expired(before: str) -> None:
    """A message that ran out of time is expired, whatever its last attempt met."""
    report = (before + GIVEN_UP).encode()
    assert reason(report) == reason(log_safe(report)) == "expired"


def test_expired_is_said_last() -> None:
    """A host that quotes qmail's sentence in passing does not make a message expired."""
    assert reason(RCPT.format("550 5.7.1 " + GIVEN_UP).encode()) == "policy"


def test_recorded_reports() -> None:
    """Every report of the recordings has the reason stated here, and none is stated in vain."""
    found: dict[str, str] = {}
    for channel, report in recorded_reports():
        why = reason(report.encode(), channel)
        if report.endswith("I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./"):
            assert why == "expired"
        elif channel == "local":
            assert (report, why) == ("", "local")
        else:
            found[report] = why
    assert found == RECORDED_REMOTE


@pytest.mark.parametrize(
    ("report", "spoke"),
    [
        (b"192.0.2.1_accepted_message./Remote_host_said:_250_ok/", True),
        (b"192.0.2.1 accepted message.\n", True),
        (b"Connected_to_192.0.2.1_but_connection_died._(#4.4.2)/", True),
        (b"Connected_to_192.0.2.1_but_greeting_failed./", True),
        (b"192.0.2.1_does_not_like_recipient./Giving_up_on_192.0.2.1./", True),
        (b"TLS_connect_failed:_timed_out;_connecting_to_192.0.2.1/", True),
        (b"Connected_to_192.0.2.1_but_connection_died._(#4.4.2)/I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./", True),
        (b"Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/", False),
        (b"Sorry,_I_couldn't_find_any_host_named_connected_to_.example._(#5.1.2)/", False),
        (b"CNAME_lookup_failed_temporarily._(#4.4.3)/", False),
        (b"System_resources_temporarily_unavailable._(#4.3.0)/", False),
        (b"I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./", False),
        (b"did_0+0+1/", False),
        (b"", False),
    ],
)  # fmt: skip
def test_answered(report: bytes, spoke: bool) -> None:
    """A report shows an answer when a host took a connection, whatever came of it, and not by a domain it quotes."""
    assert answered(report) is spoke


@given(
    st.one_of(st.binary(max_size=400), st.text("(#45.17)@ _/tlsquota", max_size=80).map(str.encode)),
    st.sampled_from(["local", "remote", "x"]),
)
def test_any_bytes(report: bytes, channel: str) -> None:
    """Any bytes whatever have a reason of the closed set, alone and as what a host said."""
    assert reason(report, channel) in REASONS
    assert reason(RCPT.encode().replace(b"{}", report), channel) in REASONS
    assert answered(report) in {True, False}


@given(st.binary(max_size=60))
@example(b"mailbox full%@")
@example(b"mailbox\xa0full")
def test_form_makes_no_difference(text: bytes) -> None:
    """A report has one reason, as a host said it and as the log shows it."""
    report = SENT.encode().replace(b"{}", text)
    assert reason(report) == reason(log_safe(report))
    assert answered(text) == answered(log_safe(text))


def test_tables_are_of_the_closed_set() -> None:
    """No table gives a reason that is not among those there are, and each of these can come out."""
    tables = [*module.PHRASES, *module.PLAIN_CODES, *module.CODES, *module.REPLIES]
    given_out = {name for name, _ in tables} | {name for _, name in module.OWN_PHRASES}
    assert given_out | {"expired", "local", "other"} == set(REASONS)


@pytest.mark.parametrize(
    "piece",
    [b"t", b"<", b"@", b"a@ ", b"(#", b"(#4.4.1", b"_", b"/", b"Remote_host_said:_", b"451_4.7.1_", b"too too many ", b"connected to"],
)  # fmt: skip
@pytest.mark.parametrize("head", [b"", b"192.0.2.1_does_not_like_recipient./Remote_host_said:_451_"])
def test_hostile_length(head: bytes, piece: bytes) -> None:
    """A report a hundred times as long as any that qmail writes is read at once: time grows with length alone."""
    report = head + piece * (1_000_000 // len(piece))
    start = time.process_time()
    assert reason(report) in REASONS
    answered(report)
    assert time.process_time() - start < 2
