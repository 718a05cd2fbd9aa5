"""What a run is asked to do, and who is told how far it is."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen


@frozen
class RunOptions:
    """What a run was asked to do.

    ``link``: what joins the ports, by its specification ("vif", "epair", "epair:taskqueue"); the
    rest but ``mtu``, ``guests`` and ``switch`` is of vifs.
    ``grant_version``: of the guests' grant tables, 1 or 2. ``evtchn``: the ABI by which guests
    receive events, "2l" or "fifo", None for what is usual for ``frontend`` (the options in a report
    name it). ``frontend``, ``backend``: whose drivers. ``queues``: at most so many for each vif.
    ``split_channels``: an event channel for each ring instead of one for both. ``mtu``: of each vif
    in bytes, None for one that does not limit frames. ``sg``, ``gso``, ``csum``: whether the
    features are used. ``guests``, with ``vifs`` each; ``switch``: they talk to each other.
    ``allow_empty``: a run in which no port gives a frame is good too.
    ``quota_nodes``: how many nodes of the store a guest may own, 0 for any number, None for what
    xenstored allows. ``arena``: MiB of the machine's memory, None for 512, or more
    if that many vifs can take more.
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


class Progress(Protocol):
    """Told from time to time that ``frames`` in all have arrived in ``direction``.

    ``direction`` is the name of a :class:`DirectionReport`.
    """

    def __call__(self, direction: str, frames: int) -> None: ...
