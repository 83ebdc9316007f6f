import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import Authority, make_authority
from qmail_exporter.web import door as module
from qmail_exporter.web.door import Door, DoorError
from webrig import fetch, make_app, run, serving

TLS = "tls_server_config: {cert_file: exporter.crt, key_file: exporter.key}\n"
HEADER = "http_server_config: {headers: {X-Frame-Options: deny}}\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture
def file(tmp_path: Path, authority: Authority) -> Path:
    """A configuration of TLS, whose certificates are there."""
    authority.write(tmp_path)
    path = tmp_path / "web.yml"
    path.write_text(TLS)
    return path


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every reading of a configuration."""
    read: list[Path] = []

    def content(path: Path, original: Callable[[Path], bytes] = module._content) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(module, "_content", content)
    return read


def test_a_file_that_stays_is_read_once(
    file: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as nothing changes the file is not read again, nor is a context made anew."""
    monkeypatch.setattr(module, "_COARSEST", 0)
    door = Door(file)
    first = door.encryption()
    assert [door.encryption() is first for _ in range(5)] == [True] * 5
    assert counted == [file]


def test_a_file_just_written_is_read_again(
    file: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file so new that a further change could have the same time is not trusted yet."""
    monkeypatch.setattr(module, "_COARSEST", 10**18)
    door = Door(file)
    before = file.stat()
    file.write_text(HEADER + "#" * (len(TLS) - len(HEADER) - 1) + "\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert door.settings.tls is None
    assert len(counted) == 2


@pytest.mark.parametrize("name", ["web.yml", "exporter.crt", "exporter.key"])
def test_a_change_counts_at_once(file: Path, name: str) -> None:
    """When the configuration, the certificate or the key changes, by any way of writing, the next connection uses it."""
    door = Door(file)
    first = door.encryption()
    changed = file.parent / name
    new = changed.with_suffix(".new")
    new.write_bytes(changed.read_bytes() + b"\n")
    new.rename(changed)
    assert door.encryption() is not first
    assert door.sound


def test_a_renewed_certificate_is_served(file: Path, authority: Authority) -> None:
    """After certificate and key are renewed, by another authority, new connections have them; the server went on."""
    other = make_authority()

    async def scenario() -> None:
        door = Door(file)
        async with serving(make_app(), encryption=door.encryption) as running:
            assert (await fetch(running.port, context=authority.client()))[0].status == 200
            other.write(file.parent)
            assert (await fetch(running.port, context=other.client()))[0].status == 200

    run(scenario)


def test_a_broken_file_is_told_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the file is wrong the old settings stay in force, which is told once a mistake; when it is right again, that too."""
    caplog.set_level("INFO")
    door = Door(file)
    first = door.encryption()
    file.write_text(TLS + "http_server_config: {http3: true}\n")
    for _ in range(3):
        assert door.encryption() is first
        assert door.settings.tls is not None
        assert not door.sound
    [told] = caplog.records
    assert (told.levelname, told.getMessage()) == (
        "WARNING",
        "web.config.file is not in force, what it said before is",
    )
    assert str(told.__dict__["fields"]["error"]) == "http_server_config.http3: unknown; did you mean http2?"
    file.write_text(TLS + HEADER)
    assert door.settings.headers == ((b"x-frame-options", b"deny"),)
    assert door.sound
    assert [record.getMessage() for record in caplog.records[1:]] == ["web.config.file has been read again"]
    file.unlink()
    assert door.settings.headers
    assert not door.sound
    assert str(caplog.records[-1].__dict__["fields"]["error"]) == "No such file or directory"


def test_a_key_without_its_certificate_waits_for_it(file: Path) -> None:
    """Between the writing of a new certificate and of its key the old pair is served, and then the new one."""
    door = Door(file)
    first = door.encryption()
    other = make_authority()
    other.write(file.parent, name="new")
    (file.parent / "new.crt").rename(file.parent / "exporter.crt")
    assert door.encryption() is first
    assert not door.sound
    (file.parent / "new.key").rename(file.parent / "exporter.key")
    assert door.encryption() is not first
    assert door.sound


def test_a_missing_file_that_comes(file: Path) -> None:
    """A certificate that went away is taken again when it is back."""
    door = Door(file)
    kept = (file.parent / "exporter.crt").read_bytes()
    (file.parent / "exporter.crt").unlink()
    assert door.encryption() is not None
    assert not door.sound
    (file.parent / "exporter.crt").write_bytes(kept)
    assert door.encryption() is not None
    assert door.sound


def test_tls_comes_and_goes(file: Path, authority: Authority) -> None:
    """TLS can be switched off and on by the file."""
    rewrite = file.write_text

    async def scenario() -> None:
        door = Door(file)
        async with serving(door.guard(make_app()), encryption=door.encryption) as running:
            rewrite(HEADER)
            response, _ = await fetch(running.port)
            assert (response.status, response.headers["X-Frame-Options"]) == (200, "deny")
            rewrite(TLS)
            response, _ = await fetch(running.port, context=authority.client())
            assert (response.status, response.headers["X-Frame-Options"]) == (200, None)

    run(scenario)


def test_without_a_file_nothing_is_loaded_for_it() -> None:
    """Who gives no file does not pay for bcrypt and YAML."""
    code = "import sys, qmail_exporter.daemon as it; it._door(None); print({'yaml', 'bcrypt'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_wrong_file_at_the_start(tmp_path: Path) -> None:
    """A file that is wrong at the start is an error of one line that names it."""
    path = tmp_path / "web.yml"
    for content, said in [
        (None, "No such file or directory"),
        ("a: 1", "a: unknown; there are basic_auth_users, http_server_config, rate_limit, tls_server_config"),
        ("#" * (1 << 20) + "#", "more than 1048576 bytes"),
    ]:
        if content is not None:
            path.write_text(content)
        with pytest.raises(DoorError) as error:
            Door(path)
        assert str(error.value) == f"{path}: {said}"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A named pipe that nobody writes to, or a directory, is refused at once."""
    path = tmp_path / "web.yml"
    make(path)
    with pytest.raises(DoorError, match=r"^\S+/web\.yml: (it is no file|Is a directory)$"):
        Door(path)
