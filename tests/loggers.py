"""multilog and svlogd, one step at a time: what a log directory looks like at each moment of a rotation."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

Processor = Callable[[bytes], bytes] | None


class Multilog:
    """A log directory, changed by the steps that multilog 0.76 takes, one at a time."""

    def __init__(self, path: Path, keep: int = 10, processor: Processor = None) -> None:
        self.path = path
        self.keep = keep
        self.processor = processor
        self.clock = 0x400000006922C000
        path.mkdir(exist_ok=True)
        for name in ("lock", "state"):
            (path / name).touch()
        self.write(b"")

    def write(self, data: bytes) -> None:
        """Append to `current`."""
        with (self.path / "current").open("ab") as file:
            file.write(data)

    def steps(self) -> Iterator[str]:
        """Rotate, pausing after each step with its name."""
        current, previous, processed = (self.path / name for name in ("current", "previous", "processed"))
        current.rename(previous)
        yield "renamed"
        current.touch()
        yield "created"
        previous.chmod(0o744)
        yield "marked"
        done = previous
        if self.processor:
            processed.write_bytes(self.processor(previous.read_bytes()))
            (self.path / "newstate").touch()
            processed.chmod(0o744)
            yield "processed"
            previous.unlink()
            yield "replaced"
            (self.path / "newstate").rename(self.path / "state")
            done = processed
        os.link(done, self.path / f"{self._label()}.s")
        yield "linked"
        done.unlink()
        yield "unlinked"
        while len(self.finished()) >= self.keep:
            self.finished()[0].unlink()
        yield "finished"

    def rotate(self) -> None:
        """Rotate without a pause."""
        for _ in self.steps():
            pass

    def finished(self) -> list[Path]:
        """Return the archives, oldest first."""
        return sorted(self.path.glob("@*"))

    def _label(self) -> str:
        self.clock += 1
        return f"@{self.clock:016x}00000000"


class Svlogd(Multilog):
    """A log directory, changed by the steps that svlogd 2.1 takes.

    A processor runs on while lines are written, until the next rotation waits for it.
    """

    def steps(self) -> Iterator[str]:
        """Rotate, pausing after each step with its name."""
        current = self.path / "current"
        current.chmod(0o744)
        yield "marked"
        label = self._label()
        written = self.path / f"{label}.{'u' if self.processor else 's'}"
        current.rename(written)
        yield "renamed"
        current.touch()
        yield "created"
        while len(self.finished()) > self.keep:
            self.finished()[0].unlink()
        yield "unlinked"
        if self.processor:
            made, processed = self.path / f"{label}.t", self.path / f"{label}.s"
            made.write_bytes(self.processor(written.read_bytes()))
            (self.path / "newstate").touch()
            yield "processed"
            made.rename(processed)
            yield "linked"
            processed.chmod(0o744)
            written.unlink()
            yield "replaced"
            (self.path / "newstate").rename(self.path / "state")
        yield "finished"
