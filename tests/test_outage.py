"""The outage machine, stepped: a small network whose hosts the tests take away and give back."""

import ast
import math
import random
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qmail_exporter.outage
from qmail_exporter.formats.reason import reason
from qmail_exporter.formats.tcpto import Host, Table
from qmail_exporter.outage import (
    SKIPS,
    TABLE,
    Act,
    Attempt,
    Cause,
    Change,
    Decision,
    Event,
    Machine,
    Probe,
    Ran,
    Rules,
    Skip,
    State,
    Tick,
    diagram,
)
from qmail_exporter.outage.evidence import Sample
from qmail_exporter.outage.told import connection, host_of, passed_over

RULES = Rules()
START = 1_800_000_000.0
DOMAINS = [f"d{number}.example" for number in range(60)]
DOCS = Path(__file__).parent.parent / "docs" / "outage.md"


@dataclass
class Play:
    """A machine, its clock, and everything that it decided."""

    machine: Machine = field(default_factory=lambda: Machine(RULES))
    now: float = START
    dead: int | None = 10
    decisions: list[Decision] = field(default_factory=list)

    def step(self, event: Event, *, acting: bool = True) -> None:
        """Step the machine and keep what it decides."""
        self.decisions += self.machine.step(event, acting=acting)

    def wait(self, seconds: float) -> None:
        """Tick once a second."""
        for _ in range(int(seconds)):
            self.now += 1
            self.step(Tick(self.now, self.dead))

    def reach(self, *domains: str, took: float | None = 0.5, **how: bool) -> None:
        """Have deliveries to domains reach a host each."""
        for domain in domains:
            self.step(Attempt(self.now, domain, True, f"host of {domain}", took), **how)

    def fail(self, *domains: str, took: float | None = 60.0, **how: bool) -> None:
        """Have connections for domains fail."""
        for domain in domains:
            self.step(Attempt(self.now, domain, False, None, took), **how)

    def probe(self, *hosts: str, reached: bool, took: float = 0.1) -> None:
        """Have probes of hosts end."""
        for host in hosts:
            self.step(Probe(self.now, host, reached, took))

    def ran(self, *, ok: bool, emptied: bool = False) -> None:
        """Have the action end."""
        self.step(Ran(self.now, ok, emptied))

    def outage(self) -> None:
        """Have an outage begin, in which qmail passes over hosts."""
        self.wait(70)
        self.fail(*DOMAINS[:10])
        assert self.at(State.OUTAGE)
        self.wait(1)

    def recover(self) -> None:
        """Have an outage end, by probes."""
        for number in range(6):
            self.probe(f"192.0.2.{number}", reached=True)
            self.wait(1)

    @property
    def state(self) -> State:
        """What the machine takes the network for."""
        return self.machine.state

    def at(self, state: State) -> bool:
        """Whether the machine is in that state."""
        return self.machine.state is state

    @property
    def causes(self) -> list[Cause]:
        """Why the state has changed."""
        return [decision.cause for decision in self.decisions if isinstance(decision, Change)]

    @property
    def skips(self) -> list[str]:
        """Why there was no action."""
        return [decision.reason for decision in self.decisions if isinstance(decision, Skip)]

    @property
    def acts(self) -> int:
        """How often the action was asked for."""
        return sum(isinstance(decision, Act) for decision in self.decisions)


@pytest.fixture
def play() -> Play:
    return Play()


# --- an outage, or not


def test_full_outage(play: Play) -> None:
    """Every connection times out: an outage; hosts answer again and it holds: the action, once; it succeeds: clear."""
    play.reach(*DOMAINS[:20])
    play.wait(70)
    play.fail(*DOMAINS[:20])
    assert play.at(State.OUTAGE)
    play.wait(300)
    play.probe("192.0.2.1", reached=True)
    assert play.at(State.SETTLING)
    play.recover()
    assert (play.state, play.acts, play.machine.running) == (State.RECOVERED, 1, True)
    play.wait(5)
    play.ran(ok=True, emptied=True)
    assert play.at(State.CLEAR)
    play.dead = 0
    play.wait(7200)
    assert (play.acts, play.skips) == (1, [])
    assert play.causes == [Cause.FAILING, Cause.ANSWER, Cause.HELD, Cause.DONE]


