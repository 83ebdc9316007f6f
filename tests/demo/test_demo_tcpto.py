from typing import Any

from qmail_exporter.demo import tcpto
from qmail_exporter.demo.host import run
from qmail_exporter.formats import tcpto as table

HOST = "192.0.2.9"


def hosts(simulation: Any) -> dict[str, int]:
    """Return the count of each host in the table."""
    content = (simulation.home / "queue/lock/tcpto").read_bytes()
    return {host.address: host.timeouts for host in table.parse_tcpto(content).hosts}


def test_timeouts_count_two_minutes_apart(simulate: Any) -> None:
    """A time-out less than 120 s after the last that counted does not count; ten is the most."""
    simulation = simulate()
    counts = []
    for wait in (0, 119, 1, 120, *([120] * 9)):
        simulation.clock.now += wait
        run(tcpto.note(simulation.qmail.host, HOST, timed_out=True))
        counts.append(hosts(simulation)[HOST])
    assert counts == [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]


def test_dead_host_is_left_alone_for_a_time_that_depends_on_the_process(simulate: Any) -> None:
    """After two time-outs a process does not try for (60 + (pid & 31)) * 64 seconds."""
    simulation = simulate()
    host = simulation.qmail.host
    run(tcpto.note(host, HOST, timed_out=True))
    assert run(tcpto.look_up(host, HOST, 0)) == (True, False)
    simulation.clock.now += 120
    run(tcpto.note(host, HOST, timed_out=True))
    simulation.clock.now += 60 * 64 - 1
    assert run(tcpto.look_up(host, HOST, 32)) == (True, True)
    simulation.clock.now += 1
    assert run(tcpto.look_up(host, HOST, 32)) == (True, False)
    assert run(tcpto.look_up(host, HOST, 31)) == (True, True)
    assert run(tcpto.look_up(host, "192.0.2.10", 0)) == (False, False)


def test_success_frees_the_record(simulate: Any) -> None:
    """A host that answers has no count; the record is used for the next host."""
    simulation = simulate()
    host = simulation.qmail.host
    run(tcpto.note(host, HOST, timed_out=True))
    run(tcpto.note(host, HOST, timed_out=False))
    assert hosts(simulation) == {}
    run(tcpto.note(host, "192.0.2.10", timed_out=True))
    assert hosts(simulation) == {"192.0.2.10": 1}


def test_full_table_gives_up_the_oldest(simulate: Any) -> None:
    """The 65th host takes the place of the one that timed out longest ago."""
    simulation = simulate()
    for number in range(65):
        simulation.clock.now += 1
        run(tcpto.note(simulation.qmail.host, f"198.51.100.{number}", timed_out=True))
    assert set(hosts(simulation)) == {f"198.51.100.{number}" for number in range(1, 65)}


def test_deliveries_keep_the_table(simulate: Any) -> None:
    """Time-outs of deliveries make a host dead; then deliveries to it are deferred at once; a start empties it."""
    simulation = simulate()
    for _ in range(2):
        simulation.send(b"hole-30@x.example")
        simulation.qmail.run_until(simulation.clock.now + 150)
    assert hosts(simulation) == {HOST: 2}
    simulation.lines.clear()
    simulation.send(b"hole-30@x.example")
    simulation.qmail.run_until(simulation.clock.now + 1)
    text = b"delivery 3: deferral: Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/"
    assert text in simulation.lines
    simulation.qmail.stop()
    simulation.qmail.run_until(simulation.clock.now + 60)
    simulation.qmail.start()
    assert hosts(simulation) == {}


def test_tcpok_empties_the_table(simulate: Any) -> None:
    """qmail-tcpok zeroes all 1024 bytes."""
    simulation = simulate()
    run(tcpto.note(simulation.qmail.host, HOST, timed_out=True))
    simulation.qmail.tcpok()
    assert (simulation.home / "queue/lock/tcpto").read_bytes() == bytes(1024)
