"""The incidents, each with the alerts that it is to raise, and calm runs, which are to raise none.

Times are minutes since the exporter's start.  Each host has its usual mail all the while.
"""

from pathlib import Path

from incidents import acts
from incidents.host import Host
from incidents.script import Page, Script, host
from incidents.world import GOOD, World
from qmail_exporter.hook.runs import Action, Outcome, socket_unit


def _hook(host: Host) -> dict[str, Action]:
    """What the units behind the hook's sockets do."""

    async def tcpok() -> Outcome:
        host.qmail.tcpok()
        return Outcome(True, "")

    async def redeliver() -> Outcome:
        host.qmail.alarm()
        return Outcome(True, "")

    return {"tcpok": tcpok, "redeliver": redeliver}


def _broken_hook(host: Host) -> dict[str, Action]:
    """Units that are not there."""
    return {"tcpok": socket_unit(str(host.home / "tcpok.sock"))}


def _full_tcpto(home: Path) -> Host:
    """A host that has written for half a day to many hosts which do not answer."""
    made = Host(home, mails=4800, remote=5, history=12 * 3600)
    dead = [f"dead{n}.example" for n in range(150)]
    acts.behave(acts.dark, *dead)(made)
    acts.hourly(10, *[f"u%d@{name}" for name in dead])(made)
    return made


def _old_mail(home: Path) -> Host:
    """A host with much mail of nearly a week, for hosts that have not answered since."""
    made = Host(home, history=3 * 3600)
    acts.old_mail(48, 6.3)(made)
    return made


DOMAINS = tuple(f"{name}.example" for name in GOOD)
BIG = DOMAINS[0]