def test_outage_is_seen_beside_what_was_reached_before(play: Play) -> None:
    """A busy host that has reached many domains just before notices when its 20 deliveries at once have timed out."""
    play.reach(*DOMAINS)
    play.wait(61)
    play.fail(*DOMAINS[:20])
    assert play.at(State.OUTAGE)


def test_quiet_host_notices(play: Play) -> None:
    """Five domains in ten minutes are enough if no other is reached."""
    for domain in DOMAINS[:5]:
        assert play.at(State.CLEAR)
        play.wait(120)
        play.fail(domain)
    assert play.at(State.OUTAGE)


def test_attempts_grow_old(play: Play) -> None:
    """Failures more than ten minutes apart make no outage."""
    for domain in DOMAINS:
        play.wait(170)
        play.fail(domain)
    assert play.causes == []


def test_half_the_hosts_out(play: Play) -> None:
    """Half of the hosts out is an outage, as long as it lasts, though the others are reached; then it is over."""
    for number in range(600):
        play.wait(1)
        away = number % 2
        domain = DOMAINS[number % 30 * 2 + away]
        if away:
            # From the second time on qmail passes over them.
            play.fail(domain, took=60.0 if number < 120 else 0.1)
            play.probe(f"192.0.2.{number % 30}", reached=False, took=5.0)
        else:
            play.reach(domain)
    assert play.causes == [Cause.FAILING]
    play.recover()
    assert play.acts == 1


def test_one_big_destination_out(play: Play) -> None:
    """One domain that fails again and again is no outage, however much of the mail is for it."""
    for _ in range(200):
        play.wait(1)
        play.fail("bigmail.example")
        play.reach(random.choice(DOMAINS[:4]))
    assert play.causes == []


def test_big_provider_of_many_domains_out(play: Play) -> None:
    """A third of the domains out is no outage of the network, but a provider's."""
    for number in range(600):
        play.wait(1)
        domain = DOMAINS[number * 7 % 60]
        if number * 7 % 60 % 3:
            play.reach(domain)
        else:
            play.fail(domain)
    assert play.causes == []


@pytest.mark.parametrize(
    "report",
    [
        b"192.0.2.1_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisted/Giving_up_on_192.0.2.1./",
        b"192.0.2.1_failed_after_I_sent_the_message./Remote_host_said:_554_5.7.1_Spam/",
        b"Connected_to_192.0.2.1_but_greeting_failed./Remote_host_said:_421_4.4.1_Overloaded/",
    ],
)
def test_refusals_are_no_outage(play: Play, report: bytes) -> None:
    """Greylisting, 5xx and 4xx come from hosts that answered, even if all do, with codes of lost connections."""
    for domain in DOMAINS:
        play.wait(1)
        reached = connection("deferral", reason(report), report)
        assert reached is True
        play.step(Attempt(play.now, domain, reached, host_of(report), 0.5))
    assert play.causes == []


@pytest.mark.parametrize(
    ("result", "report", "told"),
    [
        ("success", b"192.0.2.1_accepted_message./Remote_host_said:_250_ok/", True),
        ("deferral", b"Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/", False),
        ("deferral", b"CNAME_lookup_failed_temporarily._(#4.4.3)/", None),
        ("failure", b"Sorry,_I_couldn't_find_any_host_named_x.example._(#5.1.2)/", None),
        ("deferral", b"Connected_to_192.0.2.1_but_connection_died._(#4.4.2)/", None),
        ("deferral", b"System_resources_temporarily_unavailable._(#4.3.0)/", None),
    ],
)
def test_what_reports_tell(result: str, report: bytes, told: bool | None) -> None:
    """An answer tells of a connection, #4.4.1 of none; DNS, this host's trouble and a lost connection tell nothing."""
    assert connection(result, reason(report) if result != "success" else "", report) is told


