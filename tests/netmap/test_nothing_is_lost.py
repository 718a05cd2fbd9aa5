"""Buffers and rings are where they belong, in any order of opens, sends, swaps and closes."""

from __future__ import annotations

import gc
import os

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from netmap_clients import Client, all_free, opened

from xennet.abi.netmap import (
    NR_MONITOR_RX,
    NR_MONITOR_TX,
    NR_REG_NIC_SW,
    NR_REG_NULL,
    NR_ZCOPY_MON,
)
from xennet.netmap.device import Device
from xennet.netmap.monitor import Monitor
from xennet.netmap.net_interface import NetInterface, join_pair
from xennet.netmap.pools import Layout, Pool
from xennet.netmap.region import Region

NAMES = ["vale0:a", "vale0:b", "vale0:b", "dm0{p", "dm0}p", "dm0{q{r", "va", "vb", "vale0:c{1"]
FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + b"x" * 46


def held_by(client: Client) -> list[int]:
    """The buffers in the slots and the extra list of a client, whose rings nobody else has."""
    region = client.region
    found = []
    for kring in client.file.bound().binding.every():
        first, second, end = (kring.slot_at(i) for i in (0, 1, kring.num_slots))
        found += region.u32[first : end : second - first].tolist()
    index = region.u32[(client.file.bound().if_offset + 32) // 4]
    while index:
        found.append(index)
        index = region.u32[region.bufs.offset_of(index) // 4]
    return found


class NothingIsLost(RuleBasedStateMachine):
    """Clients of one region that keep the contract, and a null port that keeps the region."""

    @initialize()
    def boot(self) -> None:
        self.device = Device()
        state = self.device.state
        pair = [state.add_interface(NetInterface(name)) for name in ("va", "vb")]
        join_pair(*pair)
        state.add_interface(NetInterface("dm0"))
        self.keeper = opened(
            self.device, "k", nr_mode=NR_REG_NULL, nr_mem_id=1, nr_tx_rings=1, nr_rx_rings=1
        )
        self.region = self.keeper.region
        self.free = [p.objfree for p in (self.region.ifs, self.region.rings, self.region.bufs)]
        self.clients: list[Client] = []

    @rule(
        name=st.sampled_from(NAMES),
        extra=st.integers(0, 3),
        mapped=st.booleans(),
        host=st.booleans(),
    )
    def open(self, name: str, extra: int, mapped: bool, host: bool) -> None:
        client = Client(self.device)
        mode = {"nr_mode": NR_REG_NIC_SW} if host and name in ("va", "vb") else {}
        if client.register(name, nr_mem_id=1, nr_extra_bufs=extra, **mode):
            client.close()
            return
        if mapped:
            client.file.mmap(client.region.memsize)
        self.clients.append(client)

    @rule(
        name=st.sampled_from(NAMES),
        flags=st.sampled_from([NR_ZCOPY_MON, NR_MONITOR_RX, NR_MONITOR_TX | NR_MONITOR_RX]),
    )
    def monitor(self, name: str, flags: int) -> None:
        client = Client(self.device)
        if client.register(name, nr_flags=flags):
            client.close()
        else:
            self.clients.append(client)

    @rule(which=st.integers(0, 20))
    def close(self, which: int) -> None:
        if self.clients:
            client = self.clients.pop(which % len(self.clients))
            mappings = client.file.mappings
            client.close()
            assert client.file.registration is None or mappings
            for _ in range(mappings):
                client.file.munmap()
            assert client.file.registration is None

    @rule(which=st.integers(0, 20), number=st.integers(1, 7))
    def send(self, which: int, number: int) -> None:
        if self.clients:
            client = self.clients[which % len(self.clients)]
            if isinstance(client.port, Monitor):
                return
            head, _, tail = client.ring(True).shown()
            room = (tail - head) % client.ring(True).num_slots
            client.send(*[FRAME] * min(number, room))

    @rule(which=st.integers(0, 20))
    def receive(self, which: int) -> None:
        if self.clients:
            frames = self.clients[which % len(self.clients)].receive()
            assert all(frame == FRAME for frame in frames)

    @rule(which=st.integers(0, 20))
    def swap_with_extra(self, which: int) -> None:
        """A free tx slot gets the first extra buffer, which leaves its own in the list."""
        if not self.clients:
            return
        client = self.clients[which % len(self.clients)]
        registration, region = client.file.bound(), client.region
        head, _, tail = client.ring(True).shown()
        at = (registration.if_offset + 32) // 4
        extra = region.u32[at]
        if not extra or head == tail:
            return
        buffer, length, _ = client.slot(True, head)
        region.u32[region.bufs.offset_of(buffer) // 4] = region.u32[
            region.bufs.offset_of(extra) // 4
        ]
        region.u32[at] = buffer
        client.set_slot(True, head, extra, length, 1)

    @invariant()
    def no_buffer_has_two_owners(self) -> None:
        for client in self.clients:
            held, free = held_by(client), client.region.bufs.free
            assert len(held) == len(set(held))
            assert not any(free[index] for index in held)

    def teardown(self) -> None:
        if not hasattr(self, "clients"):
            return
        while self.clients:
            self.close(0)
        now = [p.objfree for p in (self.region.ifs, self.region.rings, self.region.bufs)]
        assert now == self.free
        self.keeper.close()
        assert all_free(self.region)
        assert list(self.device.state.regions.by_id) == [1]


TestNothingIsLost = NothingIsLost.TestCase


@given(st.lists(st.one_of(st.integers(1, 9), st.integers(-12, -1)), max_size=60))
def test_a_pool_gives_each_object_once_and_the_lowest_first(steps: list[int]) -> None:
    pool = Pool(Layout(12, 64), 0, reserved=2)
    taken: set[int] = set()
    for step in steps:
        if step > 0:
            free = sorted(set(range(2, 12)) - taken)
            assert pool.allocate(step) == free[:step]
            taken |= set(free[:step])
        else:
            index = -step
            assert pool.give_back(index) == (index in taken)
            taken -= {index}
        assert pool.objfree == 10 - len(taken)


@given(st.integers(0, 7), st.integers(0, 7), st.booleans())
def test_a_pipe_gives_back_each_buffer_once(sent: int, read: int, swap: bool) -> None:
    """Those on their way, too, also if the reader has swapped some."""
    device = Device()
    device.state.add_interface(NetInterface("dm0"))
    keeper = opened(device, "k", nr_mode=NR_REG_NULL, nr_mem_id=1, nr_tx_rings=1)
    region = keeper.region
    free = bytes(region.bufs.free)
    extra = region.new_buffers(1)[0]
    one, two = opened(device, "dm0{p"), opened(device, "dm0}p")
    one.write(True, sent, sent)
    assert one.txsync() == two.rxsync() == 0
    if swap and sent:
        held, length, _ = two.slot(False, 0)
        two.set_slot(False, 0, extra, length, 1)
        extra = held
    released = min(sent, read)
    two.write(False, released, released)
    assert two.rxsync() == 0
    one.close()
    two.close()
    region.bufs.give_back(extra)
    assert bytes(region.bufs.free) == free


def test_ten_thousand_opens_leave_the_process_as_it_was() -> None:
    device = Device()
    for _ in range(20):
        opened(device, "vale0:a").close()
    gc.collect()  # what other tests have left
    descriptors = len(os.listdir("/proc/self/fd"))
    number = int(os.environ.get("XENNET_NETMAP_OPENS", "300"))
    for _ in range(number):
        opened(device, "vale0:a").close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert device.state.regions.by_id.keys() == {1}
    assert isinstance(device.state.regions.shared, Region)
