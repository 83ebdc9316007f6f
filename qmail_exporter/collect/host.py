"""The host's facts about one queue, as of the last time that somebody asked."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from qmail_exporter import errors, logfmt
from qmail_exporter.formats import FormatError
from qmail_exporter.sources.host import (
    ControlFiles,
    Controls,
    FileSystem,
    Processes,
    read_file_system,
    read_processes,
    read_tcpto,
)

if TYPE_CHECKING:
    from qmail_exporter.formats.tcpto import Table

logger = logfmt.get_logger(__name__)

_T = TypeVar("_T")


class HostWatch:
    """tcpto, control files, file system and processes; None where the last attempt failed.

    Args:
        queue: the queue directory.
        control: the directory of control files.
        alone: the host has no other queue.

    Attributes:
        failing: why a source cannot be read, by source.
    """

    def __init__(self, queue: str, control: str, *, alone: bool) -> None:
        self.queue = queue
        self.control = control
        self.alone = alone
        self.tcpto: Table | None = None
        self.controls: Controls | None = None
        self.file_system: FileSystem | None = None
        self.processes: Processes | None = None
        self.errors: Counter[tuple[str, str]] = Counter()
        self._control_files = ControlFiles(control)
        self.failing: dict[str, OSError | FormatError] = {}

    def read(self) -> None:
        """Read everything anew."""
        self.tcpto = self._try("tcpto", lambda: read_tcpto(self.queue))
        self.controls = self._try("control", self._control_files.read)
        self.file_system = self._try("filesystem", lambda: read_file_system(self.queue))
        self.processes = self._try("processes", lambda: read_processes(self.queue, alone=self.alone))

    def up(self) -> dict[str, bool]:
        """Whether each source could be read."""
        return {
            "tcpto": self.tcpto is not None,
            "control": self.controls is not None,
            "filesystem": self.file_system is not None,
            "processes": self.processes is not None,
        }

    def _try(self, source: str, read: Callable[[], _T]) -> _T | None:
        try:
            value = read()
        except (OSError, FormatError) as error:
            self.errors[source, "read" if isinstance(error, OSError) else "format"] += 1
            if str(self.failing.get(source)) != str(error):
                logger.warning("cannot read", source=source, error=error)
            self.failing[source] = errors.kept(error)
            return None
        self.failing.pop(source, None)
        return value
