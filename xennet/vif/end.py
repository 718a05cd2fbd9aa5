"""An end of a vif as those see it who did not write its driver: a host, a link, a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from xennet.vif.counters import VifCounters
from xennet.xenbus.paths import VifDirectories

C_co = TypeVar("C_co", bound=VifCounters, covariant=True)


class VifEnd(Protocol[C_co]):
    """The driver of one end of one vif, whoever wrote it.

    ``carrier``: whether packets can flow, as far as this end knows. ``error``: what the other end
    did to break the protocol, None while it keeps to it. ``counters``: those of its rings over all
    connections (xennet.vif.counters, xennet.netfront.NetfrontCounters), None if it keeps none.
    """

    @property
    def carrier(self) -> bool: ...
    @property
    def error(self) -> Exception | None: ...
    @property
    def counters(self) -> C_co | None: ...

    def kick(self) -> None:
        """The endpoint behind this end may have frames, or room for more."""
        ...

    def reasons(self, seen: VifDirectories) -> Iterable[str]:
        """What this end knows that keeps traffic, or some of it, from passing, one sentence for
        each; what a look at states, keys, ``error`` and ring pages shows is said by whoever asks.
        ``seen``: the vif's directories, for values of nodes: nothing else is asked of the store."""
        ...

    def remarks(self) -> Iterable[str]:
        """What does not stop traffic but costs speed, features or frames, one sentence for each."""
        ...


class BaseEnd:
    """An end that has nothing to say: a base for drivers that authors write."""

    carrier: bool = True
    error: Exception | None = None
    counters: Any = None

    def kick(self) -> None:
        """It has nothing that waits."""

    def reasons(self, seen: VifDirectories) -> Iterable[str]:
        return ()

    def remarks(self) -> Iterable[str]:
        return ()
