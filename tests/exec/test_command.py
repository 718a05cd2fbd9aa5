"""``xennet exec``: signals, exit codes, and what cannot be."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from contextlib import suppress

from exec_world import PATIENCE, World

_EXEC = [sys.executable, "-m", "xennet", "exec"]
#: Tells of each SIGINT, and ends with 7 at SIGTERM.
_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: print("int", flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
while True:
    signal.pause()
"""

#: Takes standard input as the terminal of its session, and becomes the command that it is given.
_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_signals_are_the_programs_on_a_host_too(world: World) -> None:
    # In a session without a terminal.
    command = subprocess.Popen(
        [*_EXEC, "--host", world.directory, "--domain", "2", "--", sys.executable, "-c", _PROGRAM],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert command.stdout is not None
        out = command.stdout.fileno()
        told: list[bytes] = []

        def read() -> None:
            told.append(os.read(out, 64))

        world.hold(lambda: b"".join(told) == b"ready\n", out, read)
        command.send_signal(signal.SIGINT)
        world.hold(lambda: b"".join(told) == b"ready\nint\n", out, read)
        command.send_signal(signal.SIGTERM)
        world.hold(lambda: told[-1] == b"", out, read)
        assert command.wait(PATIENCE) == 7
    finally:
        command.kill()
        command.communicate()


def test_a_control_c_reaches_the_program_once(caller: str) -> None:
    terminal, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-c", _ON_TERMINAL, *_EXEC, "--", sys.executable, "-c", _PROGRAM],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        told = b""

        def read_until(word: bytes) -> None:
            nonlocal told
            while word not in told:
                assert select.select([terminal], [], [], PATIENCE)[0], told
                told += os.read(terminal, 256)

        read_until(b"ready")
        os.write(terminal, b"\x03")
        read_until(b"int")
        command.send_signal(signal.SIGTERM)  # comes behind whatever has been passed on
        with suppress(OSError):  # EIO: nobody has the terminal any more
            read_until(b"nothing more")
        assert told.count(b"int") == 1
        assert command.wait(PATIENCE) == 7
    finally:
        os.close(terminal)
        command.kill()
        command.wait()
