"""The ports of the vifs that a command serves: one for the vif that has it, or one for each."""

from __future__ import annotations

from collections.abc import Iterator

from xennet.frames import Watch
from xennet.plugins import load
from xennet.port import open_port
from xennet.port.base import configure
from xennet.port.spec import parse
from xennet.xen.live_port import LivePort

#: What stands for numbers of a vif in a port's specification.
DOMID, HANDLE = "{domid}", "{handle}"


class VifPorts:
    """Ports by specification ``spec``.

    With ``{domid}`` or ``{handle}`` in it each vif has a port of its own, open as long as the vif
    is there. Otherwise there is one, open all the time (:meth:`open_now`), for one vif at a time.
    ``mtu`` and ``queues`` are for ports that are interfaces. Raises PortError as they are opened.
    """

    def __init__(self, spec: str, watch: Watch, mtu: int | None, queues: int) -> None:
        self._spec, self._watch, self._mtu, self._queues = spec, watch, mtu, queues
        self._open: dict[str, LivePort] = {}
        self._users: dict[str, str] = {}
        self._each = DOMID in spec or HANDLE in spec

    def __iter__(self) -> Iterator[LivePort]:
        return iter(self._open.values())

    def open_now(self) -> None:
        """Open the port that is not any one vif's. Else import what ports are made of: a toolstack
        waits ten seconds for a backend."""
        if not self._each:
            self._opened(self._spec)
            return
        for part in parse(self._spec):
            load(part.scheme.target)

    def take(self, user: str, domid: int, handle: int) -> LivePort | None:
        """The port for the vif called ``user``; None if another vif has it."""
        spec = self._spec.replace(DOMID, str(domid)).replace(HANDLE, str(handle))
        if self._users.get(spec, user) != user:
            return None
        port = self._opened(spec)
        self._users[spec] = user
        return port

    def give_back(self, user: str) -> None:
        """Note that the vif ``user`` has gone."""
        for spec in [spec for spec, name in self._users.items() if name == user]:
            del self._users[spec]
            self._open[spec].driver = None
            if self._each:
                self._open.pop(spec).close()

    def close(self) -> None:
        """Close all ports."""
        while self._open:
            self._open.popitem()[1].close()

    def _opened(self, spec: str) -> LivePort:
        if spec not in self._open:
            port = open_port(spec)
            try:
                configure(port, self._mtu, self._queues)
            except Exception:
                port.close()
                raise
            self._open[spec] = LivePort(port, self._watch)
        return self._open[spec]
