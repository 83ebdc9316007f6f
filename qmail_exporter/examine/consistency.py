"""Whether the files of a queue are as qmail leaves them.

Everything is listed and each file's status read; nothing is opened but directories.  qmail goes on working meanwhile,
and a look at several files is not one moment, so a message whose files do not fit together is looked at again at the
end, twice, and only what stays the same is told.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from time import sleep, time

from qmail_exporter.examine import rules
from qmail_exporter.formats.envelope import message_id
from qmail_exporter.sources.layout import DIRECTORY, Layout

EXAMPLES = 3
PAUSE = 0.2
"""Seconds between the two looks; qmail needs microseconds from one file to the next."""
_TOP = frozenset((*rules.AREAS, "bigtodo"))


class Faults:
    """What is wrong, by kind: how often, and the first few places."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, place: str) -> None:
        """One more."""
        self.count[kind] = self.count.get(kind, 0) + 1
        places = self.examples.setdefault(kind, [])
        if len(places) < EXAMPLES:
            places.append(place)


class Survey(Layout):
    """A walk over an open queue.

    Attributes:
        faults: what is wrong.
        orphans: messages that were never finished, and that qmail-send will remove.
        messages: `mess` files.
        unseen: directories that could not be listed, by error.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.faults = Faults()
        self.orphans: list[int] = []
        self.messages = 0
        self.unseen: dict[str, OSError] = {}
        self._split_areas = [a for a in ("mess", "info", "todo", "intd", *self.channels) if self._is_split(a)]
        self._flat_areas = [a for a in ("todo", "intd", "bounce") if a not in self._split_areas]
        self._owners = self._area_owners()
        self._suspects: set[int] = set()

    def walk(self) -> Iterator[float]:
        """Walk over everything, in steps; yields how much is done, from 0 to 1."""
        self._check_top()
        flat = {area: self._ids(area, area) for area in self._flat_areas}
        alone = set().union(*flat.values())
        for number in range(self.split):
            split = {area: self._ids(area, f"{area}/{number}", number) for area in self._split_areas}
            self.messages += len(split["mess"])
            alone -= split["mess"]
            for msg in set().union(*split.values()):
                present = {area for area, ids in (*split.items(), *flat.items()) if msg in ids}
                if rules.violation(present) or rules.unfinished(present):
                    self._suspects.add(msg)
            yield (number + 1) / self.split
        self._suspects |= alone
        self._confirm()

    # --- directories

    def _check_top(self) -> None:
        for entry in sorted(os.listdir(self._root)):
            if entry not in _TOP and entry not in self.channels:
                self.faults.add("foreign to a queue", _shown(entry))
        for area in sorted(rules.AREAS | set(self.channels)):
            try:
                found = os.stat(area, dir_fd=self._root, follow_symlinks=False)
            except OSError:
                self.faults.add("missing", area)
                continue
            self._check_directory(area, area, found)
        self._check_splits()
        self._check_lock()

    def _check_splits(self) -> None:
        """All split areas have the directories that `mess` has; qmail's programs were built for one number."""
        for area in ("mess", "info", *self.channels):
            try:
                numbers = self._numbers(area)
            except OSError:
                continue
            missing = sorted(set(range(self.split)) - numbers)
            for number in missing:
                self.faults.add("missing", f"{area}/{number}")
            for number in sorted(numbers - set(range(self.split))):
                self.faults.add("foreign to a queue", f"{area}/{number}")

    def _check_lock(self) -> None:
        kinds = (
            ("trigger", stat.S_ISFIFO, "FIFO"),
            ("sendmutex", stat.S_ISREG, "regular file"),
            ("tcpto", stat.S_ISREG, "regular file"),
        )
        for name, is_kind, kind in kinds:
            mode = self._mode(f"lock/{name}")
            if mode is None:
                if "lock" not in self.unseen:
                    self.faults.add("missing", f"lock/{name}")
            elif not is_kind(mode):
                self.faults.add(f"no {kind}", f"lock/{name}")

    def _mode(self, place: str) -> int | None:
        """The `st_mode` of a file; None where there is none, or where that cannot be told, which is kept in `unseen`."""
        try:
            return os.stat(place, dir_fd=self._root, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            self.unseen["lock"] = error
            return None

    def _check_directory(self, area: str, place: str, found: os.stat_result) -> None:
        if not stat.S_ISDIR(found.st_mode):
            self.faults.add("no directory", place)
            return
        if fault := rules.directory_fault(area, found.st_mode):
            self.faults.add(fault, place)
        self._check_owner(area, place, found)

    def _check_owner(self, area: str, place: str, found: os.stat_result) -> None:
        owner = self._owners.get(area in rules.OF_QUEUE)
        if owner is not None and found.st_uid != owner:
            self.faults.add("of the wrong owner", place)

    def _area_owners(self) -> dict[bool, int]:
        """Who owns `mess`, and so what is qmail-queue's, and who owns `info`, and what is qmail-send's."""
        owners = {}
        for area in ("mess", "info"):
            try:
                found = os.stat(area, dir_fd=self._root, follow_symlinks=False)
            except OSError:
                continue
            owners[area in rules.OF_QUEUE] = found.st_uid
        return owners

    # --- files

    def _ids(self, area: str, directory: str, number: int | None = None) -> set[int]:
        """Check the files of a directory; returns the numbers of the messages that belong there."""
        ids: set[int] = set()
        try:
            fd = os.open(directory, DIRECTORY, dir_fd=self._root)
        except OSError as error:
            self.unseen.setdefault(area, error)
            return ids
        try:
            if number is not None:
                self._check_directory(area, directory, os.fstat(fd))
            for name in os.listdir(fd):
                msg = message_id(os.fsencode(name))
                try:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.unseen.setdefault(area, error)
                    if msg is not None:
                        ids.add(msg)
                    continue
                self._check_file(area, f"{directory}/{_shown(name)}", msg, number, found)
                if msg is not None and number in (None, msg % self.split):
                    ids.add(msg)
        finally:
            os.close(fd)
        return ids

    def _check_file(
        self, area: str, place: str, msg: int | None, number: int | None, found: os.stat_result
    ) -> None:
        if msg is None:
            if not (number is None and stat.S_ISDIR(found.st_mode) and place.rpartition("/")[2].isdecimal()):
                self.faults.add("foreign to a queue", place)
            return
        if number is not None and msg % self.split != number:
            self.faults.add("in the wrong numbered directory", place)
        if fault := rules.file_fault(found.st_mode):
            self.faults.add(fault, place)
        self._check_owner(area, place, found)
        if area == "mess" and found.st_ino != msg:
            self.faults.add("not named by its inode number", place)

    # --- messages

    def _confirm(self) -> None:
        """Look again at those whose files do not fit together, or may be nobody's; not if some cannot be seen."""
        if self.unseen:
            return
        first = {msg: present for msg in self._suspects if self._is_odd(msg, present := self._present(msg))}
        if first:
            sleep(PAUSE)
        for msg, before in sorted(first.items()):
            present = self._present(msg)
            if present != before:
                continue
            if fault := rules.violation(present):
                self.faults.add(fault, f"message {msg}: {' '.join(sorted(present))}")
            elif self._is_odd(msg, present):
                self.orphans.append(msg)

    def _is_odd(self, msg: int, present: set[str]) -> bool:
        if rules.violation(present):
            return True
        return rules.unfinished(present) and self._rested(msg)

    def _rested(self, msg: int) -> bool:
        try:
            found = os.stat(f"mess/{msg % self.split}/{msg}", dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return False
        return found.st_atime + rules.ORPHANED < time()

    def _present(self, msg: int) -> set[str]:
        """The areas in which message `msg` has a file now."""
        places = {area: f"{area}/{msg % self.split}/{msg}" for area in self._split_areas}
        places |= {area: f"{area}/{msg}" for area in self._flat_areas}
        present = set()
        for area, place in places.items():
            with suppress(OSError):
                os.stat(place, dir_fd=self._root, follow_symlinks=False)
                present.add(area)
        return present


def _shown(name: str) -> str:
    return os.fsencode(name).decode("ascii", "backslashreplace")
