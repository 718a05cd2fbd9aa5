"""Starting a program in a domain, and what its end means."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xennet.exec import messages
from xennet.exec.errors import ExecError
from xennet.exec.shim import shim_path
from xennet.pump import Pump
from xennet.runloop import RunLoop

#: A variable of the environment: what such a program starts ends with it (shim.c).
TIED = "XENNET_EXEC_TIED"
_PR_SET_PDEATHSIG = 1
#: Bytes of a path in struct sockaddr_un, without the zero.
_LONGEST_PATH = 107
_libc = ctypes.CDLL(None, use_errno=True)


def socket_paths(directory: str | Path, domid: int) -> tuple[str, str]:
    """The paths of a domain's socket and of the socket of its store, below ``directory``."""
    return f"{directory}/exec-{domid}.sock", f"{directory}/xenstored-{domid}.sock"


def environment(
    path: str, store_path: str | None, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a program in the domain whose socket is ``path``; ``store_path`` is the
    socket of its store (None: /dev/xen/xenbus). ``base`` is the rest (None: this process's).

    Raises ExecError if the shim cannot be built or a path is too long for a socket.
    """
    # A program may have another directory.
    path = os.path.abspath(path)
    store_path = None if store_path is None else os.path.abspath(store_path)
    for one in (path, store_path or ""):
        if len(os.fsencode(one)) > _LONGEST_PATH:
            raise ExecError(f"{one}: longer than the {_LONGEST_PATH} bytes of a socket's path")
    env = dict(os.environ if base is None else base)
    others = [part for part in env.get("LD_PRELOAD", "").split(":") if part]
    env["LD_PRELOAD"] = ":".join([str(shim_path()), *others])
    env["XENNET_EXEC"] = path
    env.pop("XENSTORED_PATH", None)
    if store_path is not None:
        env["XENSTORED_PATH"] = store_path
    return env


def launch(
    argv: Sequence[str],
    path: str,
    store_path: str | None = None,
    *,
    crash: bool = False,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a program in the domain whose socket is ``path``, and return its process.

    It is killed if this process ends before it. With ``crash`` its end is the crash of the domain:
    that asks the domain's server, which has to be another process (if it is this one, see
    ExecServer.crashes_with). ``options`` are those of subprocess.Popen. Raises ExecError if there
    is no such program.
    """
    parent = os.getpid()

    def begin() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)
        if crash:
            ask_for_crash(path)

    whole = environment(path, store_path, env)
    try:
        with warnings.catch_warnings():
            # Of a process with threads (Python 3.12): begin() takes no lock of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            return subprocess.Popen(list(argv), env=whole, preexec_fn=begin, **options)
    except OSError as error:
        raise ExecError(f"{argv[0]}: {error.strerror or error}") from None
    except subprocess.SubprocessError as error:
        raise ExecError(f"{path}: no server answers there ({error})") from None


def ask_for_crash(path: str) -> None:
    """Make the end of this process the crash of the domain whose socket is ``path``. Raises OSError
    if nobody answers there, or if it is refused: the crash of domain 0 is the machine's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(path)
        server.send(messages.REQUEST.pack(messages.OP_CRASH, 0, 0, 0, 0, 0, 0))
        answer = server.recv(messages.ANSWER.size)
        if len(answer) != messages.ANSWER.size:
            raise OSError("no answer")
        if error := messages.ANSWER.unpack(answer)[0]:
            raise OSError(error, os.strerror(error))


@contextmanager
def passing_signals_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """A context in which SIGINT, SIGTERM and SIGHUP are the business of a program, which is named
    by calling what the context gives; those that came before are passed on then.

    A Control-C that the terminal has sent to the program too is not passed on. A signal that is
    ignored (``command &`` in a script) stays ignored.
    """
    programs: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def passed_on(number: int, _frame: object) -> None:
        if not programs:
            early.append(number)
        elif number != signal.SIGINT or not _has_the_terminal(programs[0].pid):
            programs[0].send_signal(number)

    def name(program: subprocess.Popen[bytes]) -> None:
        programs.append(program)
        for number in early:
            program.send_signal(number)

    # Signals are the main thread's.
    main = threading.current_thread() is threading.main_thread()
    before = {
        number: signal.signal(number, passed_on)
        for number in ((signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if main else ())
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield name
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_the_terminal(pid: int) -> bool:
    """Whether a process is in this one's group, and that is the foreground of its terminal."""
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp() == os.getpgid(pid)
        finally:
            os.close(terminal)
    return False


def connect_to_store(directory: str, domid: int) -> socket.socket:
    """A connection to the store as a domain of the host whose sockets are in ``directory``, which
    ends with the host and with the domain. Raises ExecError if there is none."""
    path, store_path = socket_paths(directory, domid)
    try:
        os.stat(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(store_path)
        except BaseException:
            server.close()
            raise
    except FileNotFoundError:
        raise ExecError(f"{path}: no domain {domid} is served there") from None
    except ConnectionRefusedError:
        raise ExecError(f"{store_path}: no host answers there") from None
    except OSError as error:
        raise ExecError(f"{directory}: {error.strerror or error}") from None
    return server


@contextmanager
def watching_end(program: subprocess.Popen[bytes], pump: Pump) -> Iterator[Callable[[], bool]]:
    """A context in which ``pump`` watches for the end of a program. It gives a function that says
    whether the program has ended."""
    over = False
    pidfd = os.pidfd_open(program.pid)

    def end() -> None:
        nonlocal over
        over = True
        pump.unwatch(pidfd)  # it stays readable

    pump.watch(pidfd, end)
    try:
        yield lambda: over
    finally:
        pump.unwatch(pidfd)
        os.close(pidfd)


def wait_while_served(program: subprocess.Popen[bytes], store: socket.socket) -> None:
    """Wait until a program has ended, or the host of its domain has, or the domain: it has
    nothing to speak to then, and goes too."""
    pump = Pump(RunLoop())
    gone: list[bool] = []
    # The store says nothing that nobody asked for.
    pump.watch(store.fileno(), lambda: gone.append(True))
    try:
        with watching_end(program, pump) as ended:
            pump.hold(None, lambda: ended() or bool(gone))
    finally:
        pump.close()


def exit_code(returncode: int) -> int:
    """The exit code of a shell for a process that ended: 128 and the signal's number if one ended
    it."""
    return returncode if returncode >= 0 else 128 - returncode
