"""The file of `--web.config.file` as it is now: read again when it, or a file that it names, has changed."""

import os
import stat
import time
from pathlib import Path

from qmail_exporter import logfmt
from qmail_exporter.web.app import App
from qmail_exporter.web.document import parse
from qmail_exporter.web.guard import guarded
from qmail_exporter.web.settings import Settings, parse_settings
from qmail_exporter.web.tls import Encryption, make_encryption

# Nanoseconds within which a file system may give two changes the same time.
_COARSEST = 100_000_000
# Certificates may stand in it; more is a mistake.
_LARGEST = 1 << 20

logger = logfmt.get_logger(__name__)

_Stamp = tuple[int, ...] | None


class DoorError(OSError):
    """A file that cannot be used; the text names it and says why."""


class Door:
    """Settings that follow their file.

    They are looked at again whenever they are asked for, which costs a `stat` a file. A file that has become wrong is told in
    the log once, and the settings that were good stay in force until it is right again.

    Attributes:
        sound: whether the file, as it is, is what is in force.

    Raises:
        DoorError: by the constructor, of a file that cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._settings = Settings()
        self._encryption: Encryption | None = None
        self._stamps: dict[Path, _Stamp] = {}
        self._unsettled = False
        self._told = ""
        self.sound = False
        try:
            self._read()
        except ValueError as error:
            raise DoorError(f"{path}: {error}") from error

    @property
    def settings(self) -> Settings:
        """The settings in force now."""
        self._follow()
        return self._settings

    def encryption(self) -> Encryption | None:
        """Return what a new connection is encrypted with; None is not at all."""
        self._follow()
        return self._encryption

    def guard(self, app: App) -> App:
        """Return the application behind the passwords, headers and limit that are in force at each request."""
        return guarded(app, lambda: self.settings)

    def _follow(self) -> None:
        changed = any(_stamp(path) != stamp for path, stamp in self._stamps.items())
        if not changed and not self._unsettled:
            return
        try:
            self._read()
        except ValueError as error:
            self.sound = False
            if self._told != str(error):
                self._told = str(error)
                logger.warning(
                    "web.config.file is not in force, what it said before is", path=self._path, error=error
                )
        else:
            self._told = ""
            if changed:
                logger.info("web.config.file has been read again", path=self._path)

    def _read(self) -> None:
        # Stamped before it is read: what changes meanwhile is seen the next time.
        self._stamps = {self._path: _stamp(self._path)}
        try:
            settings = parse_settings(parse(_content(self._path)), self._path.parent)
            tls = settings.tls
            if tls is not None:
                self._stamps |= {file: _stamp(file) for file in tls.files}
            encryption = make_encryption(tls) if tls is not None else None
        finally:
            latest = max(stamp[-1] if stamp else 0 for stamp in self._stamps.values())
            self._unsettled = abs(time.time_ns() - latest) < _COARSEST
        self._settings, self._encryption, self.sound = settings, encryption, True


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: Path) -> bytes:
    try:
        # Not to wait for who writes to a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("it is no file")
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if len(content) > _LARGEST:
        raise ValueError(f"more than {_LARGEST} bytes")
    return content
