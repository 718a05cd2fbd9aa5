"""An end of a vif as a host, a link or a report sees it, whichever driver it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from xennet.vif.counters import VifCounters
from xennet.xenbus.paths import VifDirectories

C_co = TypeVar("C_co", bound=VifCounters, covariant=True)


class VifEnd(Protocol[C_co]):
    """The driver of one end of one vif, xennet's or another.

    ``carrier``: whether packets can flow, as far as this end knows. ``error``: how the other end
    broke the protocol, None while it keeps to it. ``counters``: those of its rings over all
    connections (xennet.vif.counters, xennet.netfront.NetfrontCounters), None if it keeps none.
    """

    @property
    def carrier(self) -> bool: ...
    @property
    def error(self) -> Exception | None: ...
    @property
    def counters(self) -> C_co | None: ...

    def kick(self) -> None:
        """Look at the endpoint behind this end: it may have frames, or room for more."""
        ...

    def reasons(self, seen: VifDirectories) -> Iterable[str]:
        """The reasons known to this end why traffic, or some of it, does not pass, one sentence for
        each. The caller adds what states, keys, ``error`` and ring pages show. ``seen`` has the
        vif's directories, for values of nodes: nothing else of the store is asked."""
        ...

    def remarks(self) -> Iterable[str]:
        """Facts that do not stop traffic but cost speed, features or frames, one sentence for
        each."""
        ...


class BaseEnd:
    """An end with no reasons, remarks or counters: a base class for drivers."""

    carrier: bool = True
    error: Exception | None = None
    counters: Any = None

    def kick(self) -> None:
        """Do nothing."""

    def reasons(self, seen: VifDirectories) -> Iterable[str]:
        return ()

    def remarks(self) -> Iterable[str]:
        return ()