def test_lost_connections_in_an_outage_are_no_sign_of_its_end() -> None:
    """What was connected when the outage began dies 20 minutes later; that must not pass for an answer."""
    report = b"Connected_to_192.0.2.1_but_connection_died._Possible_duplicate!_(#4.4.2)/"
    assert connection("deferral", reason(report), report) is None


def test_host_of_a_report() -> None:
    """The address stands at a report's beginning; a report of no host has none, nor has one with a name of its sender's."""
    assert host_of(b"192.0.2.1_accepted_message./") == "192.0.2.1"
    assert host_of(b"Connected_to_2001:db8::1_but_greeting_failed./") == "2001:db8::1"
    assert host_of(b"Sorry,_I_couldn't_find_any_host_named_192.0.2.1_./") is None
    assert host_of(b"bad_sender./") is None


def test_hosts_passed_over() -> None:
    """After two timeouts a host is passed over, for 91 * 64 s at most; a time in the future counts as now."""
    table = Table((Host("a", 1, 1000), Host("b", 2, 1000), Host("c", 10, 9000)), 64)
    assert [host.address for host in passed_over(table, 1000 + 91 * 64 - 1)] == ["b", "c"]
    assert [host.address for host in passed_over(table, 1000 + 91 * 64)] == ["c"]


def test_chronic_failures_are_no_outage(play: Play) -> None:
    """Domains that have failed for more than an hour say nothing, though at night they are all that is tried."""
    play.reach(*DOMAINS[20:])
    play.fail(*DOMAINS[:10])
    assert play.causes == []
    for _ in range(8):
        play.wait(3700)
        play.fail(*DOMAINS[:10])
    assert play.causes == []
    play.fail(*DOMAINS[10:15])
    assert play.causes == [Cause.FAILING]


def test_domain_that_came_back_is_not_chronic_any_more() -> None:
    """Being reached makes a domain's failures news again."""
    sample = Sample(RULES)
    sample.add("a", reached=False, time=0)
    assert sample.chronic("a", 3601)
    sample.add("a", reached=True, time=3601)
    assert not sample.chronic("a", 3602)


def test_sample_has_the_domains_tried_last() -> None:
    """A domain that is tried again is among the last, and the one tried longest ago gives way."""
    sample = Sample(Rules(sample=6, domains=1, reached_share=1.0))
    for time, domain in enumerate("abcadefg"):
        sample.add(domain, reached=domain != "a", time=time)
    assert sample.verdict(10) == (["a"], ["c", "d", "e", "f", "g"])


def test_passed_over_hosts_are_no_outage(play: Play) -> None:
    """What fails at once is not a new failure while tcpto has dead hosts, or may have; else it is: the net is unreachable."""
    for play.dead in (10, None):
        play.wait(1)
        play.fail(*DOMAINS, took=0.1)
    assert play.causes == []
    play.dead = 0
    play.wait(1)
    play.fail(*DOMAINS[:5], took=0.1)
    assert play.causes == [Cause.FAILING]


# --- its end


def test_no_mail_at_all(play: Play) -> None:
    """Probes alone keep an outage going and end it; with an empty table there is nothing to do then."""
    play.outage()
    for number in range(3 * 720):
        play.probe(f"192.0.2.{number % 10}", reached=False, took=5)
        play.wait(5)
    assert play.at(State.OUTAGE)
    play.dead = 0
    play.recover()
    assert (play.state, play.skips, play.acts) == (State.CLEAR, ["no_dead_hosts"], 0)


def test_silence(play: Play) -> None:
    """Without mail and probes, nothing is known after two hours, and nothing is done."""
    play.outage()
    play.wait(7199)
    assert play.at(State.OUTAGE)
    play.wait(1)
    assert (play.state, play.causes[-1], play.acts) == (State.CLEAR, Cause.SILENCE, 0)


