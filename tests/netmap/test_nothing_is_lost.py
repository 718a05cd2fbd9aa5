"""Buffers and rings are where they belong, in any order of opens, sends, swaps and closes."""

from __future__ import annotations

import gc
import os
from errno import ENOMEM

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from netmap_clients import Client, all_free, opened

from xennet.abi.netmap import (
    IF,
    NR_MONITOR_RX,
    NR_MONITOR_TX,
    NR_REG_NIC_SW,
    NR_REG_NULL,
    NR_REG_ONE_NIC,
    NR_ZCOPY_MON,
    NS_BUF_CHANGED,
    NS_MOREFRAG,
)
from xennet.netmap.device import Device
from xennet.netmap.kring import K_PIPE_TAIL, Kring
from xennet.netmap.module_state import State
from xennet.netmap.monitor import Monitor
from xennet.netmap.net_interface import NetInterface, join_pair
from xennet.netmap.pipe import PipeEnd
from xennet.netmap.pools import Layout, Pool, PoolSize
from xennet.netmap.region import GLOBAL_SIZES, Region, Regions, Sizes

NAMES = ["vale0:a", "vale0:b", "vale0:b", "dm0{p", "dm0}p", "dm0{q{r", "va", "vb", "vale0:c{1"]
FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + b"x" * 46


#: A region that is soon used up: 6 or 7 pipes or ports have rings, or buffers.
SCARCE = Sizes(PoolSize(12, 1024), PoolSize(16, 512), PoolSize(120, 2048))


