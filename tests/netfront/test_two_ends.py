"""Every kind of frontend with a real backend: frames arrive, features work, nothing is left."""

from __future__ import annotations

import pytest
from ip_frames import ipv4, tcp
from vif_peers import Stack

from xennet.flow.hash_config import ALL_TYPES
from xennet.frames import FrameBatch
from xennet.host.capacity import Capacity
from xennet.host.domains import PluggedVif
from xennet.host.host import Host
from xennet.netback.policy import VifOptions
from xennet.netfront.kinds import FREEBSD, LINUX, WINDOWS, FrontendKind
from xennet.netfront.options import NetfrontOptions

KINDS = pytest.mark.parametrize("kind", [LINUX, FREEBSD, WINDOWS], ids=lambda kind: kind.name)


class HashedStack(Stack):
    """Notes the hash of each frame that came."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes: list[int] = []

    def push(self, batch: FrameBatch) -> None:
        self.hashes += batch.hash_info[: batch.count]
        super().push(batch)


class Ends:
    """A host with one guest and one connected vif."""

    def __init__(
        self,
        kind: FrontendKind = LINUX,
        front: NetfrontOptions | None = None,
        back: VifOptions | None = None,
    ) -> None:
        self.host = Host(Capacity(queues=8))
        self.in_guest, self.in_host = HashedStack(), HashedStack()
        owner = self.host.add_guest(kind=kind)
        self.vif: PluggedVif = self.host.plug(
            owner,
            0,
            self.in_guest,
            self.in_host,
            front=front or NetfrontOptions(),
            back=back or VifOptions(),
        )
        self.host.boot()
        self.host.settle()
        assert self.vif.connected, self.host.states(self.vif)
        assert self.vif.netfront is not None
        self.netfront = self.vif.netfront

    def carry(self, up: list[bytes], down: list[bytes]) -> None:
        """Send frames both ways and look that they arrived, in whatever order."""
        before = len(self.in_host.received), len(self.in_guest.received)
        self.in_guest.to_send += up
        self.in_host.to_send += down
        self.vif.kick()
        self.host.settle()
        assert not self.vif.errors
        for sent, stack, first in ((up, self.in_host, before[0]), (down, self.in_guest, before[1])):
            assert sorted(stack.received[first:]) == sorted(sent)

    def end(self) -> None:
        """Unplug the vif; nothing may be left."""
        self.host.unplug(self.vif)
        self.host.settle()
        leaks = self.host.machine.leaks()
        assert not leaks, str(leaks)


def flows(count: int, size: int = 200) -> list[bytes]:
    return [ipv4(tcp(port=1000 + i) + bytes([i & 255]) * size) for i in range(count)]


@KINDS
@pytest.mark.parametrize("queues", [1, 3])
@pytest.mark.parametrize("split", [True, False])
def test_frames_arrive_over_any_number_of_queues_and_channels(
    kind: FrontendKind, queues: int, split: bool
) -> None:
    ends = Ends(kind, NetfrontOptions(queues=queues, split=split), VifOptions(max_queues=8))
    assert len(ends.netfront.queues) == queues
    ends.carry(flows(300), flows(300, 3000))
    ends.end()


@KINDS
def test_an_untrusted_backend_carries_the_same_frames(kind: FrontendKind) -> None:
    ends = Ends(kind, NetfrontOptions(trusted=False))
    for _ in range(3):
        ends.carry(flows(200, 9000), flows(200, 3000))
    ends.end()


def test_a_windows_frontend_hashes_and_gets_hashes_over_the_control_ring() -> None:
    ends = Ends(WINDOWS, NetfrontOptions(queues=4), VifOptions(max_queues=4))
    assert ends.netfront.control is not None
    assert ends.netfront.control.outstanding == 0
    assert ends.netfront.hashing.types == ALL_TYPES
    ends.carry(flows(100), flows(100))
    tcp_hash = 1 << 8 | 2
    assert set(ends.in_host.hashes) == set(ends.in_guest.hashes) == {tcp_hash}
    ends.end()


def test_the_backend_keeps_the_multicast_list_that_the_frontend_gave_it() -> None:
    ends = Ends(WINDOWS)
    group, other = bytes.fromhex("01005e000001"), bytes.fromhex("01005e000002")
    change = ends.netfront.multicast_add(group)
    ends.host.settle()
    assert change is not None
    assert change.status == 0
    ends.in_host.to_send = [group + bytes(60), other + bytes(60)]
    ends.vif.kick()
    ends.host.settle()
    assert ends.in_guest.received == [group + bytes(60)]
    ends.end()


def test_frames_arrive_while_the_xdp_headroom_changes() -> None:
    ends = Ends(LINUX, NetfrontOptions(xdp_headroom=128))
    frames = [bytes([i]) * size for i, size in enumerate((14, 60, 1500, 3840, 3841, 9000))]
    answers: list[bool] = []
    ends.carry(frames, frames)
    for headroom in (256, 0, 64):
        assert ends.vif.frontend is not None
        ends.netfront.set_xdp_headroom(ends.vif.frontend, headroom, answers.append)
        ends.host.settle()
        ends.carry(frames, frames)
    assert answers == [True] * 3
    ends.end()