def test_passed_over_hosts_are_silence(play: Play) -> None:
    """That qmail passes over hosts is no news of the network, and takes back no answer."""
    play.outage()
    for _ in range(7300):
        play.fail(*DOMAINS[:3], took=0.1)
        play.wait(1)
    assert play.causes == [Cause.FAILING, Cause.SILENCE]
    play.outage()
    play.reach(*DOMAINS[:3])
    play.fail(*DOMAINS[:3], took=0.1)
    play.wait(5)
    assert play.acts == 1


def test_recovery_seen_only_by_deliveries(play: Play) -> None:
    """Without probes, three hosts are enough, of domains that failed or were not tried; not those that never failed."""
    play.reach("lan.example", "lan2.example", "lan3.example")
    play.outage()
    for _ in range(20):
        play.reach("lan.example", "lan2.example", "lan3.example")
        play.wait(10)
    assert play.at(State.OUTAGE)
    play.reach(DOMAINS[0], "new.example")
    play.wait(10)
    assert (play.state, play.acts) == (State.SETTLING, 0)
    play.reach("another.example")
    play.wait(1)
    assert (play.state, play.acts) == (State.RECOVERED, 1)


def test_deliveries_to_one_host_are_no_recovery(play: Play) -> None:
    """Many domains at one host are one host."""
    play.outage()
    for domain in DOMAINS[:10]:
        play.step(Attempt(play.now, domain, True, "192.0.2.1", 0.5))
        play.wait(60)
    assert Cause.HELD not in play.causes
    assert Cause.RELAPSE in play.causes


def test_deliveries_count_although_probes_are_blocked(play: Play) -> None:
    """A firewall that stops the exporter's probes does not stop the recovery: domains that had failed are reached."""
    play.outage()
    play.probe("192.0.2.1", "192.0.2.2", "192.0.2.3", reached=False)
    play.reach("new.example")
    assert play.at(State.OUTAGE)
    play.reach(*DOMAINS[:3])
    play.wait(5)
    assert play.acts == 1


def test_recovery_although_some_hosts_stay_away(play: Play) -> None:
    """When nearly all of many domains are reached, it is over, whatever the probes of a few dead hosts say."""
    play.outage()
    for number in range(10, 40):
        play.probe("192.0.2.1", reached=False)
        play.reach(DOMAINS[number])
        play.wait(1)
    assert play.acts == 1


def test_domains_that_never_worked_do_not_keep_an_outage_going(play: Play) -> None:
    """Chronic failures do not count when nearly all others are reached."""
    chronic = [f"gone{number}.example" for number in range(10)]
    play.reach(*DOMAINS[20:])
    play.fail(*chronic)
    play.wait(3700)
    play.outage()
    for number in range(10, 40):
        play.probe("192.0.2.1", reached=False)
        play.reach(DOMAINS[number])
        play.fail(chronic[number % 10], took=2.0)
        play.wait(2)
        play.wait(1)
    assert play.acts == 1


def test_deliveries_that_count_are_recent_and_last(play: Play) -> None:
    """A domain that fails again is not back, and one that was reached ten minutes ago was then."""
    play.outage()
    play.reach(*DOMAINS[:2])
    play.wait(5)
    play.fail(DOMAINS[0])
    play.reach(DOMAINS[2])
    play.wait(5)
    assert play.acts == 0
    play.wait(620)
    play.reach(*DOMAINS[3:5])
    play.wait(5)
    assert play.acts == 0
    play.reach(DOMAINS[5])
    play.wait(5)
    assert play.acts == 1


def test_second_outage_is_noticed_as_the_first(play: Play) -> None:
    """Domains that failed in an outage, and to which there was no mail since, are no chronic failures."""
    for _ in range(2):
        for domain in DOMAINS[:5]:
            play.wait(20)
            play.fail(domain, took=10)
        assert play.at(State.OUTAGE)
        play.recover()
        play.ran(ok=True)
        play.wait(7200)