def extra_of(client: Client) -> int:
    """The first buffer in a client's extra list; 0 if there is none."""
    return client.region.u32[(client.file.bound().if_offset + 32) // 4]


def in_ring(kring: Kring) -> list[int]:
    """The buffers that are in a ring.

    Of a pipe, whose slots stand in the rings of both ends, those of the userspace part: from hwcur
    to what the other end has published or given back. Behind that a slot is a copy of what the
    other end has, or had (netmap_pipe.c, netmap_pipe_krings_delete_both). A ring for which the
    other end got no memory has none, or all.
    """
    first, second, end = (kring.slot_at(i) for i in (0, 1, kring.num_slots))
    buffers = kring.na.region.u32[first : end : second - first].tolist()
    if not isinstance(kring.na, PipeEnd) or not kring.na.shared(kring):
        return [] if kring.fake else buffers
    # The sender has the slot that stays unused, too.
    number = (kring.pvt[K_PIPE_TAIL] - kring.hwcur) % kring.num_slots + kring.tx
    return (buffers + buffers)[kring.hwcur : kring.hwcur + number]


def owned(region: Region, clients: list[Client]) -> list[int]:
    """The buffers of a region in the rings and the extra lists of ``clients``, each as often as it
    is there; those in the rings of a pipe's other end, open or not, are among them."""
    found = []
    here = [client for client in clients if client.region is region]
    ports = dict.fromkeys(client.port for client in here)
    ports |= dict.fromkeys(port.peer for port in ports if isinstance(port, PipeEnd))
    for kring in (kring for port in ports for kring in port.every() if kring.offset >= 0):
        found += in_ring(kring)
    for client in here:
        index = extra_of(client)
        while index:
            found.append(index)
            index = region.u32[region.bufs.offset_of(index) // 4]
    return found


class NothingIsLost(RuleBasedStateMachine):
    """Clients of one region that keep the contract, and a null port that keeps the region."""

    @initialize(scarce=st.booleans())
    def boot(self, scarce: bool) -> None:
        self.device = Device(State(regions=Regions(SCARCE if scarce else GLOBAL_SIZES)))
        state = self.device.state
        if scarce:
            state.parameters.generic_ringsize = 8
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
        ring=st.sampled_from([None, None, 0, 1]),
    )
    def open(
        self, name: str, extra: int, mapped: bool, host: bool, ring: int | None = None
    ) -> None:
        """``ring``: one ring pair, of two if the port is made for it."""
        client = Client(self.device)
        fields = {"nr_mode": NR_REG_NIC_SW} if host and name in ("va", "vb") else {}
        if ring is not None:
            one = {"nr_mode": NR_REG_ONE_NIC, "nr_ringid": ring}
            fields = {"nr_tx_rings": 2, "nr_rx_rings": 2} | one
        if client.register(name, nr_mem_id=1, nr_extra_bufs=extra, **fields):
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

    @rule(which=st.integers(0, 20), tx=st.booleans())
    def swap_with_extra(self, which: int, tx: bool = True) -> None:
        """A free tx slot, or a received one, gets the first extra buffer, and leaves its own in the
        list; a frame goes along."""
        if not self.clients:
            return
        client = self.clients[which % len(self.clients)]
        if not tx:
            assert client.rxsync() == 0
        registration, region = client.file.bound(), client.region
        head, _, tail = client.ring(tx).shown()
        list_at = (registration.if_offset + 32) // 4
        extra = region.u32[list_at]
        if not extra or head == tail:
            return
        buffer, length, _ = client.slot(tx, head)
        here, there = region.bufs.offset_of(buffer), region.bufs.offset_of(extra)
        following = region.u32[there // 4]
        region.u8[there : there + length] = region.u8[here : here + length]
        region.u32[here // 4] = following
        region.u32[list_at] = buffer
        client.set_slot(tx, head, extra, length, NS_BUF_CHANGED)

    @invariant()
    def each_buffer_is_free_or_has_one_owner(self) -> None:
        clients = [self.keeper, *self.clients]
        for region in dict.fromkeys(client.region for client in clients):
            found, pool = owned(region, clients), region.bufs
            assert len(found) == len(set(found))
            assert not any(pool.free[index] for index in found)
            assert len(found) == pool.layout.objtotal - pool.reserved - pool.objfree

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


def test_a_buffer_that_was_swapped_out_of_a_pipe_is_not_the_other_ends() -> None:
    """It is free with the list that it was put in, and the next client may get it, while the slot
    of the other end, to which nothing was sent, still shows it."""
    state = NothingIsLost()
    state.boot(scarce=False)
    state.open(name="dm0{p", extra=0, mapped=False, host=False)
    state.open(name="dm0{p", extra=1, mapped=False, host=False)
    sender, leaving = state.clients
    swapped = sender.slot(True, 0)[0]
    state.swap_with_extra(1)
    state.close(1)
    assert state.region.bufs.free[swapped]
    state.each_buffer_is_free_or_has_one_owner()
    state.open(name="dm0}p", extra=1, mapped=False, host=False)
    reader = state.clients[1]
    assert leaving is not reader
    assert swapped == extra_of(reader) == reader.slot(False, 0)[0] != sender.slot(True, 0)[0]
    state.each_buffer_is_free_or_has_one_owner()
    at = state.region.bufs.offset_of(swapped)
    state.region.u8[at + 4 : at + 8] = b"mine"
    sender.send(FRAME)
    assert reader.rxsync() == 0
    assert reader.slot(False, 0)[0] == sender.slot(True, 0)[0] != swapped
    state.each_buffer_is_free_or_has_one_owner()
    assert reader.receive() == [FRAME]
    assert state.region.u8[at + 4 : at + 8] == b"mine"
    state.teardown()


def test_what_a_pipe_shows_of_the_end_that_was_closed_may_be_free() -> None:
    """That end swapped a slot that it did not send: opened again, it sends the new buffer."""
    state = NothingIsLost()
    state.boot(scarce=False)
    state.open(name="dm0{p", extra=0, mapped=False, host=False)
    state.open(name="dm0}p", extra=1, mapped=False, host=False)
    reader, sender = state.clients
    swapped, put = sender.slot(True, 0)[0], extra_of(sender)
    state.swap_with_extra(1)
    state.close(1)
    assert reader.slot(False, 0)[0] == swapped
    assert state.region.bufs.free[swapped]
    assert not state.region.bufs.free[put]
    state.each_buffer_is_free_or_has_one_owner()
    state.open(name="dm0}p", extra=0, mapped=False, host=False)
    state.clients[1].send(FRAME)
    assert reader.rxsync() == 0
    assert reader.slot(False, 0)[0] == put
    assert reader.receive() == [FRAME]
    state.each_buffer_is_free_or_has_one_owner()
    state.teardown()


def crowded(device: Device, region: Region, rings: int) -> list[Client]:
    """Clients that leave the global region ``rings`` rings."""
    numbers = (90, region.rings.objfree - 90 - rings)
    return [
        opened(device, f"crowd{number}", nr_mode=NR_REG_NULL, nr_mem_id=1, nr_tx_rings=number)
        for number in numbers
    ]


@pytest.mark.parametrize("rings", range(4))
def test_a_pipe_that_gets_no_rings_frees_no_buffer_of_others(rings: int) -> None:
    """What lies where no ring was made is not taken for its slots."""
    device = Device()
    device.state.add_interface(NetInterface("dm0"))
    other = opened(device, "vale0:a", nr_mem_id=1)
    region = other.region
    crowd = crowded(device, region, rings)
    for at in range(IF.size // 4, region.ifs.layout.objsize // 4):
        region.u32[at] = other.slot(True, 0)[0]  # behind the netmap_if of the first client
    free = bytes(region.bufs.free)
    assert Client(device).register("dm0{p") == ENOMEM
    assert bytes(region.bufs.free) == free
    for client in (other, *crowd):
        client.close()
    assert all_free(region)


@pytest.mark.parametrize("rings", range(4))
@pytest.mark.parametrize(("name", "other"), [("dm0{p", "dm0}p"), ("dm0}p", "dm0{p")])
def test_rings_of_a_pipe_that_were_not_all_made_are_made_later(
    name: str, other: str, rings: int
) -> None:
    """Those of the first end that a failed registration of the other has made have buffers, which
    both ends share when there is room."""
    device = Device()
    device.state.add_interface(NetInterface("dm0"))
    pairs = {"nr_tx_rings": 2, "nr_rx_rings": 2}
    second_pair = {"nr_mode": NR_REG_ONE_NIC, "nr_ringid": 1, **pairs}
    keeper = opened(device, name, nr_mode=NR_REG_ONE_NIC, **pairs)
    region = keeper.region
    crowd = crowded(device, region, rings)
    assert Client(device).register(other, **second_pair) == ENOMEM
    for client in crowd:
        client.close()
    one, two = opened(device, name, **second_pair), opened(device, other, **second_pair)
    found = owned(region, [keeper, one, two])
    assert len(found) == len(set(found)) == 4 * 8
    assert region.bufs.layout.objtotal - region.bufs.reserved - region.bufs.objfree == 4 * 8
    for sender, reader in ((one, two), (two, one)):
        sender.send(FRAME)
        assert reader.receive() == [FRAME]
    for client in (keeper, one, two):
        client.close()
    assert all_free(region)


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


@given(st.integers(0, 7), st.integers(0, 7), st.booleans(), st.booleans())
def test_a_pipe_gives_back_each_buffer_once(sent: int, read: int, swap: bool, half: bool) -> None:
    """Those on their way, too, also if the reader has swapped some, or a packet has no end."""
    device = Device()
    device.state.add_interface(NetInterface("dm0"))
    keeper = opened(device, "k", nr_mode=NR_REG_NULL, nr_mem_id=1, nr_tx_rings=1)
    region = keeper.region
    free = bytes(region.bufs.free)
    extra = region.new_buffers(1)[0]
    one, two = opened(device, "dm0{p"), opened(device, "dm0}p")
    if half and sent:
        one.put(sent - 1, FRAME, NS_MOREFRAG)
    one.write(True, sent, sent)
    assert one.txsync() == two.rxsync() == 0
    shown = two.ring(False).hwtail
    assert shown == (sent - 1 if half and sent else sent)
    if swap and shown:
        held, length, _ = two.slot(False, 0)
        two.set_slot(False, 0, extra, length, 1)
        extra = held
    released = min(shown, read)
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
