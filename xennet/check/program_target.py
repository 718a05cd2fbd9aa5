"""A program in any language as a target: an ordinary process, in a domain of an emulated machine.

A netback is a program of domain 0, on /dev/xen/gntdev, evtchn and xenbus (docs/exec.md), whose
frontend is vif 0 of domain 1. A netfront is a program in domain 1, or its kernel (docs/foreign.md),
whose backend is in domain 0. Behind it is an echo, as the suite's convention is.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from xennet.check.builtin_target import write_nodes
from xennet.check.check import Side
from xennet.check.profile import Profile
from xennet.check.program_session import CPU_SECONDS, ProgramSession
from xennet.exec.errors import ExecError
from xennet.exec.shim import shim_path
from xennet.host import Host
from xennet.host.capacity import Capacity
from xennet.port.null import NullPort

#: Frames for what a program allocates, beside what xennet's drivers would.
_FRAMES = 1 << 17
_NO_TIME = "the time of a program is the system's"


@frozen
class ProgramTarget:
    """The program ``argv`` as the driver on ``side``; each session runs it anew. It has to come to
    rest within ``cpu`` seconds of its CPU time. Raises ExecError if there is no such program, or
    nothing to run it with."""

    argv: Sequence[str]
    side: Side
    profile: Profile = field(factory=Profile)
    cpu: float = CPU_SECONDS

    def __attrs_post_init__(self) -> None:
        if shutil.which(self.argv[0]) is None:
            raise ExecError(f"{self.argv[0]}: no such program")
        shim_path()
        unsupported = {"virtual-time": _NO_TIME, **self.profile.unsupported}
        object.__setattr__(self, "profile", evolve(self.profile, unsupported=unsupported))

    @property
    def name(self) -> str:
        """The command, as a shell would take it."""
        return shlex.join(self.argv)

    @property
    def words(self) -> tuple[str, ...]:
        """None: another process has an order and a time of its own."""
        return ()

    def open(self, nodes: Mapping[str, str], queues: int) -> ProgramSession:
        """As Target.open says. Raises ExecError if the program cannot be started."""
        capacity = Capacity(queues=queues, frames=_FRAMES + Capacity(queues=queues).needed)
        host = Host(capacity, drivers=None, shared=True, serve_unknown=False)
        try:
            guest = host.add_guest(drivers=None)
            vif = host.plug(guest, 0, NullPort(), NullPort(), host_served=False)
            netback = self.side is Side.NETBACK
            directory = vif.paths.backend if netback else vif.paths.frontend
            write_nodes(host, directory, nodes)
        except BaseException:
            host.destroy()
            raise
        session = ProgramSession(self.side, host, vif, self.argv, cpu=self.cpu)
        session.settle()
        return session

    def close(self) -> None:
        """Do nothing: sessions share nothing."""
