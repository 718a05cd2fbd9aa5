"""Keeps a host going: its sockets, its time, and its end in order."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from xennet.engine.atomics import AtomicsError, of_processes
from xennet.exec.server import ExecServer
from xennet.host.capacity import Capacity
from xennet.hostd.commands import Commands
from xennet.hostd.control_socket import ControlSocket
from xennet.hostd.host_directory import HostDirectory, control_socket, exec_socket, store_socket
from xennet.hostd.json_lines import Json
from xennet.hostd.live_host import AnyDomain, LiveHost
from xennet.pump import RealClock
from xennet.xenstore.daemon import Daemon
from xennet.xenstore.errors import SocketError

#: Seconds in which vifs, and then domains, may go in order when the host ends.
_PATIENCE = 5.0


@define(eq=False)
class ServedHost:
    """A host of a ``capacity`` in ``directory``, which is taken already. :meth:`start` raises
    xennet.xenstore.errors.SocketError if a socket cannot be made."""

    directory: HostDirectory
    capacity: Capacity
    live: LiveHost = field(init=False)
    commands: Commands = field(init=False)
    _control: ControlSocket = field(init=False)
    _programs: ExecServer | None = field(init=False, default=None)
    _stores: dict[int, Daemon | None] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        try:
            of_processes()
            shared = True
        except AtomicsError:
            shared = False
        self.live = live = LiveHost(self.capacity, RealClock(), shared)
        host = live.host
        if shared:
            self._programs = ExecServer(host.machine, host.pump, host.service.server)
        path = self.directory.path
        self.commands = Commands(live, self._sockets_of, self._look_at_domains, path)
        self._control = ControlSocket(control_socket(path), host.pump, self.commands.perform)

    def start(self) -> None:
        """Listen."""
        self._look_at_domains()
        # The last one: who can connect to it finds everything else there.
        self._control.start()

    def run(self, over: Callable[[], bool]) -> None:
        """Go on until ``over()`` returns True."""
        self.live.host.pump.hold(None, lambda: self._look() or over())

    def end(self, hurry: Callable[[], bool]) -> list[str]:
        """Take vifs and domains away, as far as they go in order within some seconds and until
        ``hurry()``; programs in domains are killed in between. Then switch the machine off. Returns
        what is left, a line for each; nothing if not all of it went."""
        self.commands.give_up()
        self._control.stop()
        live, pump = self.live, self.live.host.pump
        left: list[str] = []
        try:
            if self._stores:
                live.end_vifs()
                pump.hold(_PATIENCE, lambda: self._look() or not live.vifs or hurry())
                self._close_sockets()
                live.end_domains()
                pump.hold(_PATIENCE, lambda: self._look() or live.ended or hurry())
                if live.ended:
                    live.host.settle()
                    left = str(live.host.leaks()).splitlines() if live.host.leaks() else []
        finally:
            self._close_sockets()
            live.close()
        return left

    def _look(self) -> bool:
        self.commands.look()
        return False

    def _look_at_domains(self) -> None:
        """Have sockets for each domain that runs, and for none that has gone. Raises SocketError or
        OSError, after all others have theirs, if a domain cannot have them."""
        there = {domain.domid: domain for domain in self.live.domains}
        for domid in self._stores.keys() - there.keys():
            self._close_sockets_of(domid)
        refused: SocketError | OSError | None = None
        for domid in there.keys() - self._stores.keys():
            if not there[domid].domain.running:
                continue
            try:
                self._stores[domid] = self._open_sockets(there[domid])
            except (SocketError, OSError) as error:
                refused = error
        if refused is not None:
            raise refused

    def _open_sockets(self, domain: AnyDomain) -> Daemon | None:
        """Open the sockets of a domain. Returns the server of the one to the store, unless the
        server of programs has it."""
        path, domid = self.directory.path, domain.domid
        at_store = store_socket(path, domid)
        if self._programs is not None:
            grants = domain.kernel.grants
            self._programs.serve(domain.domain, grants, exec_socket(path, domid), at_store)
            return None
        host = self.live.host
        store = Daemon(host.service.server, at_store, host.pump, domid=domid)
        store.start()
        return store

    def _close_sockets_of(self, domid: int) -> None:
        store = self._stores.pop(domid)
        if store is not None:
            store.stop()
        elif self._programs is not None:
            self._programs.end(domid)

    def _close_sockets(self) -> None:
        """Close the sockets of all domains, and kill the programs in them."""
        for domid in list(self._stores):
            self._close_sockets_of(domid)
        if self._programs is not None:
            self._programs.close()
            self._programs = None

    def _sockets_of(self, domain: AnyDomain) -> Json:
        path, domid = self.directory.path, domain.domid
        programs = None if self._programs is None else exec_socket(path, domid)
        return {"store": store_socket(path, domid), "exec": programs}
