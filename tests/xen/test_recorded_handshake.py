"""What ``xennet back`` did to the store of a real Xen, it does here, against the same netfront."""

from __future__ import annotations

import signal
from collections.abc import Iterable

import pytest
from attrs import evolve
from handshake_log import Change, by, recorded, seen
from xen_world import Frames, World, numbered

from xennet.netfront.options import NetfrontOptions
from xennet.observe import StoreOperation

pytestmark = pytest.mark.usefixtures("libraries")

BACK, GUEST = "xennet-back", "domU1-kernel"


def lines(changes: Iterable[Change], domid: int = 1) -> list[str]:
    """Changes as text; those about another domain as if they were about domain 1.

    Results are left out: a toolstack that is quick has removed a directory before its last node is.
    """
    return [
        f"{change.op} {change.path} {change.detail}".replace(f"/{domid}/", "/1/")
        for change in changes
    ]


class Log:
    """What the process and the guest did since the last look."""

    def __init__(self, world: World) -> None:
        self._operations: list[StoreOperation] = []
        world.host.machine.observers.subscribe(self._operations.append, StoreOperation)

    def take(self) -> list[Change]:
        named = {"domU1": GUEST, "toolstack": "xl", "hotplug": "hotplug-script"}
        taken = [
            evolve(one, who=named.get(one.who, BACK if one.domid == 0 else one.who))
            for one in self._operations
        ]
        self._operations.clear()
        return seen(taken)


def test_a_life_as_on_a_real_xen() -> None:
    with World(0) as world:
        log = Log(world)
        back = world.start(0, "back", "--host", "echo:", "--queues=2")
        world.hold(lambda: "serves backend/vif" in back.told)
        log.take()
        end = Frames(numbered(100), window=20)
        vif = world.plug(guest_end=end, front=NetfrontOptions(queues=2))
        world.connect(vif)
        world.hold(lambda: len(end.got) == 100)
        ours, theirs = log.take(), recorded("xennet-back", "create")
        assert lines(by(ours, BACK)) == lines(by(theirs, BACK))
        assert lines(by(ours, GUEST)) == lines(by(theirs, GUEST))

        world.guest.crash()
        world.guest.destroy()
        world.hold(lambda: "vif1.0: gone" in back.told)
        ours, theirs = log.take(), recorded("xennet-back", "destroy")
        assert lines(by(ours, BACK)) == lines(by(theirs, BACK))


def test_an_end_as_on_a_real_xen() -> None:
    with World(0) as world:
        log = Log(world)
        vif = world.plug(guest_end=Frames())
        back = world.start(0, "back", "--host", "echo:", "--queues=2")
        world.connect(vif)
        log.take()
        back.end(signal.SIGTERM)
        ours, theirs = log.take(), recorded("xennet-back", "end")
        assert lines(by(ours, BACK)) == lines(by(theirs, BACK), 2)
