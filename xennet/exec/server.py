"""The machine's side of the seam: device files for programs of other processes.

A domain has a socket; a process that may connect to it runs in that domain. A program's call is a
message, and a delivery of the run loop, ("exec", domid, number of the connection), in which it is
answered. Nothing here waits: the pump calls when a descriptor is ready.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from collections.abc import Mapping as AnyMapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from xennet.abi.linux_xen import IOCTL_NAMES
from xennet.abi.netmap import NIOCCTRL, NIOCRXSYNC, NIOCTXSYNC
from xennet.abi.netmap_legacy import NIOCCONFIG, NIOCGINFO, NIOCREGIF
from xennet.abi.sched import SHUTDOWN_crash
from xennet.exec import messages
from xennet.exec.device_table import DEVICES
from xennet.exec.devices import Call, MakeDevice, MapRequest, OpenFile, Pages
from xennet.exec.follow_ups import FollowUps
from xennet.exec.programs import Program
from xennet.exec.served_domain import ServedDomain
from xennet.exec.wakers import Wakers
from xennet.hypervisor import Domain, Machine
from xennet.interface import GuestGrants, HypercallError, OutOfFramesError
from xennet.observe import DomainDestroyed, DomainShutdown, ProgramCall
from xennet.pump import Pump
from xennet.runloop import Delivery
from xennet.xenstore.daemon import TOO_MANY, Daemon, listen
from xennet.xenstore.handlers import Server as StoreServer

_SO_MAX_PACING_RATE = 47
_SO_PEERPIDFD = 77
_PAGE = 4096
#: What the ioctls of devices are called.
_NAMES = IOCTL_NAMES | {
    NIOCCTRL: "NIOCCTRL",
    NIOCTXSYNC: "NIOCTXSYNC",
    NIOCRXSYNC: "NIOCRXSYNC",
    NIOCGINFO: "NIOCGINFO",
    NIOCREGIF: "NIOCREGIF",
    NIOCCONFIG: "NIOCCONFIG",
}
_RECEIVE = 16 << 10
#: Files that one program may have open: Linux's own limit is RLIMIT_NOFILE, 1024 as a rule. Each is
#: a descriptor of this process, too.
MOST_FILES = 256
#: Connections of one program, which needs one.
MOST_CONNECTIONS = 16
#: ns after which the next program may connect where no descriptor was left.
ACCEPT_AGAIN = 100_000_000
#: More messages than a socket of the usual size holds.
_MOST_MESSAGES = 1024


class _Connection:
    """One connection of a program, by which its calls come."""

    def __init__(
        self, server: ExecServer, program: Program, connected: socket.socket, number: int
    ) -> None:
        self.program, self._socket, self._server = program, connected, server
        self._messages: deque[bytes] = deque()
        self._delivery = Delivery("exec", program.domain.domid, number)
        self._post = server.machine.run_loop.post
        server.pump.watch(connected.fileno(), self._readable)

    def close(self) -> None:
        """Close it; what was asked and not answered yet is not done. May be repeated."""
        self._messages.clear()
        if self._socket.fileno() >= 0:
            self._server.pump.unwatch(self._socket.fileno())
            self._server.follow_ups.forget(self._socket.fileno())
            self._socket.close()
            self._server.connections.discard(self)

    def _readable(self) -> None:
        if self.take():
            self._server.follow_ups.serve(self._socket.fileno(), self)

    def take(self) -> bool:
        """Take the next call. Returns whether it has been answered; else it is for a delivery, or
        there is none."""
        try:
            message = self._socket.recv(messages.MOST_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        if len(message) < messages.REQUEST.size:
            # Its end, or nonsense. The process may go on, and may run another program now.
            self.close()
            self.program.compare()
            return False
        if not self.program.domain.running:
            self._answer(messages.ANSWER.pack(errno.EIO, 0, -1, 0, 0, 0))
            return False
        if not self._messages and (answer := self._server.at_once(self.program, message)):
            self._answer(answer)
            return self._socket.fileno() >= 0
        self._messages.append(message)
        self._post(self._delivery, self._deliver)
        return False

    def _deliver(self, delivery: Delivery) -> None:
        if not self._messages or self.program.gone():
            return  # nothing is done for a process that is gone: its number may be another's
        message = self._messages.popleft()
        if self._messages:
            self._post(delivery, self._deliver)
        answer, fd = self._server.answer(self.program, message)
        self._answer(answer, fd)
        if fd >= 0:
            os.close(fd)

    def _answer(self, answer: bytes, fd: int = -1) -> None:
        try:
            if fd >= 0:
                socket.send_fds(self._socket, [answer], [fd])
            else:
                self._socket.send(answer)
        except OSError:  # it has ended, or does not read its answers
            self.close()


class ExecServer:
    """Serves the device files of ``devices`` (None: those of Xen) to programs in domains of
    ``machine``, whose memory has to be shared; ``pump`` tells when descriptors are ready. ``store``
    is the machine's (None: it has none).

    ``calls`` counts the programs' calls by device and name ("other": what no device of this server
    and no ioctl of them is called), ``refused`` those that got an errno.
    """

    def __init__(
        self,
        machine: Machine,
        pump: Pump,
        store: StoreServer | None,
        devices: AnyMapping[str, MakeDevice] | None = None,
    ) -> None:
        self.machine, self.pump = machine, pump
        self.domains: dict[int, ServedDomain] = {}
        self.programs: dict[tuple[int, int], Program] = {}
        self.files: dict[int, OpenFile] = {}
        self.connections: set[_Connection] = set()
        self.calls: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[tuple[str, str, int]] = Counter()
        #: What devices keep for the whole machine.
        self.common: dict[str, Any] = {}
        self.wakers = Wakers(pump)
        # Until a device shows one of the pages that the hypervisor shares with a kernel.
        machine.memory.quiet = True
        self.follow_ups = FollowUps()
        self._store = store
        self._devices = DEVICES if devices is None else devices
        self._numbers = 0
        self._listening: dict[int, tuple[socket.socket, str]] = {}
        self._interest = machine.observers.interest(ProgramCall)
        self._unsubscribe = machine.observers.subscribe(
            self._stopped, DomainShutdown, DomainDestroyed
        )
        self._operations: dict[int, Callable[[Program, _Request], tuple[bytes, int]]] = {
            messages.OP_OPEN: self._open,
            messages.OP_ACCESS: self._access,
            messages.OP_IOCTL: self._ioctl,
            messages.OP_MMAP: self._mmap,
            messages.OP_MUNMAP: self._munmap,
            messages.OP_EMPTY_READ: self._empty_read,
            messages.OP_POLL: self._poll,
            messages.OP_WAKER: self._waker,
            messages.OP_CRASH: self._crash,
        }

    # -- domains -----------------------------------------------------------------------------------

    def serve(
        self, domain: Domain, grants: GuestGrants, path: str, store_path: str | None = None
    ) -> ServedDomain:
        """Let programs run in ``domain``: they connect to the socket ``path``, and its connections
        to the store to ``store_path`` (None: by /dev/xen/xenbus only). Both have mode 0600.

        Raises SocketError if it cannot listen there, OSError if the system has no descriptor left;
        nothing is there then.
        """
        domid = domain.domid
        daemon = None
        with ExitStack() as undo:
            if self._store is not None:
                daemon = Daemon(self._store, store_path or "", self.pump, domid=domid)
                if store_path is not None:
                    undo.callback(daemon.stop)
                    daemon.start()
            served = ServedDomain(self.machine, domain, grants, daemon)
            undo.callback(served.close)
            listening = listen(path, socket.SOCK_SEQPACKET)
            undo.pop_all()
        listening.setblocking(False)
        self.domains[domid] = served
        self._listening[domid] = listening, path
        self._accept_next(served, listening)
        return served

    def end(self, domid: int) -> None:
        """Serve no more programs in a domain; those that run there are killed."""
        served = self.domains.pop(domid, None)
        if served is None:
            return
        listening, path = self._listening.pop(domid)
        self.pump.unwatch(listening.fileno())
        listening.close()
        with suppress(OSError):
            os.unlink(path)
        for program in list(self.programs.values()):
            if program.domain is served:
                program.kill()
                self._ended(program)
        for file in list(self.files.values()):
            if file.domain is served:
                self._closed(file)
        if served.store is not None:
            served.store.stop()
        served.close()

    def close(self) -> None:
        """Serve nobody any more. Programs that still run are killed."""
        for domid in list(self.domains):
            self.end(domid)
        for connection in list(self.connections):
            connection.close()
        for kept in self.common.values():
            kept.close()
        self.common.clear()
        self.wakers.close()
        self.follow_ups.close()
        self._unsubscribe()

    def crashes_with(self, domid: int, pid: int) -> None:
        """Make the end of process ``pid`` the crash of domain ``domid``: everything stays in place
        until the toolstack destroys it. Raises OSError if there is no such process, or for
        domain 0, whose crash is the machine's."""
        _require_guest(domid)
        self._program(self.domains[domid], pid, os.pidfd_open(pid)).crashes = True

    def _stopped(self, event: DomainShutdown | DomainDestroyed) -> None:
        """A domain does not run any more, so its programs do not either."""
        served = self.domains.get(event.domid)
        for program in list(self.programs.values()):
            if program.domain is served:
                program.kill()

    # -- processes ---------------------------------------------------------------------------------

    def _accept_next(self, served: ServedDomain, listening: socket.socket) -> None:
        """Accept who connects, unless the domain is not served any more."""
        if listening.fileno() >= 0:
            self.pump.watch(listening.fileno(), partial(self._accept, served, listening))

    def _accept(self, served: ServedDomain, listening: socket.socket) -> None:
        try:
            connected = listening.accept()[0]
        except OSError as error:
            if error.errno in TOO_MANY:  # it waits, and nothing tells when there is a descriptor
                self.pump.unwatch(listening.fileno())
                again = partial(self._accept_next, served, listening)
                self.machine.run_loop.call_after(ACCEPT_AGAIN, 0, again, background=True)
            return
        connected.setblocking(False)
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = int(struct.unpack("3i", credentials)[0])
        try:
            program = self._program(served, pid, _pidfd(connected, pid))
        except OSError:  # it has ended already
            connected.close()
            return
        if sum(one.program is program for one in self.connections) >= MOST_CONNECTIONS:
            connected.close()
            return
        self._numbers += 1
        self.connections.add(_Connection(self, program, connected, self._numbers))

    def _program(self, served: ServedDomain, pid: int, pidfd: int) -> Program:
        old = self.programs.get((served.domid, pid))
        if old is not None and (old.gone() or old.domain is not served):
            self._ended(old)
            old = None
        if old is not None:
            os.close(pidfd)
            old.compare()
            return old
        program = Program(served, pid, pidfd, self._release)
        self.programs[served.domid, pid] = program
        self.pump.watch(pidfd, partial(self._ended, program))
        return program

    def _ended(self, program: Program) -> None:
        """A process has ended: nothing of it stays."""
        key = program.domain.domid, program.pid
        if self.programs.get(key) is not program:
            return
        self._crash_of(program)
        del self.programs[key]
        self.pump.unwatch(program.pidfd)
        program.end()
        program.unmap_all()
        for connection in list(self.connections):
            if connection.program is program:
                connection.close()

    def _crash_of(self, program: Program) -> None:
        """Crash the domain if the end of ``program`` is its crash."""
        domid = program.domain.domid
        if program.crashes and program.domain.running:
            self.machine.shutdown_domain(domid, SHUTDOWN_crash)

    # -- calls -------------------------------------------------------------------------------------

    def answer(self, program: Program, message: bytes) -> tuple[bytes, int]:
        """Do what a message asks for. Returns the answer and the descriptor that goes along, -1 if
        none does. Whatever a program can send, nothing is raised."""
        request = _Request(message)
        operation = self._operations.get(request.op)
        try:
            if operation is None:
                raise OSError(errno.EINVAL, f"operation {request.op}")
            answer, fd = operation(program, request)
            error = 0
        except HypercallError as refusal:
            error = -refusal.status if refusal.op.startswith("EVTCHNOP") else errno.EINVAL
        except OutOfFramesError:
            error = errno.ENOMEM
        except OSError as refusal:
            error = refusal.errno or errno.EIO
        counted = self._counted(request)
        if error:
            answer, fd = messages.ANSWER.pack(error, 0, -1, 0, 0, 0), -1
            self.refused[*counted, error] += 1
        self.calls[counted] += 1
        if self._interest.any:
            result = -error if error else messages.ANSWER.unpack_from(answer)[2]
            self.machine.observers.emit(
                ProgramCall(program.domain.domid, program.pid, request.device, request.name, result)
            )
        return answer, fd

    def at_once(self, program: Program, message: bytes) -> bytes | None:
        """The answer of a call that needs no delivery: it concerns nothing of the Xen machine, is
        frequent, and nobody observes it. None for any other."""
        op, arg, cookie, first, *_ = messages.REQUEST.unpack_from(message)
        file = self.files.get(cookie)
        if file is None or not file.device.polled or self._interest.any:
            return None
        wake = self.wakers.by(first) if op == messages.OP_POLL else None
        try:
            result = file.device.at_once(program, op, arg, wake)
        except OSError:  # its delivery tells
            return None
        if result is None:
            return None
        self.calls[file.path, "poll" if op == messages.OP_POLL else _NAMES.get(arg, "other")] += 1
        return messages.ANSWER.pack(0, 0, result, 0, 0, 0)

    def _counted(self, request: _Request) -> tuple[str, str]:
        """Device and name under which a call is counted: "other" for those that programs make
        up."""
        device, name = request.device, request.name
        if device and device not in self._devices:
            device = "other"
        return device, "other" if name.startswith("0x") else name

    def _file(self, request: _Request) -> OpenFile:
        file = self.files.get(request.cookie)
        if file is None:
            raise OSError(errno.ENOTTY, "no device file of this machine")
        request.device = file.path
        return file

    def _open(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name, request.device = "open", request.path
        make = self._devices.get(request.path)
        if make is None:
            raise OSError(errno.ENOENT, "no such device")
        program.opened = [file for file in program.opened if file.open]
        if len(program.opened) >= MOST_FILES:
            raise OSError(errno.EMFILE, f"{MOST_FILES} files of one program")
        kind = getattr(make, "kind", socket.SOCK_STREAM)
        mine, theirs = socket.socketpair(socket.AF_UNIX, kind)
        mine.setblocking(False)
        file = OpenFile(
            program.domain,
            request.path,
            messages.cookie_of(theirs),
            mine,
            self.common,
            self.pump,
        )
        if getattr(make, "polled", False):
            rate = messages.POLLED.to_bytes(8, "little")
            theirs.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate)
            theirs.shutdown(socket.SHUT_RD)
        try:
            file.device = make(file)
            file.device.closed = partial(self._closed, file)
            file.device.watch_writable = partial(self._watch, file)
            self.files[file.cookie] = file
            self._watch(file, None)
            file.device.opened()
        except BaseException:
            self.files.pop(file.cookie, None)
            self.pump.unwatch(mine.fileno())
            mine.close()
            theirs.close()
            raise
        program.opened.append(file)
        return messages.ANSWER.pack(0, 0, 0, 0, 0, 0), theirs.detach()

    def _access(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name, request.device = "access", request.path
        if request.path not in self._devices:
            raise OSError(errno.ENOENT, "no such device")
        return messages.ANSWER.pack(0, 0, 0, 0, 0, 0), -1

    def _ioctl(self, program: Program, request: _Request) -> tuple[bytes, int]:
        number = request.arg
        request.name = _NAMES.get(number) or hex(number)
        file = self._file(request)
        whole = (
            len(request.data) == number >> 16 & 0x3FFF and not request.a[1] & messages.UNREADABLE
        )
        data = request.data if whole else None
        call = Call(program, number, request.a[0], data)
        result = file.device.ioctl(call)
        if call.later is not None:
            return messages.ANSWER.pack(0, messages.LATER, 0, 0, 0, 0), call.later.begin()
        if call.pages is None:
            return messages.ANSWER.pack(0, 0, result, 0, 0, 0) + call.out, -1
        pages = call.pages
        answer = _with_pages(pages, pages.address, result, call.out)
        program.fill(pages.address, list(pages.frames or ()))
        return answer

    def _mmap(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name = "mmap"
        file = self._file(request)
        address, size, offset, flags = request.a
        count = size // _PAGE
        if not count or (address | size | offset) % _PAGE:
            raise OSError(errno.EINVAL, "no whole pages")
        pages = file.device.mmap(MapRequest(program, address, count, offset, request.arg, flags))
        program.add(file, address, count, pages)
        try:
            return _with_pages(pages, address, 0, b"")
        except OSError:  # too many pieces, or no descriptor is left: nothing gets mapped
            program.unmap(address, size)
            raise

    def _munmap(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name = "munmap"
        program.unmap(request.a[0], request.a[1])
        return messages.ANSWER.pack(0, 0, 0, 0, 0, 0), -1

    def _empty_read(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name = "read"
        error = self._file(request).device.overflowed()
        return messages.ANSWER.pack(error, 0, 0, 0, 0, 0), -1

    def _poll(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name = "poll"
        file = self._file(request)
        found = file.device.poll(program, request.arg, self.wakers.by(request.a[0]))
        return messages.ANSWER.pack(0, 0, found, 0, 0, 0), -1

    def _waker(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name = "waker"
        return messages.ANSWER.pack(0, 0, 0, 0, 0, 0), self.wakers.new()

    def _crash(self, program: Program, request: _Request) -> tuple[bytes, int]:
        request.name = "crash"
        _require_guest(program.domain.domid)
        program.crashes = True
        return messages.ANSWER.pack(0, 0, 0, 0, 0, 0), -1

    # -- files -------------------------------------------------------------------------------------

    def _watch(self, file: OpenFile, writable: Callable[[], None] | None) -> None:
        self.pump.watch(file.socket.fileno(), partial(self._readable, file), writable)

    def _readable(self, file: OpenFile) -> None:
        try:
            data = file.socket.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            with suppress(OSError, HypercallError):
                file.device.readable(data)
        elif _at_end(file.socket):
            self._closed(file)

    def _closed(self, file: OpenFile) -> None:
        """The program's last descriptor of ``file`` is closed."""
        if not file.open:
            return
        for program in list(self.programs.values()):
            if program.crashes and program.domain is file.domain and program.exiting():
                self._crash_of(program)
        file.open = False
        if file.socket.fileno() >= 0:
            self.pump.unwatch(file.socket.fileno())
            file.socket.close()
        file.device.last_close()
        self._release(file)

    def _release(self, file: OpenFile) -> None:
        """Release a file that nobody has open or mapped (as in Linux, a mapping holds its file)."""
        if not file.open and not file.mappings and self.files.pop(file.cookie, None) is not None:
            file.device.release()


class _Request:
    """A message, taken apart; ``device`` and ``name`` are for those who count."""

    __slots__ = ("a", "arg", "cookie", "data", "device", "name", "op")

    def __init__(self, message: bytes) -> None:
        self.op, self.arg, self.cookie, *self.a = messages.REQUEST.unpack_from(message)
        self.data = message[messages.REQUEST.size :]
        self.device, self.name = "", hex(self.op)

    @property
    def path(self) -> str:
        """The path that is the message's data."""
        return self.data.decode(errors="replace")


def _with_pages(pages: Pages, address: int, result: int, out: bytes) -> tuple[bytes, int]:
    extents = pages.extents
    if len(extents) > messages.MAX_EXTENTS:
        raise OSError(errno.ENOMEM, f"{len(extents)} pieces")
    flags = messages.MAPS | (messages.DONT_FORK if pages.dont_fork else 0)
    head = messages.ANSWER.pack(0, flags, result, address, pages.prot, len(extents))
    packed = (messages.EXTENT.pack(messages.HOLE if at is None else at, n) for at, n in extents)
    return b"".join([head, out, *packed]), os.dup(pages.fd)


def _pidfd(connected: socket.socket, pid: int) -> int:
    """A descriptor of the process that connected."""
    try:
        return connected.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:  # before Linux 6.5
        return os.pidfd_open(pid)


def _require_guest(domid: int) -> None:
    """Raises OSError for domain 0: no program's end is its crash, which is the machine's."""
    if domid == 0:
        raise OSError(errno.EPERM, "a crash of domain 0 is the machine's")


def _at_end(mine: socket.socket) -> bool:
    """Whether the other end is closed, after it gave nothing: a message without a byte looks like
    that, but the end is found again and again."""
    try:
        for _ in range(_MOST_MESSAGES):
            if mine.recv(1, socket.MSG_PEEK):
                return False
            mine.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
