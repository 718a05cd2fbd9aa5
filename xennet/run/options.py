"""The options of a run, and the interface of its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from xennet.link.report import QueueStatus
    from xennet.port import Port
    from xennet.pump import Clock


@frozen
class RunOptions:
    """The options of a run.

    ``link``: what joins the ports, by its specification ("vif", "epair", "epair:taskqueue"); the
    rest but ``mtu``, ``guests`` and ``switch`` is for vifs. ``grant_version``: of the guests' grant
    tables, 1 or 2. ``evtchn``: the ABI by which guests receive events, "2l" or "fifo", None for the
    usual one of ``frontend`` (a report's options name it). ``frontend``, ``backend``: which
    drivers, xennet's by name or your own as "module:factory" (xennet.host.own_driver). ``queues``:
    most queues of each vif. ``split_channels``: an event channel for each ring instead of one for
    both. ``mtu``: of each vif in bytes, None for no limit. ``sg``, ``gso``, ``csum``: whether the
    features are used. ``guests``, with ``vifs`` each; ``switch``: the guests send to each other.
    ``allow_empty``: a run in which no port gives a frame is good too. ``quota_nodes``: nodes of the
    store that a guest may own, 0 for any number, None for xenstored's default. ``arena``: MiB of
    the machine's memory, None for 512, or more if that many vifs can need more. ``seconds``: the
    run ends when it has carried frames for so long; None: when its ports have no more. ``live``:
    some port is live (xennet.port.base.is_live), so the run goes by real time and has no end of its
    own. ``choices``: which ready delivery is next, from the first of the machine on, as text
    (xennet.choices); None: the oldest, with several guests in turns.
    """

    grant_version: int = 1
    evtchn: str | None = None
    frontend: str = "linux"
    backend: str = "linux"
    queues: int = 1
    split_channels: bool = True
    mtu: int | None = None
    sg: bool = True
    gso: bool = True
    csum: bool = True
    guests: int = 1
    vifs: int = 1
    switch: bool = False
    allow_empty: bool = False
    quota_nodes: int | None = None
    arena: int | None = None
    link: str = "vif"
    seconds: float | None = None
    live: bool = False
    choices: str | None = None

    def clock(self) -> Clock | None:
        """The clock of the link's pump: None, virtual time, unless the run is live."""
        from xennet.pump import RealClock

        return RealClock() if self.live else None


@frozen
class TapFile:
    """A recording of what an end of the link sees: ``port`` is pushed all frames that are sent and
    received there. ``side`` is "guest" or "host", ``number`` that of the pair, from 0; None: of all
    pairs."""

    side: str
    number: int | None
    port: Port


class Progress(Protocol):
    """Called from time to time: ``frames`` in all have arrived in ``direction``.

    ``direction`` is the name of a :class:`DirectionReport`. If it has an attribute ``status`` that
    is not None, that is called with a :class:`Status` of a live run twice a second.
    """

    def __call__(self, direction: str, frames: int) -> None: ...


@frozen
class Status:
    """What a live run is doing just now.

    ``seconds`` since it began to carry; frames a second ``to_host`` and ``to_guest`` since the last
    status; ``queues`` of the link; frames ``dropped`` so far, by link, switch, edges and ports.
    """

    seconds: float
    to_host: float
    to_guest: float
    queues: tuple[QueueStatus, ...]
    dropped: int
