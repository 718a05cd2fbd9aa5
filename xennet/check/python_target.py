"""A driver in Python, on xennet.interface alone, as a target: ``module:factory``.

``factory(hv, node)`` makes the driver of a device: ``hv`` is its domain (xennet.Hypervisor),
``node`` its directory there ("device/vif/0" of a netfront, "backend/vif/1/0" of a netback), which
exists. What it returns is kept until the end. All else it does when it is called back: by watches,
events and timers. A driver that raises has crashed, one that loops or blocks hangs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from attrs import field, frozen

from xennet.check.builtin_target import write_nodes
from xennet.check.check import Side
from xennet.check.host_session import CPU_SECONDS, DELIVERIES, HostSession
from xennet.check.profile import Profile
from xennet.choices import OLDEST, Choices
from xennet.engine.choice import current, is_compiled, using
from xennet.host import Host
from xennet.host.capacity import Capacity
from xennet.host.own_driver import Factory
from xennet.interface import Hypervisor
from xennet.port.null import NullPort


@frozen
class PythonTarget:
    """The drivers that ``factory`` makes. ``deliveries``, and ``cpu`` seconds of CPU time: in these
    a driver has to come to rest, and in ``real`` seconds (None: as HostSession has it).
    ``choices`` as HostSession has them."""

    name: str
    side: Side
    factory: Factory
    profile: Profile = field(factory=Profile)
    deliveries: int = DELIVERIES
    cpu: float = CPU_SECONDS
    real: float | None = None
    choices: Choices = OLDEST

    @property
    def words(self) -> tuple[str, ...]:
        """The words that name it."""
        return "--python", self.name

    def open(self, nodes: Mapping[str, str], queues: int = 1) -> HostSession:
        """As Target.open says."""
        # An engine that compiles would spend the driver's CPU time.
        with using("plain") if is_compiled(current()) else nullcontext():
            host = Host(Capacity(queues=queues), drivers=None)
        guest = host.add_guest(drivers=None)
        back = self.side is Side.NETBACK
        vif = host.plug(guest, 0, NullPort(), NullPort(), guest_served=back, host_served=not back)
        paths = vif.paths
        directory = paths.backend if back else paths.frontend
        write_nodes(host, directory, nodes)
        session = HostSession(
            self.side,
            host,
            vif,
            deliveries=self.deliveries,
            cpu=self.cpu,
            real=self.real,
            choices=self.choices,
        )
        kernel = vif.owner.kernel if back else guest.kernel
        made: list[object] = []
        node = paths.backend_node if back else paths.frontend_node
        kernel.defer(lambda: made.append(self._make(kernel, node)))
        session.settle()
        return session

    def _make(self, kernel: Hypervisor, node: str) -> object:
        """The driver. Raises what the factory raises, or TypeError if it cannot be called so."""
        try:
            return self.factory(kernel, node)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                text = f"{error}; the factory {self.name} is called as factory(hv, node)"
                raise TypeError(text) from error
            raise

    def close(self) -> None:
        """Do nothing: sessions share nothing."""
