"""The real drivers' whole life against recordings of Linux and xl, node by node and watch by watch.

As tests/xenbus/test_handshake.py, but here nothing is played: xennet's own netfront and netback,
with rings, grants and event channels, do what the recordings hold, phase after phase on one host.
Declared as different: grant references, ports, watch tokens and transaction ids, which machines
number as they like; a guest that is unbound keeps its watch until its backend has closed; one that
is destroyed ends it when its directory vanishes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from attrs import evolve

sys.path.insert(0, str(Path(__file__).parents[1] / "xenbus"))
from handshake_log import (
    PARTIES,
    Change,
    assert_as_recorded,
    assert_same_steps,
    by,
    driver_steps,
    phases,
    recorded,
    recorded_steps,
    seen,
)

from xennet.abi.sched import SHUTDOWN_poweroff
from xennet.host.host import Host
from xennet.lifecycle.stack import Stack
from xennet.netback.policy import VifOptions
from xennet.observe import StoreOperation
from xennet.runloop import Delivery
from xennet.toolstack.vif_nodes import VifConfig

MAC = "00:16:3e:00:00:01"
#: The host's names of the parties, as the recordings name them.
NAMES = dict(zip(("toolstack", "dom0", "hotplug", "domU1"), PARTIES, strict=True))
NAMES["domU2"] = "domU2-kernel"
SPLIT = VifOptions(max_queues=2, split_channels=True)
RECORDINGS = {
    "single-channel": VifOptions(max_queues=1, split_channels=False),
    "split-channels": SPLIT,
    "split-channels-4.20": SPLIT,
}


class Recorder:
    """A host with a guest, and what each party did on it since the last look."""

    def __init__(self, back: VifOptions) -> None:
        self.host = Host()
        self.back = back
        self.host.dom0.load()
        self.host.settle()
        self.operations: list[StoreOperation] = []
        self.host.machine.observers.subscribe(self.operations.append, StoreOperation)

    def attach(self) -> None:
        self.in_guest, self.in_host = Stack(), Stack()
        self.vif = self.host.plug(
            self.guest, 0, self.in_guest, self.in_host, VifConfig(MAC), back=self.back
        )

    def take(self) -> list[StoreOperation]:
        self.host.settle()
        taken = [evolve(op, who=NAMES[op.who]) for op in self.operations]
        self.operations.clear()
        return taken

    # -- the phases of the recordings --------------------------------------------------------------

    def create(self, domid: int = 1) -> None:
        self.guest = self.host.add_guest(domid, name=f"domU{domid}")
        self.attach()
        self.host.settle()  # the guest takes its time to boot
        self.guest.boot()

    def detach(self) -> None:
        self.host.unplug(self.vif)

    def detach_under_traffic(self) -> None:
        self.in_guest.to_send = self.in_host.to_send = 1000
        self.vif.kick()
        self.host.unplug(self.vif)

    def reattach(self) -> None:
        self.host.script.held = True  # it was slower than the running guest
        self.attach()
        self.host.settle()
        self.host.script.release()

    def destroy(self) -> None:
        self.guest.destroy()

    def power_off(self) -> None:
        self.guest.unload()
        self.host.settle()
        self.guest.shut_down(SHUTDOWN_poweroff)
        self.guest.destroy()
        # Domain 0's kernel is quicker than xl, as it was when xl waited for nothing.
        self.host.machine.run_loop.run_until_idle(kernel_first)


def kernel_first(ready: Sequence[Delivery]) -> int:
    """The place of what domain 0's kernel is told; its store connection is the third there is."""
    return next((i for i, d in enumerate(ready) if d == Delivery("xenstore", 0, 3)), 0)


ACTIONS: dict[str, Callable[[Recorder], None]] = {
    "create": Recorder.create,
    "detach": Recorder.detach,
    "detach-traffic": Recorder.detach_under_traffic,
    "reattach": Recorder.reattach,
    "reattach2": Recorder.reattach,
    "guest-unbind": lambda recorder: recorder.guest.unload(),
    "guest-bind": lambda recorder: recorder.guest.load(),
    "destroy": Recorder.destroy,
    "create2": lambda recorder: recorder.create(2),
    "guest-poweroff": Recorder.power_off,
}


#: Marks that were set when the end of a phase had been seen; some of it came later.
AFTER = {
    "create": ["connected"],
    "reattach": ["reconnected"],
    "guest-bind": ["guest-reconnected"],
}


def differs(phase: str) -> list[Change]:
    """The guest's watch of its backend's state, which is ended at another time than by Linux."""
    domid = 2 if phase == "guest-poweroff" else 1
    path = f"/local/domain/0/backend/vif/{domid}/0/state"
    return [Change(f"domU{domid}-kernel", "UNWATCH", path, "TOKEN", "OK")]


def without(changes: list[Change], left_out: list[Change]) -> list[Change]:
    return [change for change in changes if change not in left_out]


@pytest.mark.parametrize("recording", RECORDINGS)
def test_a_whole_life_writes_and_watches_what_linux_does(recording: str) -> None:
    recorder = Recorder(RECORDINGS[recording])
    lived = phases(recording)
    assert set(lived) <= set(ACTIONS)
    for phase in lived:
        ACTIONS[phase](recorder)
        ours = seen(recorder.take())
        theirs = recorded(recording, phase, *AFTER.get(phase, ()))
        if phase in ("guest-unbind", "destroy", "guest-poweroff"):
            left_out = differs(phase)
            assert set(left_out) <= set(ours)
            ours, theirs = without(ours, left_out), without(theirs, left_out)
        who = [party for party in (*PARTIES, "domU2-kernel") if by(theirs, party)]
        assert_as_recorded(ours, theirs, who)
        assert recorder.vif.connected == phase.startswith(("create", "reattach", "guest-bind"))
    assert not recorder.host.leaks()


@pytest.mark.parametrize("recording", ["reads-6.1", "reads-7.3"])
def test_both_drivers_read_what_linux_reads_in_its_order(recording: str) -> None:
    recorder = Recorder(SPLIT)
    for phase in ("create", "detach", "reattach", "guest-unbind", "guest-bind", "destroy"):
        ACTIONS[phase](recorder)
        operations = recorder.take()
        for who in ("dom0-kernel", "domU1-kernel"):
            if who == "domU1-kernel" and phase in ("guest-unbind", "destroy"):
                continue  # Linux ends its watch first and polls; or it is paused
            theirs = recorded_steps(recording, who, phase, *AFTER.get(phase, ()))
            assert_same_steps(driver_steps(operations, who), theirs)