def test_recovery_seen_only_by_probes(play: Play) -> None:
    """Deliveries go on failing, as qmail passes over their hosts: that says nothing against the probes."""
    play.outage()
    for number in range(6):
        play.fail(*DOMAINS[:20], took=0.05)
        play.fail(*DOMAINS[20:30], took=None)
        play.probe(f"192.0.2.{number}", reached=True)
        play.wait(1)
    assert play.acts == 1


def test_few_dead_hosts_need_few_answers(play: Play) -> None:
    """Where one host is passed over, its answer is enough if it holds; of many, one answer is one host's own recovery."""
    for play.dead, acts in ((1, 1), (30, 0)):
        play.machine = Machine(RULES)
        play.decisions.clear()
        play.outage()
        for _ in range(6):
            play.probe("192.0.2.1", reached=True)
            play.wait(1)
        assert play.acts == acts


def test_it_must_hold(play: Play) -> None:
    """One answer and then silence: the outage goes on, and the action is not run."""
    play.outage()
    play.probe("192.0.2.1", reached=True)
    play.wait(2)
    play.probe("192.0.2.2", "192.0.2.3", "192.0.2.4", reached=False, took=1)
    play.wait(3)
    assert (play.state, play.causes[-1], play.acts) == (State.OUTAGE, Cause.RELAPSE, 0)


def test_probes_from_before_the_answer_say_nothing(play: Play) -> None:
    """A probe that began while the network was out, and fails when it is back, does not count."""
    play.outage()
    play.dead = 1
    play.probe("192.0.2.1", reached=True)
    play.probe("192.0.2.2", "192.0.2.3", "192.0.2.4", reached=False, took=5)
    play.wait(4)
    assert play.acts == 1


def test_long_deliveries_say_nothing_of_the_present(play: Play) -> None:
    """What ends well but began before the outage was connected before; what timed out but began before its end, too."""
    play.outage()
    play.reach(*DOMAINS[:10], took=100)
    assert play.at(State.OUTAGE)
    play.recover()
    play.ran(ok=True)
    play.fail(*DOMAINS[:10], took=60)
    assert play.at(State.CLEAR)
    play.wait(61)
    play.fail(*DOMAINS[:10], took=60)
    assert play.at(State.OUTAGE)


def test_flapping(play: Play) -> None:
    """Two seconds up and ten down is one outage; a minute up is a recovery, but the next action waits for the cooldown."""
    play.outage()
    for _ in range(20):
        play.probe("192.0.2.1", "192.0.2.2", "192.0.2.3", reached=True)
        play.wait(2)
        play.probe("192.0.2.1", "192.0.2.2", "192.0.2.3", reached=False)
        play.wait(10)
    assert (play.acts, set(play.causes)) == (0, {Cause.FAILING, Cause.ANSWER, Cause.RELAPSE})
    for _ in range(3):
        play.recover()
        play.wait(60)
        if play.machine.running:
            play.ran(ok=True)
            play.wait(60)
        play.fail(*DOMAINS[:10], took=10)
        play.wait(60)
    assert (play.acts, play.skips) == (1, ["cooldown", "cooldown"])
    play.recover()
    play.wait(600)
    assert play.acts == 2


# --- clocks and restarts


@pytest.mark.parametrize("leap", [-1e6, -3600.0, 3600.0, 1e6])
def test_clock_steps(play: Play, leap: float) -> None:
    """A clock that is set, while any state lasts, neither ends an outage nor begins one, nor acts twice, nor hinders acting."""
    play.fail(*DOMAINS[:4])
    play.now += leap
    play.wait(1)
    assert play.at(State.CLEAR)
    play.outage()
    play.now += leap
    play.wait(1)
    assert play.at(State.OUTAGE)
    play.reach(DOMAINS[0])
    play.now -= leap
    play.wait(1)
    play.recover()
    assert play.acts == 1
    play.now -= leap
    play.wait(10)
    play.ran(ok=True)
    assert (play.acts, play.state) == (1, State.CLEAR)


