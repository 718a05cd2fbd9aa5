"""What a program and the processes that it started are doing, as /proc shows it (proc(5)).

It tells a program that has nothing to do from one that has not come to do it: a thread that sleeps
until somebody outside does something, from one that runs, waits for a processor, or will wake up by
itself. No clock is needed for that, so the answer is the same on a busy machine. What /proc cannot
tell are timers of other kinds (timerfd, setitimer).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

#: Units of the times in /proc/PID/stat in a second.
_TICKS = os.sysconf("SC_CLK_TCK")
#: States of those that have ended, and where /proc/PID/stat, from the state on, has the number of
#: threads: the first thread of a process may end before the others.
_ENDED, _THREADS = (b"Z", b"X"), 17
#: Files that are open at a time, and bytes of one of them.
_MOST_FILES, _MOST_BYTES = 256, 4096
#: System calls of x86-64 (asm/unistd_64.h) with a timeout -> which argument that is; it is a number
#: of milliseconds, negative for none, or the address of a timespec or timeval, NULL for none.
_MILLISECONDS = {7: 2, 232: 3, 281: 3}  # poll, epoll_wait, epoll_pwait
_ADDRESS = {271: 2, 23: 4, 270: 4, 441: 3, 128: 2, 202: 3}  # ppoll, (p)select, ..., futex
#: Those that wait without one: reads and writes, pause, wait4, waitid, rt_sigsuspend, connect and
#: accept, messages, locks.
_ENDLESS = frozenset({0, 1, 19, 20, 34, 42, 43, 44, 45, 46, 47, 61, 72, 73, 130, 247, 288})
_TABLE = platform.machine() in ("x86_64", "amd64")


class ThreadState(NamedTuple):
    """A thread: ``state`` as in proc(5), "S" if it sleeps; ``runs``, how often it came to run;
    ``sleeps`` of one that may wake up by itself: how often it went to sleep (else None)."""

    state: str
    runs: int
    sleeps: int | None


#: (process, thread) -> its state.
Look: TypeAlias = Mapping[tuple[int, int], ThreadState]


class ProcessWatch:
    """The processes of the session that process ``pid`` leads (setsid(2)), until :meth:`close`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._processes = [pid]
        self._newest = b""
        self._files: dict[str, int] = {}

    def look(self) -> Look:
        """The threads of all processes that have not ended."""
        return {
            (pid, int(thread)): state
            for pid in self.processes()
            for thread in _names(f"/proc/{pid}/task")
            if (state := self._thread(f"/proc/{pid}/task/{thread}")) is not None
        }

    def cpu_time(self) -> float:
        """The seconds of CPU time that the processes have used, with children that have ended:
        utime, stime, cutime, cstime."""
        return sum(sum(map(int, stat[11:15])) for stat in self._stats().values()) / _TICKS

    def processes(self) -> list[int]:
        """The processes that have not ended."""
        return list(self._stats())

    def close(self) -> None:
        """Let go of all files. May be repeated."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _stats(self) -> dict[int, list[bytes]]:
        """The stat fields of the processes that have not ended; all of the system are looked
        through if one was made since the last call."""
        newest = self._read("/proc/loadavg").rpartition(b" ")[2]
        if newest != self._newest or not newest:
            self._newest = newest
            found = self._in_session()
        else:
            found = ((pid, _fields(self._read(f"/proc/{pid}/stat"))) for pid in self._processes)
        stats = {pid: fields for pid, fields in found if _lives(fields)}
        self._processes = list(stats)
        return stats

    def _in_session(self) -> Iterator[tuple[int, list[bytes]]]:
        for name in _names("/proc"):
            fields = _fields(_read_once(f"/proc/{name}/stat")) if name.isdigit() else []
            if fields and int(fields[3]) == self.pid:
                yield int(name), fields

    def _thread(self, path: str) -> ThreadState | None:
        fields = _fields(self._read(f"{path}/stat"))
        if not fields or fields[0] in _ENDED:
            return None
        state = fields[0].decode()
        schedstat = self._read(f"{path}/schedstat").split()
        runs = int(schedstat[2]) if len(schedstat) == 3 else 0
        timed = state == "S" and _timed(self._read(f"{path}/syscall").split())
        return ThreadState(state, runs, self._sleeps(path) if timed else None)

    def _sleeps(self, path: str) -> int:
        status = self._read(f"{path}/status")
        number = status.partition(b"\nvoluntary_ctxt_switches:")[2].split(None, 1)
        return int(number[0]) if number else 0

    def _read(self, path: str) -> bytes:
        """The bytes of a file, which stays open; none of a process or thread that has ended."""
        try:
            if path not in self._files:
                if len(self._files) >= _MOST_FILES:
                    self.close()
                self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._files[path], _MOST_BYTES, 0)
        except OSError:
            if path in self._files:
                os.close(self._files.pop(path))
            return b""


def sleeps(look: Look) -> bool:
    """Whether all threads sleep."""
    return all(thread.state == "S" for thread in look.values())


def at_rest(first: Look, second: Look) -> bool:
    """Whether all threads slept at one moment between two looks, one right after the other, and
    none ran from then until the second."""
    return first == second and sleeps(first)


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # it has ended
        return []


def _read_once(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""


def _fields(stat: bytes) -> list[bytes]:
    """The fields of a stat file from the state on. The name, before them, may hold anything."""
    return stat.rpartition(b")")[2].split()


def _lives(fields: list[bytes]) -> bool:
    """Whether a process with these fields has not ended, nor all of its threads."""
    return bool(fields) and (fields[0] not in _ENDED or int(fields[_THREADS]) > 1)


def _timed(call: list[bytes]) -> bool:
    """Whether the system call in which a thread sleeps, with its arguments, ends by itself; True
    if that cannot be known."""
    if len(call) < 7 or not _TABLE:
        return True
    number = int(call[0])
    if number in _MILLISECONDS:
        return ctypes.c_int(int(call[1 + _MILLISECONDS[number]], 16)).value >= 0
    if number in _ADDRESS:
        return int(call[1 + _ADDRESS[number]], 16) != 0
    return number not in _ENDLESS
