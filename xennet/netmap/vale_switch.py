"""VALE switches: which ports are on which, under what number.

A switch is there while it has a port; there are NM_BRIDGES of them, or more if asked for. Rules:
netmap_bdg.c.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from errno import ENOMEM, ENXIO

from attrs import define, field

from xennet.netmap.adapter import Adapter
from xennet.netmap.errors import NetmapError
from xennet.netmap.vale_batch import Forwarder
from xennet.netmap.vale_forward import NM_BDG_MAXPORTS

NM_BRIDGES = 8
#: How often a frame may come back to a switch that is forwarding it, and how many frames may wait
#: for that: Linux's XMIT_RECURSION_LIMIT and net.core.netdev_max_backlog.
MOST_ROUNDS = 8
BACKLOG = 1000
#: A name that begins so is that of a port on a switch: netmap compares one letter less than "vale".
PREFIX = "val"
#: Letters of a switch's name, and of a port's behind the colon.
_NAME = re.compile(r"(vale[A-Za-z0-9_]*):(.*)", re.DOTALL)
_LONGEST = 15


def is_switch_port(name: str) -> bool:
    """Whether a name is that of a port on a switch, well-formed or not."""
    return name.startswith(PREFIX)


def split_name(name: str) -> tuple[str, str] | None:
    """The names of switch and port, None if they are not well-formed."""
    match = _NAME.fullmatch(name)
    if match is None or any(len(part) > _LONGEST for part in match.groups()):
        return None
    return match[1], match[2]


@define(eq=False)
class Switch:
    """Switch ``index``, called ``name`` while it has ports.

    ``ports`` by number; ``order`` has the numbers in use first, ``active`` of them. ``forwarding``:
    a batch is under way, which has come of round ``round``; ``waiting`` are what its ports' drivers
    and stacks have brought at once, each with its round, as functions that forward it.
    """

    index: int
    name: str = ""
    active: int = 0
    ports: list[Adapter | None] = field(factory=lambda: [None] * NM_BDG_MAXPORTS)
    order: list[int] = field(factory=lambda: list(range(NM_BDG_MAXPORTS)))
    forwarder: Forwarder = field(factory=Forwarder)
    forwarding: bool = False
    round: int = 0
    waiting: deque[tuple[int, Callable[[], None]]] = field(factory=deque)

    def when_forwarded(self, forward: Callable[[], None]) -> None:
        """Have something forwarded as soon as the batch that it has come of is. It is dropped in
        round MOST_ROUNDS + 1: ports are joined outside the switch."""
        if self.round < MOST_ROUNDS and len(self.waiting) < BACKLOG:
            self.waiting.append((self.round + 1, forward))

    def find(self, name: str) -> int | None:
        """The number of the port called ``name``, switch included."""
        for number in self.order[: self.active]:
            port = self.ports[number]
            if port is not None and port.name == name:
                return number
        return None

    def require_room(self) -> None:
        """Raises NetmapError(ENOMEM) unless more than two numbers are free: a NIC may bring its
        host rings (netmap_bdg.c, netmap_get_bdg_na)."""
        if self.active + 2 >= NM_BDG_MAXPORTS:
            raise NetmapError(ENOMEM, f"{self.name} has no room for another port")

    def attach(self, port: Adapter) -> int:
        """Put a port on the switch, which has room for it. Returns its number."""
        number = self.order[self.active]
        self.active += 1
        self.ports[number] = port
        self.forwarder.forget_last(number)
        return number

    def detach(self, number: int) -> None:
        """Take a port off the switch; with the last one the switch is gone.

        Addresses that were learned from it stay, so that they are those of the next port with its
        number.
        """
        at = self.order.index(number)
        self.active -= 1
        self.order[at] = self.order[self.active]
        self.order[self.active] = number
        self.ports[number] = None
        self.drop_if_unused()

    def drop_if_unused(self) -> None:
        """Without a port the switch is gone: its name is free, its table empty, numbers begin
        anew."""
        if not self.active and self.name:
            self.name = ""
            self.order = list(range(NM_BDG_MAXPORTS))
            self.forwarder.forget_all()


@define(eq=False)
class Switches:
    """All switches of a device."""

    all: list[Switch] = field(factory=lambda: [Switch(i) for i in range(NM_BRIDGES)])

    def require_unused(self, number: int) -> None:
        """Have so many switches that are not in use, as the module's parameter max_bridges can."""
        unused = sum(not switch.active for switch in self.all)
        for _ in range(number - unused):
            self.all.append(Switch(len(self.all)))

    def find(self, name: str) -> Switch | None:
        """The switch of the port called ``name``, None if there is none or the name is no name."""
        parts = split_name(name)
        if parts is None:
            return None
        return next((s for s in self.all if s.active and s.name == parts[0]), None)

    def find_or_create(self, name: str) -> Switch:
        """The same; an unused switch gets the name if there is none. Raises NetmapError(ENOMEM) for
        a name that is not well-formed, and if all switches are in use."""
        if (found := self.find(name)) is not None:
            return found
        parts = split_name(name)
        free = next((s for s in self.all if not s.active), None)
        if parts is None or free is None:
            raise NetmapError(ENOMEM, f"no switch for {name!r}")
        free.name = parts[0]
        return free

    def existing(self, name: str) -> Switch:
        """The switch of ``name``. Raises NetmapError(ENXIO) if there is none."""
        if (found := self.find(name)) is None:
            raise NetmapError(ENXIO, f"no switch of {name!r}")
        return found