def test_log_lines_come_late(play: Play) -> None:
    """A delivery's time is the log's: it does not move the machine's, and an old line is an old attempt."""
    play.wait(7200)
    for number, domain in enumerate(DOMAINS):
        play.step(Attempt(play.now - 3600 + number, domain, False, None, 60))
    play.step(Attempt(play.now + 1e9, DOMAINS[0], False, None, 60))
    play.fail(*DOMAINS[1:4])
    assert play.at(State.CLEAR)
    play.fail(DOMAINS[4])
    assert play.at(State.OUTAGE)


def past(play: Play, *, until: State) -> None:
    """Read a log back in which the state comes to that."""
    for domain in DOMAINS[:10]:
        play.now += 10
        play.fail(domain, acting=False)
    if until is State.OUTAGE:
        return
    play.now += 3000
    play.reach(*DOMAINS[:4], acting=False)
    if until is State.RECOVERED:
        play.now += 10
        play.reach(DOMAINS[4], acting=False)


def test_restart_in_an_outage(play: Play) -> None:
    """An outage that is under way is known, and its end acted on."""
    past(play, until=State.OUTAGE)
    play.now += 600
    play.wait(10)
    assert play.at(State.OUTAGE)
    play.recover()
    assert play.acts == 1


def test_restart_after_a_recovery(play: Play) -> None:
    """An old recovery is not acted on again."""
    past(play, until=State.RECOVERED)
    play.now += 60
    play.wait(600)
    assert (play.state, play.causes[-1], play.acts, play.skips) == (State.CLEAR, Cause.OLD, 0, [])


def test_restart_while_settling(play: Play) -> None:
    """Where the log ends with the answers, the recovery is yet to come, if what it would undo is still there."""
    past(play, until=State.SETTLING)
    assert play.at(State.SETTLING)
    play.now += 60
    play.wait(1)
    assert (play.state, play.acts) == (State.RECOVERED, 1)
    late = Play()
    past(late, until=State.SETTLING)
    late.now += 6000
    late.wait(1)
    assert (late.state, late.acts, late.skips) == (State.CLEAR, 0, ["expired"])


def test_restart_in_clear(play: Play) -> None:
    """A log of long ago, or with a hole in it, is no outage now."""
    for domain in DOMAINS:
        play.now += 400
        play.fail(domain, acting=False)
    play.now += 600
    play.fail(*DOMAINS[:4])
    assert play.causes == []
    past(play, until=State.OUTAGE)
    play.now += 3 * 3600
    play.wait(1)
    assert play.at(State.CLEAR)


# --- the action


def recovered(dead: int | None = 10, veto: str | None = None) -> Play:
    play = Play(Machine(RULES, veto=veto), dead=dead)
    play.outage()
    play.recover()
    return play


def test_failed_action_is_tried_again() -> None:
    """It waits 5, 10, 20 … s, at most five minutes, until qmail tries every host by itself."""
    play = recovered()
    waits = []
    while play.machine.running:
        play.ran(ok=False)
        before = play.now
        while not play.machine.running and play.state is State.RECOVERED:
            play.wait(1)
        waits.append(play.now - before)
    assert waits[:8] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert (play.state, play.skips) == (State.CLEAR, ["expired"])
    assert 5000 < sum(waits) < 5900


def test_half_an_action_is_finished() -> None:
    """When tcpto was emptied and the rest failed, the rest is tried again although the table is empty."""
    play = recovered()
    play.ran(ok=False, emptied=True)
    for play.dead in (0, None):
        play.wait(20)
        assert play.machine.running
        play.ran(ok=False)
    play.wait(60)
    play.ran(ok=True)
    assert (play.acts, play.skips, play.state) == (4, [], State.CLEAR)


