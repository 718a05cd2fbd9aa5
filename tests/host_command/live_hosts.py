"""Hosts that stay up, for tests: one in this process and in virtual time, and one as a process."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from xennet.cli import main
from xennet.host.capacity import Capacity
from xennet.hostd.commands import Commands
from xennet.hostd.control_socket import ControlSession
from xennet.hostd.json_lines import decode, encode
from xennet.hostd.live_host import LiveHost
from xennet.xenstore.client.client import Client

#: Seconds until a thing that has to happen counts as one that does not.
SECONDS = 60
_TICK = 500_000_000
_PR_SET_PDEATHSIG = 1


class Console:
    """A live host and one client of its control socket, without sockets, in virtual time."""

    def __init__(self, guests: int = 2) -> None:
        self.live = LiveHost(Capacity(guests=4, vifs=4))
        self.commands = Commands(self.live, directory="/nowhere")
        self.session = ControlSession(self.commands.perform)
        self.host = self.live.host
        for _ in range(guests):
            self.live.create_guest()
        self.rest()

    def rest(self) -> None:
        self.host.settle()
        self.commands.look()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a request, however long it takes by the machine's time."""
        self.session.receive(encode({"command": command, "arguments": arguments}))
        for _ in range(2000):
            if self.session.pending:
                return decode(self.session.take())
            self.rest()
            if not self.session.pending:
                self.host.pump.pass_time(_TICK)
                self.commands.look()
        raise AssertionError(f"{command} is never answered")

    def do(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The result of a command that is not refused."""
        answer = self.ask(command, **arguments)
        assert "result" in answer, answer
        return answer["result"]

    def refused(self, command: str, **arguments: Any) -> str:
        """The reason for which a command is refused."""
        answer = self.ask(command, **arguments)
        assert list(answer) == ["error"], answer
        return answer["error"]

    def client(self) -> Client:
        """A connection of domain 0 to the store."""
        return self.host.service.connect(self.host.dom0.domain, "test")

    def end(self) -> None:
        """The end of a host; nothing is left."""
        self.live.end_vifs()
        self._until(lambda: not self.live.vifs)
        self.live.end_domains()
        self._until(lambda: self.live.ended)
        assert not self.host.leaks(), str(self.host.leaks())
        self.live.close()

    def _until(self, condition: Callable[[], bool]) -> None:
        for _ in range(200):
            self.rest()
            if condition():
                return
            self.host.pump.pass_time(_TICK)
        raise AssertionError("the host does not end")


def die_with_parent() -> None:
    """For a child process: no test that is killed leaves it behind, and SIGHUP is not ignored,
    as it is below nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "XENNET_HOST"}
    return {**kept, "XENNET_ENGINE": "plain", **more}


class HostProcess:
    """``xennet host`` as a process, in ``directory``."""

    def __init__(self, directory: Path | str, *options: str, **variables: str) -> None:
        self.directory = str(directory)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xennet", "host", "--socket", self.directory, *options],
            env=environment(**variables),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )

    def until_up(self) -> None:
        until(lambda: os.path.exists(f"{self.directory}/control.sock"), self.process)

    def xennet(self, *words: str, code: int = 0) -> str:
        """What a command prints: stdout, or stderr for an error. It runs in this process."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, XENNET_HOST=self.directory),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            done = main(["host", *words])
        assert done == code, (words, done, out.getvalue(), err.getvalue())
        return out.getvalue() if code != 2 else err.getvalue()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal. Returns its exit code, and what it wrote to stderr."""
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, stderr


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for ``condition`` while ``process`` lives."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def host_process(directory: Path | str, *options: str, **variables: str) -> Iterator[HostProcess]:
    """A host as a process, which is gone afterwards."""
    host = HostProcess(directory, *options, **variables)
    try:
        host.until_up()
        yield host
    finally:
        host.process.kill()
        host.process.communicate()
