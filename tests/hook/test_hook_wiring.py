import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter import actions
from qmail_exporter.config import HookConfig
from qmail_exporter.hook.runs import Outcome
from qmail_exporter.hook.wiring import Ports, actions_of, make_hook
from qmail_exporter.outage import State


def test_wiring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wanted actions, in their order; each does its thing to this queue."""
    called: list[Any] = []
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock" / "tcpto").write_bytes(bytes(1024))

    def tcpok(*given: str, **_: float) -> actions.Cleared:
        called.append(given)
        return actions.Cleared(3, own_program=False)

    def redeliver(queue: str) -> int:
        called.append(queue)
        return 4711

    monkeypatch.setattr(actions, "tcpok", tcpok)
    monkeypatch.setattr(actions, "redeliver", redeliver)
    config = HookConfig(tcpok=True, redeliver=True, command=("/bin/echo", "hello"), sockets=str(tmp_path))
    wanted = actions_of(config, "q1", str(tmp_path), "/var/qmail")

    async def main() -> list[Outcome]:
        return [await action() for action in wanted.values()]

    assert list(wanted) == ["tcpok", "command", "redeliver"]
    assert [outcome.text for outcome in asyncio.run(main())] == [
        "3 hosts were in the table",
        "status 0: hello",
        "signalled process 4711",
    ]
    assert called == [(str(tmp_path), "/var/qmail"), str(tmp_path)]
    assert actions_of(HookConfig(), "q1", "/q", "/h") == {}


@pytest.mark.parametrize(("name", "end"), [("default", ""), ("q2", "-q2")])
def test_wiring_to_socket_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str) -> None:
    """What this user may not do is asked of the units of that queue."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "may not")

    monkeypatch.setattr(actions, "redeliver", refuse)
    config = HookConfig(tcpok=True, redeliver=True, sockets=str(tmp_path))
    wanted = actions_of(config, name, str(tmp_path), "/var/qmail")

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0\n")
        writer.close()

    async def main() -> list[Outcome]:
        missing = [await action() for action in wanted.values()]
        servers = [
            await asyncio.start_unix_server(serve, str(tmp_path / f"{what}{end}.sock")) for what in wanted
        ]
        served = [await action() for action in wanted.values()]
        for server in servers:
            server.close()
        return missing + served

    missing, gone, *served = asyncio.run(main())
    assert missing.text.startswith("may not write tcpto; and [Errno 2] no socket unit at ")
    assert gone.text.startswith("may not; and [Errno 2] no socket unit at ")
    assert served == [Outcome(True, "status 0")] * 2


def test_ports_follow_the_file(tmp_path: Path) -> None:
    """A changed smtproutes is read again; one that is missing, or no file, gives no ports."""
    path = tmp_path / "smtproutes"
    ports = Ports(str(path))
    assert ports() == {"": (25,)}
    for number in (1, 2):
        path.write_text(f"a:192.0.2.1:{number}\n")
        os.utime(path, (number, number))
        assert ports()["192.0.2.1"] == (number,)
        assert ports() is ports()
    path.unlink()
    assert ports() == {"": (25,)}
    path.mkdir()
    assert ports() == {"": (25,)}


def test_hook_of_a_queue(tmp_path: Path) -> None:
    """It reads the queue's tcpto: none, or one that is no table, is unknown; an empty one is empty."""
    (tmp_path / "lock").mkdir()
    table = tmp_path / "lock" / "tcpto"
    config = HookConfig(tcpok=True)
    hook = make_hook(config, "q1", str(tmp_path), home="/h", control=str(tmp_path), ready=lambda: True)
    assert hook._table() is None
    table.write_bytes(b"what")
    assert hook._table() is None
    table.write_bytes(bytes(1024))
    found = hook._table()
    assert found is not None
    assert found.hosts == ()
    hook.tick()
    assert hook.state is State.CLEAR
    assert list(hook.actions) == ["tcpok"]
    assert hook._ports() == {"": (25,)}
