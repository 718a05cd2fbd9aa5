"""The ring contract against a model: clients that write anything into their rings, on a pipe.

The model (ring_model.py) knows a ring as lists of indices that each side owns.
"""

from __future__ import annotations

import select

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from netmap_clients import Client, all_free, opened
from ring_model import Side, steps, stretch

from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface

N = 8
MORE, CHANGED = 32, 1
ANY_INDEX = st.one_of(st.integers(0, N - 1), st.sampled_from([N, N + 1, 2**32 - 1]))


class PipeContract(RuleBasedStateMachine):
    """Two ends of a pipe; what they own is counted after every step."""

    @initialize()
    def open_both(self) -> None:
        self.device = Device()
        self.device.state.add_interface(NetInterface("dm0"))
        self.ends = [opened(self.device, name) for name in ("dm0{p", "dm0}p")]
        self.region = self.ends[0].region
        self.model: list[dict[bool, Side]] = []
        for end in self.ends:
            sides = {
                tx: Side.fresh(tx, [end.slot(tx, i)[0] for i in range(N)]) for tx in (True, False)
            }
            self.model.append(sides)
        self.buffers = sorted(slot[0] for m in self.model for slot in m[True].slots)

    def pick(self, end: int, tx: bool) -> tuple[Client, Side]:
        return self.ends[end], self.model[end][tx]

    @rule(end=st.integers(0, 1), tx=st.booleans(), head=ANY_INDEX, cur=ANY_INDEX, tail=ANY_INDEX)
    def write(self, end: int, tx: bool, head: int, cur: int, tail: int) -> None:
        client, side = self.pick(end, tx)
        client.write(tx, head, cur, tail)
        side.shown = [head, cur, tail]

    @rule(end=st.integers(0, 1), tx=st.booleans(), number=st.integers(0, N))
    def move_on(self, end: int, tx: bool, number: int) -> None:
        """What a client does that keeps the contract."""
        client, side = self.pick(end, tx)
        mine = stretch(side.shown[0] % N, side.hwtail, N)
        head = mine[min(number, len(mine) - 1)]
        client.write(tx, head, head)
        side.shown[:2] = [head, head]

    @rule(end=st.integers(0, 1), slot=st.integers(0, N - 1), other=st.integers(0, N - 1))
    def swap_own_buffers(self, end: int, slot: int, other: int) -> None:
        client, side = self.pick(end, True)
        owned = steps(side.hwcur, side.hwtail, N)
        if slot not in owned or other not in owned or slot == other:
            return
        one, two = side.slots[slot], side.slots[other]
        one[0], two[0] = two[0], one[0]
        one[2] |= CHANGED
        two[2] |= CHANGED
        for i in (slot, other):
            client.set_slot(True, i, *side.slots[i])

    @rule(end=st.integers(0, 1), slot=st.integers(0, N - 1), more=st.booleans())
    def mark(self, end: int, slot: int, more: bool) -> None:
        client, side = self.pick(end, True)
        if slot in steps(side.hwcur, side.hwtail, N):
            side.slots[slot][2] = MORE if more else 0
            client.set_slot(True, slot, *side.slots[slot])

    def model_txsync(self, end: int) -> None:
        side, peer = self.model[end][True], self.model[1 - end][False]
        side.hwtail = side.published
        for i in steps(side.hwcur, side.rhead, N):
            peer.slots[i] = list(side.slots[i])
            side.slots[i][2] &= ~CHANGED
            if not peer.slots[i][2] & MORE:
                peer.published = (i + 1) % N
        side.hwcur = side.rhead
        side.finish()

    def model_rxsync(self, end: int) -> None:
        side, peer = self.model[end][False], self.model[1 - end][True]
        side.hwtail = side.published
        for i in steps(side.hwcur, side.rhead, N):
            if side.slots[i][2] & CHANGED:
                peer.slots[i] = list(side.slots[i])
                side.slots[i][2] &= ~CHANGED
            peer.published = (side.rhead - 1) % N
        side.hwcur = side.rhead
        side.finish()

    @rule(end=st.integers(0, 1))
    def txsync(self, end: int) -> None:
        client, side = self.pick(end, True)
        assert client.txsync() == 0
        if side.prologue():
            self.model_txsync(end)

    @rule(end=st.integers(0, 1))
    def rxsync(self, end: int) -> None:
        client, side = self.pick(end, False)
        assert client.rxsync() == 0
        side.prologue()
        self.model_rxsync(end)

    @rule(end=st.integers(0, 1), events=st.sampled_from([0, 1, 4, 5]))
    def poll(self, end: int, events: int) -> None:
        client = self.ends[end]
        expected = 0
        tx, rx = self.model[end][True], self.model[end][False]
        if events & select.POLLOUT or tx.shown[0] != tx.hwcur:
            if tx.prologue():
                self.model_txsync(end)
            else:
                expected |= select.POLLERR
            expected |= events & select.POLLOUT if tx.rcur != tx.rtail else 0
        if events & select.POLLIN:
            expected |= 0 if rx.prologue() else select.POLLERR
            self.model_rxsync(end)
            expected |= select.POLLIN if rx.rcur != rx.rtail else 0
        assert client.file.poll(events) == expected

    @invariant()
    def clients_see_what_the_model_says(self) -> None:
        for client, sides in zip(self.ends, self.model, strict=True):
            for tx, side in sides.items():
                assert list(client.ring(tx).shown()) == side.shown
                assert [list(client.slot(tx, i)) for i in range(N)] == side.slots

    @invariant()
    def every_buffer_is_somewhere_once(self) -> None:
        free = self.region.bufs.free.count(1)
        assert free == self.region.bufs.objfree
        assert not any(self.region.bufs.free[buffer] for buffer in self.buffers)
        assert free + len(self.buffers) == self.region.bufs.layout.objtotal - 2

    def teardown(self) -> None:
        if hasattr(self, "ends"):
            for end in self.ends:
                end.close()
            assert all_free(self.region)


TestPipeContract = PipeContract.TestCase
TestPipeContract.settings = settings(max_examples=250)