def test_somebody_else_empties_the_table() -> None:
    """Between two attempts an administrator runs qmail-tcpok: nothing is left to do."""
    play = recovered()
    play.ran(ok=False)
    play.dead = 0
    play.wait(10)
    assert (play.acts, play.skips, play.state) == (1, ["no_dead_hosts"], State.CLEAR)


def test_unknown_table() -> None:
    """A tcpto that cannot be read may be empty; the action waits until it can be read."""
    play = recovered(dead=None)
    play.wait(10)
    assert (play.acts, play.skips) == (0, ["tcpto_unknown"])
    play.dead = 3
    play.wait(1)
    assert play.acts == 1


@pytest.mark.parametrize("veto", ["dry_run", "no_action"])
def test_veto(veto: str) -> None:
    """A dry run goes as far as the action, and so does a hook without one."""
    play = recovered(veto=veto)
    assert (play.acts, play.skips, play.state) == (0, [veto], State.CLEAR)


def test_outage_while_the_action_runs() -> None:
    """A new outage calls off what is left of the action; at its end one that still runs is not begun again."""
    play = recovered()
    play.wait(70)
    play.fail(*DOMAINS[:10], took=10)
    assert play.at(State.OUTAGE)
    play.recover()
    assert (play.acts, play.skips) == (1, ["running"])
    play.ran(ok=True, emptied=True)
    play.dead = 0
    play.wait(1)
    assert (play.acts, play.state) == (1, State.CLEAR)
    assert play.skips == ["running", "cooldown", "no_dead_hosts"]


def test_end_of_an_action_that_was_not_asked_for(play: Play) -> None:
    """It is passed over."""
    play.ran(ok=True)
    assert play.decisions == []


# --- whatever happens


TIMES = st.one_of(st.floats(-100, 100), st.floats(-1e5, 1e5), st.floats(-1e18, 1e18))
SOME_DOMAINS = st.sampled_from(DOMAINS[:12])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fail"), st.integers(1, 12), st.sampled_from((None, 0.1, 60.0))),
        st.tuples(st.just("reach"), st.integers(1, 12), st.sampled_from((None, 0.1, 60.0))),
        st.tuples(st.just("probe"), st.integers(1, 6), st.booleans()),
        st.tuples(st.just("wait"), st.integers(1, 120), st.none()),
        st.tuples(st.just("leap"), TIMES, st.none()),
        st.tuples(st.just("dead"), st.sampled_from((None, 0, 1, 10)), st.none()),
        st.tuples(st.just("ran"), st.booleans(), st.booleans()),
        st.tuples(st.just("past"), st.integers(1, 12), st.booleans()),
    ),
    max_size=60,
)


def do(play: Play, what: str, how: float, way: object) -> None:
    """Do one of `STEPS`."""
    some = DOMAINS[: int(how)] if what in {"fail", "reach", "past"} else []
    ways = {
        "fail": lambda: play.fail(*some, took=way),  # type: ignore[arg-type]
        "reach": lambda: play.reach(*some, took=way),  # type: ignore[arg-type]
        "probe": lambda: play.probe(*(f"192.0.2.{n}" for n in range(int(how))), reached=bool(way)),
        "wait": lambda: play.wait(how),
        "ran": lambda: play.ran(ok=bool(how), emptied=bool(way)),
        "past": lambda: play.reach(*some, acting=False) if way else play.fail(*some, acting=False),
    }
    if what == "leap":
        play.now += how
        play.step(Tick(play.now, play.dead))
    elif what == "dead":
        play.dead = how  # type: ignore[assignment]
    else:
        ways[what]()


