"""A child process whose output is read without ever waiting for it."""

import fcntl
import os
import struct
import subprocess
import termios

_SAID = 1024
_PATIENCE = 0.2
_PIPE = 64 * 1024


class Child:
    """A running program: its standard output block by block, and its last words on standard error.

    Args:
        command: The program and its arguments; no shell sees them.

    Raises:
        OSError: It cannot be started; its name is in it.
    """

    def __init__(self, command: list[str]) -> None:
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        self._said = b""
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError:
            os.close(self._out)
            os.close(self._err)
            raise
        finally:
            os.close(out)
            os.close(err)
        os.set_blocking(self._out, False)
        os.set_blocking(self._err, False)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is output, and at its end."""
        return self._out

    def read(self, size: int) -> bytes | None:
        """Return output of at most `size` bytes, b"" if there is none yet, None at its end."""
        self._listen()
        try:
            return os.read(self._out, min(size, _PIPE)) or None
        except BlockingIOError:
            return b""

    def waiting(self) -> int:
        """Return how many bytes of output are waiting."""
        return int(struct.unpack("i", fcntl.ioctl(self._out, termios.FIONREAD, bytes(4)))[0])

    def end(self) -> tuple[int, str]:
        """End the child, by force if it has not ended by itself; return its status and the last line it said."""
        try:
            # At the end of its output it is about to exit, and its own status is worth having.
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._listen()
        os.close(self._out)
        os.close(self._err)
        said = self._said.decode("utf-8", "replace").split("\n")
        words = [line for line in said if line.strip()]
        return status, "".join(c if c.isprintable() else "?" for c in words[-1]) if words else ""

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()
        self.end()

    def _listen(self) -> None:
        # Read, so that it cannot fill the pipe and stop the child; only the end is kept.
        try:
            while words := os.read(self._err, _PIPE):
                self._said = (self._said + words)[-_SAID:]
        except BlockingIOError:
            pass
