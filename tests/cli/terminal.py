"""A process on a terminal of its own: what it shows, and what is typed."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 60
#: Makes standard input the controlling terminal of the session, as Control-C needs it.
_TAKE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
_TAKE += "os.execvp(sys.argv[1], sys.argv[1:])"


class Terminal:
    """``command`` with its standard streams on a pty of ``columns`` columns and ``rows`` rows."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        columns: int = 80,
        rows: int = 50,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)
        #: A read may end in the middle of a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str) -> str:
        """What was shown since the last call until ``text`` came, without it."""
        while text not in self._shown:
            assert self._more(), f"{text!r} did not come: {self._shown}"
        before, _, self._shown = self._shown.partition(text)
        return before

    def rest(self) -> str:
        """What was shown since the last call, until the process ended."""
        while self._more():
            pass
        self.process.wait(SECONDS)
        rest, self._shown = self._shown, ""
        return rest

    def hang_up(self) -> None:
        """Take the terminal away from the process, which goes on if it ignores SIGHUP."""
        os.close(self._master)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _more(self) -> bool:
        """Read; False when nobody has the terminal open any more, or nothing comes."""
        if not select.select([self._master], [], [], SECONDS)[0]:
            return False
        try:
            self._shown += self._decoder.decode(os.read(self._master, 65536))
        except OSError:  # EIO: the other end is closed
            return False
        return True


def plain(shown: str) -> str:
    """Without escape sequences and carriage returns."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "")
