"""What the suite sees of a driver under test, wherever it runs.

CONVENTION. Behind the driver is an echo: a netback gives every frame that it takes from the guest
back to the guest, a netfront sends back every frame that it receives. So one black-box way judges
content on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from xennet.check.check import Side
from xennet.check.node_log import NodeLog
from xennet.check.profile import Profile
from xennet.host import Host
from xennet.host.domains import PluggedVif
from xennet.interface import Hypervisor


class Liveness(StrEnum):
    """What becomes of a driver that is left alone: it comes to rest; it works on without end; it
    has ended with an error."""

    RESTS = "rests"
    BUSY = "busy"
    DEAD = "dead"


class Session(Protocol):
    """One life of a driver under test, on a host of its own, at one end of one vif.

    ``kernel`` is the domain of the peer at the other end, ``node`` the peer's directory in the
    store, relative to that domain ("device/vif/0", "backend/vif/1/0"). ``host`` and ``vif`` are for
    what the toolstack does, and for evidence. ``liveness`` is what the last :meth:`settle` has
    found, ``reason`` says it in one line ("" while the driver rests). ``output``: what a driver
    that is a program has written, which says nothing about the verdict. ``log``: what was written
    into the directory of the driver since it was loaded. ``choices``: which deliveries were next so
    far, as text (xennet.choices); None if nobody chooses, as with a program, which has an order of
    its own.
    """

    @property
    def kernel(self) -> Hypervisor: ...
    @property
    def node(self) -> str: ...
    @property
    def host(self) -> Host: ...
    @property
    def vif(self) -> PluggedVif: ...
    @property
    def liveness(self) -> Liveness: ...
    @property
    def reason(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def log(self) -> NodeLog: ...
    @property
    def choices(self) -> str | None: ...

    def settle(self, until: Callable[[], bool] | None = None) -> Liveness:
        """Let everything happen that is due, within a bound.

        With ``until`` time goes on as well, for a few seconds (virtual ones, where there is virtual
        time) or until ``until()`` is true.
        """
        ...

    def pass_time(self, ns: int) -> Liveness:
        """Let ``ns`` of virtual time pass, with everything that is due in it. Only for checks that
        need "virtual-time"."""
        ...

    def close(self) -> tuple[str, ...]:
        """End the life: the vif is unplugged, the host is switched off. Returns what the domain of
        the driver still holds then, one line for each thing; nothing of a driver that has ended
        with an error or that works on. It may be repeated."""
        ...


class Target(Protocol):
    """A driver to be tested: ``name`` for reports, the ``side`` that it is on, and the ``profile``
    that is declared of it. ``words`` of ``xennet check`` name it; none of a driver that need not do
    the same again."""

    @property
    def name(self) -> str: ...
    @property
    def side(self) -> Side: ...
    @property
    def profile(self) -> Profile: ...
    @property
    def words(self) -> tuple[str, ...]: ...

    def open(self, nodes: dict[str, str], queues: int) -> Session:
        """A fresh host with the driver loaded; it has seen its device directory and rests.

        ``nodes`` are written into the directory of the driver before it starts. The peer's end of
        the vif is not served by anybody. The machine has room for ``queues`` queues.
        """
        ...

    def close(self) -> None:
        """Let go of what all sessions share. It may be repeated."""
        ...


class DriverEndedError(Exception):
    """The driver under test is dead or busy; the play cannot go on."""
