"""The real drivers' whole handshake against that of Linux 6.1 and xl 4.17.7, node by node.

As tests/xenbus/test_handshake.py, but here nothing is played: xennet's own netfront and netback,
with rings, grants and event channels, write what the recordings hold. Declared as different: grant
references, ports, watch tokens and transaction ids, which machines number as they like.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from attrs import evolve

sys.path.insert(0, str(Path(__file__).parents[1] / "xenbus"))
from handshake_log import PARTIES, Change, assert_as_recorded, recorded, seen

from xennet.link.house import House
from xennet.netback.policy import VifOptions
from xennet.observe import StoreOperation
from xennet.port import open_port
from xennet.xenbus.vif_nodes import VifConfig

MAC = "00:16:3e:00:00:01"
#: The house's names of the four parties, as the recordings name them.
NAMES = dict(zip(("toolstack", "dom0", "hotplug", "domU1"), PARTIES, strict=True))
RECORDINGS = {
    "single-channel": VifOptions(max_queues=1, split_channels=False),
    "split-channels": VifOptions(max_queues=2, split_channels=True),
}


class Recorder:
    """A house with one guest, and what each party did in it since the last look."""

    def __init__(self, recording: str) -> None:
        self.house = House()
        self.back = RECORDINGS[recording]
        self.house.dom0.load()
        self.house.settle()
        self.operations: list[StoreOperation] = []
        self.house.machine.observers.subscribe(self.operations.append, StoreOperation)
        self.guest = self.house.add_guest(1, name="domU1")
        self.attach()

    def attach(self) -> None:
        ends = (open_port("null:"), open_port("null:"))
        self.vif = self.house.plug(self.guest, 0, *ends, VifConfig(MAC), back=self.back)

    def phase(self) -> list[Change]:
        self.house.settle()
        changes = [evolve(c, who=NAMES[c.who]) for c in seen(self.operations)]
        self.operations.clear()
        return changes

    def start(self) -> list[Change]:
        self.house.settle()  # the guest takes its time to boot
        self.guest.boot()
        return self.phase()


@pytest.fixture(params=sorted(RECORDINGS))
def recording(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_start_writes_what_linux_writes(recording: str) -> None:
    recorder = Recorder(recording)
    assert_as_recorded(recorder.start(), recorded(recording, "create"))
    assert recorder.vif.connected


def test_detach_writes_what_linux_writes(recording: str) -> None:
    recorder = Recorder(recording)
    recorder.start()
    recorder.house.unplug(recorder.vif)
    assert_as_recorded(recorder.phase(), recorded(recording, "detach"))
    assert not recorder.house.leaks()


def test_reattach_writes_what_linux_writes(recording: str) -> None:
    recorder = Recorder(recording)
    recorder.start()
    recorder.house.unplug(recorder.vif)
    recorder.phase()
    recorder.house.script.held = True  # it was slower than the running guest
    recorder.attach()
    recorder.house.settle()
    recorder.house.script.release()
    assert_as_recorded(recorder.phase(), recorded(recording, "reattach"))
    assert recorder.vif.connected
