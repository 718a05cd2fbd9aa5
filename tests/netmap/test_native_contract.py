"""The ring contract of the native adapter against a model: a client that writes anything into its
rings, and a backend that answers in any order."""

from __future__ import annotations

import select

from how_many import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from native_world import N, NativeWorld, frame
from netmap_clients import all_free
from ring_model import Side, steps, stretch

MORE, CHANGED, REPORT, FORWARD = 32, 1, 2, 4
ANY_INDEX = st.one_of(st.integers(0, N - 1), st.sampled_from([N, 2**32 - 1]))
WAYS = st.booleans()


class NativeContract(RuleBasedStateMachine):
    """``unanswered``: by slot, ids that the backend has. ``waiting``: frames on the receive ring;
    ``requested``: rx requests that are not used up."""

    @initialize()
    def connect(self) -> None:
        self.world = NativeWorld()
        self.client = self.world.client
        self.requested = N
        self.waiting: list[bytes] = []
        self.backend: list[int] = []
        self.unanswered: dict[int, list[int]] = {i: [] for i in range(N)}
        self.number = 0
        self.opened()

    def opened(self) -> None:
        self.client = self.world.client
        self.sides = {
            tx: Side.fresh(tx, [self.client.slot(tx, i)[0] for i in range(N)])
            for tx in (True, False)
        }
        self.buffers = sorted(slot[0] for side in self.sides.values() for slot in side.slots)
        self.handed = 0
        self.cut = False

    # --- what the client writes -------------------------------------------------------------------

    @rule(tx=WAYS, head=ANY_INDEX, cur=ANY_INDEX, tail=ANY_INDEX)
    def write(self, tx: bool, head: int, cur: int, tail: int) -> None:
        self.client.write(tx, head, cur, tail)
        self.sides[tx].shown = [head, cur, tail]

    @rule(tx=WAYS, back=st.integers(0, 3))
    def move_back(self, tx: bool, back: int) -> None:
        side = self.sides[tx]
        head = (side.shown[0] - back) % N
        self.client.write(tx, head, head)
        side.shown[:2] = [head, head]

    @rule(tx=WAYS, number=st.one_of(st.integers(0, 5), st.integers(0, N)))
    def move_on(self, tx: bool, number: int) -> None:
        """What a client does that keeps the contract."""
        side = self.sides[tx]
        mine = stretch(side.shown[0] % N, side.hwtail, N)
        head = mine[min(number, len(mine) - 1)]
        self.client.write(tx, head, head)
        side.shown[:2] = [head, head]

    @rule(
        sizes=st.lists(
            st.sampled_from([0, 13, 14, 60, 1514, 2048, 2049, 65535]), min_size=1, max_size=40
        ),
        flags=st.lists(st.sampled_from([0, 0, MORE, REPORT | FORWARD]), min_size=1, max_size=5),
        bad=st.sampled_from([None, None, None, 0, 1, 2**32 - 1]),
    )
    def fill(self, sizes: list[int], flags: list[int], bad: int | None) -> None:
        """Put frames into slots of the client's own, one perhaps without a buffer."""
        side = self.sides[True]
        owned = steps(side.shown[0] % N, side.hwtail, N)[: len(sizes)]
        for place, slot in enumerate(owned):
            self.number += 1
            buffer = side.slots[slot][0]
            if self.is_buffer(buffer):
                at = self.client.region.bufs.offset_of(buffer)
                self.client.region.u8[at : at + 60] = frame(self.number)
            side.slots[slot][1:] = [sizes[place], flags[place % len(flags)]]
            self.client.set_slot(True, slot, *side.slots[slot])
        if owned and bad is not None:
            self.give(True, owned[0], bad)

    def give(self, tx: bool, slot: int, buffer: int) -> None:
        """A slot gets another buffer, whose own is nobody's then."""
        entry = self.sides[tx].slots[slot]
        if entry[0] in self.buffers:
            self.buffers.remove(entry[0])
        entry[0] = buffer
        self.client.set_slot(tx, slot, *entry)

    @rule(place=st.integers(0, 20))
    def swap_a_received_buffer_with_a_free_one(self, place: int) -> None:
        tx, rx = self.sides[True], self.sides[False]
        mine = steps(tx.shown[0] % N, tx.hwtail, N)
        held = steps(rx.shown[0] % N, rx.hwtail, N)
        if mine and held:
            one, two = tx.slots[mine[0]], rx.slots[held[place % len(held)]]
            one[0], two[0] = two[0], one[0]
            two[2] |= CHANGED
            self.client.set_slot(True, mine[0], *one)
            self.client.set_slot(False, held[place % len(held)], *two)

    # --- syncs ------------------------------------------------------------------------------------

    def prologue(self, tx: bool) -> bool:
        """The same as the device's; a ring that breaks the contract has its slots repaired."""
        side = self.sides[tx]
        good = side.prologue()
        for slot in [] if good else side.slots:
            if not self.is_buffer(slot[0]):
                slot[:2] = [0, 0]
            elif slot[1] > 2048:
                slot[1] = 0
        return good

    def is_buffer(self, index: int) -> bool:
        return 2 <= index < self.client.region.bufs.layout.objtotal

    def bytes_of(self, slot: int) -> bytes | None:
        """What is in a tx slot, None if that is no frame nor a part of one."""
        buffer, length, _ = self.sides[True].slots[slot]
        if not self.is_buffer(buffer) or length > 2048:
            return None
        at = self.client.region.bufs.offset_of(buffer)
        return bytes(self.client.region.u8[at : at + length])

    def transmitted(self) -> list[tuple[int, bytes]]:
        """Slot and bytes of the packets that the driver sends now."""
        side, sent = self.sides[True], []
        free = N - len(self.backend)
        while side.hwcur != self.handed:
            slots = []
            for slot in steps(side.hwcur, self.handed, N):
                slots.append(slot)
                if not side.slots[slot][2] & MORE:
                    break
            unfinished = side.slots[slots[-1]][2] & MORE
            if unfinished and not self.cut and len(slots) < N - 1:
                break
            parts = [self.bytes_of(slot) for slot in slots]
            whole = b"".join(part for part in parts if part is not None)
            good = None not in parts and 14 <= len(whole) <= 65535
            if good and not unfinished and not self.cut:
                pages = -(-len(whole) // 4096)
                if pages > free:
                    break
                free -= pages
                sent.append((slots[0], whole))
            self.cut = bool(unfinished)
            for slot in slots:
                side.slots[slot][2] &= ~(MORE | CHANGED | REPORT)
            side.hwcur = (slots[-1] + 1) % N
        return sent

    def see_sent(self, expected: list[tuple[int, bytes]]) -> None:
        packets = self.world.sent()
        assert [packet.data for packet in packets] == [data for _, data in expected]
        for packet, (slot, _) in zip(packets, expected, strict=True):
            self.unanswered[slot] += packet.ids
            self.backend += packet.ids

    def model_txsync(self) -> None:
        side = self.sides[True]
        self.handed = side.rhead
        self.see_sent(self.transmitted())
        while (following := (side.hwtail + 1) % N) != side.hwcur and not self.unanswered[following]:
            side.hwtail = following
        side.finish()

    def model_rxsync(self) -> None:
        side = self.sides[False]
        while self.waiting and (side.hwcur - 1 - side.hwtail) % N:
            data = self.waiting.pop(0)
            self.requested -= 1
            entry = side.slots[side.hwtail]
            good = self.is_buffer(entry[0])
            entry[1:] = [len(data) if good else 0, 0]
            if good:
                assert self.client.frame(side.hwtail) == data
            side.hwtail = (side.hwtail + 1) % N
        for slot in steps(side.hwcur, side.rhead, N):
            side.slots[slot][2] &= ~CHANGED
        side.hwcur = side.rhead
        self.requested = max(self.requested, N - side.pending)
        side.finish()

    @rule()
    def txsync(self) -> None:
        assert self.client.txsync() == 0
        if self.prologue(True):
            self.model_txsync()

    @rule()
    def rxsync(self) -> None:
        assert self.client.rxsync() == 0
        self.prologue(False)
        self.model_rxsync()

    @rule(events=st.sampled_from([0, 1, 4, 5]))
    def poll(self, events: int) -> None:
        found, expected = self.client.file.poll(events), 0
        tx, rx = self.sides[True], self.sides[False]
        if events & select.POLLOUT or tx.shown[0] != tx.hwcur:
            if self.prologue(True):
                self.model_txsync()
            else:
                expected |= select.POLLERR
            expected |= events & select.POLLOUT if tx.rcur != tx.rtail else 0
        if events & select.POLLIN:
            expected |= 0 if self.prologue(False) else select.POLLERR
            self.model_rxsync()
            expected |= select.POLLIN if rx.rcur != rx.rtail else 0
        assert found == expected

    # --- the backend ------------------------------------------------------------------------------

    @rule(data=st.data(), number=st.integers(1, 40), status=st.sampled_from([0, -1, -2]))
    def answer(self, data: st.DataObject, number: int, status: int) -> None:
        if not self.backend:
            return
        first = data.draw(st.integers(0, len(self.backend) - 1))
        chosen = self.backend[first:][:number][::-1]
        for ident in chosen:
            self.world.raw.answer(ident, status)
        self.world.woken.clear()
        self.world.raw.push_tx()
        self.backend = [ident for ident in self.backend if ident not in chosen]
        tagged = 0
        for ids in self.unanswered.values():
            for ident in [ident for ident in ids if ident in chosen]:
                ids.remove(ident)
                tagged += 1
        assert ("tx" in self.world.woken) == (tagged > 0)
        self.see_sent(self.transmitted())

    @rule(number=st.one_of(st.integers(1, 5), st.integers(1, N)), size=st.sampled_from([14, 1514]))
    def arrive(self, number: int, size: int) -> None:
        number = min(number, self.world.posted)
        if not number:
            return
        frames = []
        for _ in range(number):
            self.number += 1
            frames.append(frame(self.number, size)[:size])
        self.world.woken.clear()
        self.world.arrive(*frames)
        if not self.waiting:
            assert "rx" in self.world.woken
        self.waiting += frames

    @rule()
    def reopen(self) -> None:
        """The client goes: what is on the receive ring is the stack's, and ids are untagged."""
        self.client.close()
        self.world.raw.run()
        assert all_free(self.world.region)
        assert self.world.stack.received == self.waiting
        self.world.stack.received.clear()
        self.waiting.clear()
        self.requested = N
        for ids in self.unanswered.values():
            ids.clear()
        self.world.open()
        self.opened()
        self.see_sent([])

    @invariant()
    def the_client_sees_what_the_model_says(self) -> None:
        for tx, side in self.sides.items():
            assert list(self.client.ring(tx).shown()) == side.shown
            assert [list(self.client.slot(tx, i)) for i in range(N)] == side.slots

    @invariant()
    def the_backend_may_send_what_the_model_says(self) -> None:
        assert self.world.posted == self.requested - len(self.waiting)
        assert not self.world.raw.broken

    @invariant()
    def no_buffer_has_two_owners(self) -> None:
        held = [slot[0] for side in self.sides.values() for slot in side.slots]
        assert sorted(index for index in held if index in self.buffers) == self.buffers
        assert not any(self.client.region.bufs.free[index] for index in self.buffers)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.client.close()
            assert all_free(self.world.region)
            self.world.raw.run()
            self.world.end.remove()


NativeContract.TestCase.settings = settings(max_examples=examples(45), stateful_step_count=40)
TestNativeContract = NativeContract.TestCase