INCIDENTS = (
    Script(
        "stuck",
        "qmail-rspawn takes deliveries and does none",
        {60: acts.hold_deliveries(70)},
        length=200,
        began=60,
        ended=130,
        pages=(Page("QmailQueueStuck", 45, 20),),
    ),
    Script(
        "hung",
        "qmail-send lives and does nothing",
        {60: acts.setting("", "hung", True), 130: acts.setting("", "hung", False)},
        length=200,
        began=60,
        ended=130,
        pages=(Page("QmailTodoNotDrained", 30, 20),),
    ),
    Script(
        "down",
        "qmail-send dies, and is started 40 minutes later",
        {60: Host.kill, 100: Host.start},
        length=180,
        began=60,
        ended=100,
        pages=(Page("QmailSendDown", 10, 15),),
        held=frozenset({"QmailTodoNotDrained"}),
    ),
    Script(
        "clean",
        "qmail-clean hangs: no new mail is taken in, what is due is delivered",
        {60: acts.slow_todo(1e9), 110: acts.slow_todo(0)},
        length=180,
        began=60,
        ended=110,
        pages=(Page("QmailTodoNotDrained", 30, 20),),
    ),
    Script(
        "slow-todo",
        "mail comes faster than it is preprocessed",
        {
            60: acts.both(acts.slow_todo(30), acts.hourly(400, "crowd%d@big.example")),
            150: acts.both(acts.slow_todo(0), acts.no_more),
        },
        length=240,
        began=60,
        ended=150,
        pages=(Page("QmailTodoBacklog", 90, 40),),
    ),
    Script(
        "forgotten",
        "a message from a restored backup, which qmail-send does not know of",
        {30: acts.lose_message, 240: acts.find_message},
        length=330,
        began=30,
        ended=240,
        pages=(Page("QmailOldestMessageTooOld", 70, 30),),
    ),
    Script(
        "expiring",
        "much mail for dead hosts nears queuelifetime; then they answer",
        {150: acts.revive},
        length=400,
        began=0,
        ended=150,
        make=_old_mail,
        pages=(Page("QmailMailExpiring", 45, 60),),
    ),
    Script(
        "outage",
        "the network is away for four hours",
        {60: acts.setting("world", "dark", True), 300: acts.setting("world", "dark", False)},
        length=480,
        began=60,
        ended=300,
        pages=(Page("QmailDestinationsUnreachable", 15, 130),),
        says={"QmailDestinationsUnreachable": "The hook's state: outage"},
    ),
    Script(
        "outage-hook",
        "the network is away for an hour, with the hook at work",
        {120: acts.setting("world", "dark", True), 180: acts.setting("world", "dark", False)},
        length=300,
        began=120,
        ended=180,
        make=host(hook=_hook),
        pages=(Page("QmailDestinationsUnreachable", 15, 30),),
    ),
    Script(
        "outage-small",
        "the same on a host with 100 messages a day, for five hours, and without the hook",
        {480: acts.setting("world", "dark", True), 780: acts.setting("world", "dark", False)},
        length=1140,
        began=480,
        ended=780,
        make=host(mails=100),
        pages=(Page("QmailDestinationsUnreachable", 120, 200),),
    ),
    Script(
        "hook",
        "the network is away for an hour, and the unit behind the hook's socket is not installed",
        {120: acts.setting("world", "dark", True), 180: acts.setting("world", "dark", False)},
        length=480,
        began=120,
        ended=180,
        make=host(hook=_broken_hook),
        pages=(Page("QmailDestinationsUnreachable", 15, 130), Page("QmailHookFailing", 90, 250)),
    ),
    Script(
        "deferring",
        "one large destination defers everything: rate limit",
        {
            60: acts.behave(
                acts.answers("451 4.7.28 Our system has detected an unusual rate of unsolicited mail"), BIG
            ),
            300: acts.behave(None, BIG),
        },
        length=480,
        began=60,
        ended=300,
        pages=(Page("QmailDestinationDeferring", 150, 90),),
        says={"QmailDestinationDeferring": "rate_limit"},
    ),
    Script(
        "blocklisted",
        "seven of ten destinations refuse this host's mail",
        {
            90: acts.behave(
                acts.answers("550 5.7.1 Service unavailable; client host blocked using a blocklist"),
                *DOMAINS[1:8],
            ),
            180: acts.behave(None, *DOMAINS[1:8]),
        },
        length=400,
        began=90,
        ended=180,
        pages=(Page("QmailRefusedByPolicy", 60, 120),),
        held=frozenset({"QmailBounceStorm"}),
    ),
    Script(
        "bounce-storm",
        "a stolen account writes to users that do not exist",
        {
            150: acts.both(
                acts.hourly(300, "guess%d@shop.example"),
                acts.behave(acts.answers("550 5.1.1 No such user here"), "shop.example"),
            ),
            210: acts.both(acts.no_more, acts.behave(None, "shop.example")),
        },
        length=400,
        began=150,
        ended=210,
        pages=(Page("QmailBounceStorm", 40, 120),),
    ),
    Script(
        "double-bounces",
        "spam to nobody with forged senders",
        {60: acts.hourly(20, "nobody%d@mail.test", sender="forged%d@gone1.example"), 180: acts.no_more},
        length=660,
        began=60,
        ended=180,
        pages=(Page("QmailDoubleBounces", 90, 440),),
    ),
    Script(
        "saturated",
        "more mail for slow hosts than there are slots",
        {
            60: acts.both(
                acts.hourly(240, "slow%d@city.example"), acts.behave(acts.holds(600), "city.example")
            ),
            270: acts.both(acts.no_more, acts.behave(None, "city.example")),
        },
        length=600,
        began=60,
        ended=270,
        make=host(remote=20),
        pages=(Page("QmailConcurrencySaturated", 200, 240),),
    ),
    Script(
        "tcpto",
        "more hosts time out than tcpto has room for",
        {
            60: acts.hourly(200, *[f"u%d@dead{n}.example" for n in range(150)]),
            210: acts.both(acts.no_more, acts.revive),
        },
        length=360,
        began=60,
        ended=210,
        make=_full_tcpto,
        pages=(Page("QmailTcptoFull", 90, 90),),
        held=frozenset({"QmailConcurrencySaturated"}),
    ),
    Script(
        "disk",
        "the disk fills, an eighth of it an hour",
        {30: acts.fill("bytes", 0.125), 320: acts.freed},
        length=460,
        began=30,
        ended=320,
        pages=(Page("QmailQueueDiskFilling", 260, 100), Page("QmailQueueDiskFull", 280, 100)),
    ),
    Script(
        "inodes",
        "the same with inodes, slowly",
        {30: acts.fill("inodes", 0.06), 570: acts.freed},
        length=690,
        began=30,
        ended=570,
        pages=(Page("QmailQueueDiskFilling", 520, 60),),
    ),
    Script(
        "silent",
        "the log goes elsewhere while mail moves",
        {60: acts.log_elsewhere, 180: acts.log_back},
        length=270,
        began=60,
        ended=180,
        pages=(Page("QmailLogSilent", 60, 40),),
    ),
    Script(
        "exporter-down",
        "the exporter is down for half an hour",
        {60: acts.end_exporter, 90: acts.start_exporter},
        length=150,
        began=60,
        ended=90,
        pages=(Page("QmailExporterDown", 10, 10),),
    ),
    Script(
        "half-blind",
        "the log's directory is renamed",
        {60: acts.hide("log"), 110: acts.show("log")},
        length=180,
        began=60,
        ended=110,
        pages=(Page("QmailExporterHalfBlind", 25, 15),),
        says={"QmailExporterHalfBlind": "Sources that cannot be read: log"},
    ),
    Script(
        "alerts",
        "qmail-send calls for help",
        {60: acts.complain},
        length=150,
        began=60,
        ended=60,
        pages=(Page("QmailSendAlerts", 5, 40),),
        says={"QmailSendAlerts": "bounce_unwritable"},
    ),
    Script(
        "restarting",
        "qmail-send dies every three minutes and is started again",
        {60: acts.restart_often, 120: acts.no_more},
        length=240,
        began=60,
        ended=120,
        pages=(Page("QmailSendRestarting", 25, 75),),
    ),
    Script(
        "drift",
        "inotify does not tell of a change",
        {90: acts.deaf},
        length=360,
        began=90,
        ended=150,
        pages=(Page("QmailDriftFound", 70, 180),),
    ),
    Script(
        "web-config",
        "the file of --web.config.file has a mistake",
        {60: acts.setting("door", "sound", False), 120: acts.setting("door", "sound", True)},
        length=180,
        began=60,
        ended=120,
        pages=(Page("QmailWebConfigWrong", 30, 20),),
    ),
)

DAY = 24 * 60
CALM = (
    Script("calm-small", "a day with 100 messages", {}, length=DAY, make=host(mails=100)),
    Script("calm", "a day with 2,400 messages", {}, length=DAY),
    Script(
        "calm-greylisting",
        "a day with 12,000 messages, a third of them to hosts that greylist",
        {},
        length=DAY,
        make=lambda home: Host(home, mails=12000, world=World(greylisted=0.33)),
    ),
    Script(
        "calm-newsletter",
        "a newsletter of 100,000 recipients",
        {60: acts.newsletter(100_000)},
        length=480,
    ),
    Script(
        "calm-qmail-restart",
        "qmail is restarted twice",
        {60: Host.stop, 90: Host.stop},
        length=240,
    ),
    Script(
        "calm-exporter-restart",
        "the exporter is restarted, once with two minutes in between",
        {60: acts.restart_exporter, 90: acts.end_exporter, 92: acts.start_exporter},
        length=240,
    ),
)
SCRIPTS = (*INCIDENTS, *CALM)