@given(STEPS)
def test_guarantees(steps: list[tuple[str, float, object]]) -> None:
    """Whatever happens in whatever order at whatever times, the machine keeps what the package promises."""
    play = Play()
    state, may_act, running, emptied = State.CLEAR, False, False, False
    for what, how, way in steps:
        seen = len(play.decisions)
        was_running = running
        do(play, what, how, way)
        if what == "ran" and was_running:
            running, may_act, emptied = False, not how and may_act, bool(way) or emptied
        for decision in play.decisions[seen:]:
            if isinstance(decision, Change):
                assert TABLE[decision.old, decision.cause] is decision.new
                assert decision.old is state
                state = decision.new
                if state is State.RECOVERED:
                    may_act, emptied = True, False
                if state is State.OUTAGE:
                    may_act = False
            elif isinstance(decision, Act):
                assert state is State.RECOVERED
                assert may_act
                assert not running
                assert play.dead or emptied
                running = True
            else:
                assert decision.reason in SKIPS
        assert play.state is state
        assert play.machine.running == running


@given(st.lists(st.tuples(SOME_DOMAINS, st.booleans(), TIMES, st.booleans()), max_size=40))
def test_log_times_do_no_harm(attempts: list[tuple[str, bool, float, bool]]) -> None:
    """Deliveries with any times, of the past or the present: nothing is raised, and afterwards the machine works."""
    play = Play()
    for domain, reached, time, acting in attempts:
        play.step(Attempt(time, domain, reached, None, 1.0), acting=acting)
        play.step(Tick(play.now, 0))
    play.machine.state = State.CLEAR
    play.wait(700)
    play.fail(*DOMAINS[20:30])
    assert play.at(State.OUTAGE)


def test_memory_is_bounded(play: Play) -> None:
    """A hundred thousand domains are not remembered, in an outage or out of it."""

    def size() -> int:
        sample, trouble = vars(play.machine._sample), vars(play.machine._trouble)
        return sum(len(value) for value in (*sample.values(), *trouble.values()) if isinstance(value, dict))

    for number in range(20_000):
        play.step(Attempt(play.now, f"a{number}.example", number % 2 == 0, None, 60))
    assert size() < 20_000
    play.outage()
    for number in range(20_000):
        play.step(Attempt(play.now, f"b{number}.example", number % 2 == 0, f"h{number}", 0))
        play.probe(f"p{number}", reached=False)
        play.fail(f"c{number}.example")
    assert size() < 20_000


# --- what is written


def test_docs_have_the_diagram() -> None:
    """docs/outage.md shows the diagram of the machine's table, and every edge of it is in there."""
    assert f"```mermaid\n{diagram()}```" in DOCS.read_text()
    assert all(
        f"{old.value} --> {new.value}: {cause.value}" in diagram() for (old, cause), new in TABLE.items()
    )


def test_docs_have_the_parameters() -> None:
    """docs/outage.md names every parameter with its default, and every reason to skip."""
    text = DOCS.read_text()
    for rule in fields(Rules):
        assert f"| `{rule.name}` | {rule.default:g} |" in text
    assert all(f"`{reason}`" in text for reason in SKIPS)


def test_every_edge_can_be_reached() -> None:
    """Each cause of the table leads somewhere, and every state can be entered and left."""
    assert {cause for _, cause in TABLE} == set(Cause)
    assert {old for old, _ in TABLE} == set(TABLE.values()) == set(State)


def test_package_is_pure() -> None:
    """It imports no clock, no file, no socket, no log, and nothing of this project but `formats`."""
    modules = Path(qmail_exporter.outage.__path__[0]).glob("*.py")
    for node in (node for path in modules for node in ast.walk(ast.parse(path.read_text()))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            assert name.startswith(("qmail_exporter.outage", "qmail_exporter.formats")) or name in {
                "dataclasses", "enum", "re", "typing",
            }  # fmt: skip


def test_defaults_hold_together() -> None:
    """The parameters fit each other, as their reasons say."""
    assert RULES.reached_share < RULES.flowing
    assert RULES.worth == (60 + 31) * 64 < RULES.forget
    assert RULES.settle < RULES.settle_most
    assert math.isclose(RULES.backoff * 2**6, 320)
