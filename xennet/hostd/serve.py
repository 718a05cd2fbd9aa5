"""Keeps a host going: its sockets, its time, and its end in order."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from xennet.host.capacity import Capacity
from xennet.hostd.commands import Commands
from xennet.hostd.control_socket import ControlSocket
from xennet.hostd.host_directory import HostDirectory, control_socket, store_socket
from xennet.hostd.json_lines import Json
from xennet.hostd.live_host import AnyDomain, LiveHost
from xennet.pump import RealClock
from xennet.xenstore.daemon import Daemon

#: Seconds in which vifs, and then domains, may go in order when the host ends.
_PATIENCE = 5.0


@define(eq=False)
class ServedHost:
    """A host of a ``capacity`` in ``directory``, which is taken already. :meth:`start` raises
    xennet.xenstore.daemon.SocketError if a socket cannot be made."""

    directory: HostDirectory
    capacity: Capacity
    live: LiveHost = field(init=False)
    commands: Commands = field(init=False)
    _control: ControlSocket = field(init=False)
    _stores: dict[int, Daemon] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.live = LiveHost(self.capacity, RealClock())
        self.commands = Commands(
            self.live, self._sockets_of, self._look_at_domains, self.directory.path
        )
        path = control_socket(self.directory.path)
        self._control = ControlSocket(path, self.live.host.pump, self.commands.perform)

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
        ``hurry()``, and switch the machine off. Returns what is left, a line for each; nothing if
        not all of it went."""
        self.commands.give_up()
        self._control.stop()
        live, pump = self.live, self.live.host.pump
        left: list[str] = []
        try:
            if self._stores:
                live.end_vifs()
                pump.hold(_PATIENCE, lambda: self._look() or not live.vifs or hurry())
                live.end_domains()
                pump.hold(_PATIENCE, lambda: self._look() or live.ended or hurry())
                if live.ended:
                    live.host.settle()
                    left = str(live.host.leaks()).splitlines() if live.host.leaks() else []
        finally:
            for store in self._stores.values():
                store.stop()
            live.close()
        return left

    def _look(self) -> bool:
        self.commands.look()
        return False

    def _look_at_domains(self) -> None:
        """Have a socket to the store for each domain that there is."""
        there = {domain.domid for domain in self.live.domains}
        for domid in there - self._stores.keys():
            host = self.live.host
            path = store_socket(self.directory.path, domid)
            store = Daemon(host.service.server, path, host.pump, domid=domid)
            store.start()
            self._stores[domid] = store
        for domid in self._stores.keys() - there:
            self._stores.pop(domid).stop()

    def _sockets_of(self, domain: AnyDomain) -> Json:
        return {"store": store_socket(self.directory.path, domain.domid)}
