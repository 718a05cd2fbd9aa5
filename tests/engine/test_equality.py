"""Plain, compiled and an independent model: the same packets, responses, memory and decisions.

Random traffic, damaged ring pages and start indices around 2^31 and 2^32 go through both engines;
what is compared is everything another domain could see (whole arenas), everything that the drivers
keep (counters, free ids) and everything they say (errors, events).
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from random import Random

import pytest
from both import CheckedEngine, on_both
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_stream import Replay, events
from test_guest_rx_extras import packets
from test_guest_tx_model import FRAMES, frontend, macs, raw, slots
from tx_model import expect
from vif_peers import GUEST, RawBackend, RawFrontend, Stack

from xennet.abi.xen import DOMID_SELF
from xennet.hypervisor import Machine
from xennet.link.vif import VifLink
from xennet.netback.poll_page import FIRST_GREF, PAGES, PagePoller
from xennet.netback.vif_config import C_HASH, C_HEADROOM, C_MCAST_FILTER, mcast_add
from xennet.vif.ring_events import RingEvent

starts = st.sampled_from([0, 2**31 - 3, 2**31, 2**32 - 3, 2**32 - 1]) | st.integers(0, 2**32 - 1)


def test_a_negative_index_is_found_here() -> None:
    view = CheckedEngine().view(array("I", range(8)))
    view[2:4] = array("I", (7, 7))
    assert (view[1], list(view[2:5])) == (1, [7, 7, 4])
    for at in (-1, slice(-2, None), slice(0, -1)):
        with pytest.raises(AssertionError, match="negative index"):
            view[at]
        with pytest.raises(AssertionError, match="negative index"):
            view[at] = 0


@settings(max_examples=60, deadline=None)
@given(st.lists(slots, max_size=80), starts)
def test_guest_transmit_gives_the_same_packets_responses_and_ring(
    content: list[object], start: int
) -> None:
    def run() -> tuple[object, ...]:
        front = frontend(start)
        for slot in content:
            front.slot(raw(front, slot))
        notify = front.push()
        errors = [(error.rule, error.index, error.raw) for error in front.fatal]
        ring = bytes(front.tx_ring.sring.u8)
        stack = (front.stack.received, front.stack.meta)
        return notify, stack, ring, errors, front.counters, front.events, front.config

    plain, fast = on_both(run)
    assert plain == fast


@settings(max_examples=40, deadline=None)
@given(st.lists(slots, max_size=40), st.integers(0, 20000), st.integers(0, 64))
def test_credit_hashes_and_the_multicast_list_end_the_same(
    content: list[object], credit: int, listed: int
) -> None:
    def run() -> tuple[object, ...]:
        front = frontend(0)
        tx = front.queue.tx
        for i in range(listed):
            mcast_add(tx.config, i)
        tx.credit = credit
        for slot in content:
            front.slot(raw(front, slot))
        front.tx_ring.push_requests()
        tx.run(256)
        batch = tx.batch
        columns = [list(column) for column in (*batch.columns, *batch.hash_columns)]
        return list(tx.res), tx.config, [bytes(frame) for frame in batch], columns

    plain, fast = on_both(run)
    assert plain == fast


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(packets, macs), max_size=12),
    st.sampled_from([0, 256, 0x7FFF]),
    st.booleans(),
    st.sampled_from([(6, 0), (4, 2), (0, 2), (0, 0)]),
    st.booleans(),
    st.integers(0, 256),
)
def test_everything_that_goes_along_to_the_guest_is_the_same(
    content: list[tuple[tuple[int, int, int, int], bytes]],
    headroom: int,
    filtering: bool,
    gso: tuple[int, int],
    can_sg: bool,
    buffers: int,
) -> None:
    def run() -> tuple[object, ...]:
        front = RawFrontend(
            can_sg=can_sg, gso_types=gso[0], gso_prefix_types=gso[1], rx_buffers=buffers
        )
        rx = front.queue.rx
        rx.config[C_HEADROOM], rx.config[C_MCAST_FILTER], rx.config[C_HASH] = headroom, filtering, 1
        mcast_add(rx.config, 0x01005E000001)
        batch = rx.refill()
        for i, ((size, segment, info, flags), mac) in enumerate(content):
            data = mac + bytes([i]) * (size - 6)
            batch.append(data, gso_size=segment, gso_type=1 + flags % 2, flags=flags)
            batch.hash_info[i], batch.hash_value[i] = info, 2**32 - 1 - i
        rx.run()
        pages = bytes(front.rx_pages.u8)
        return list(rx.res), bytes(front.rx_ring.sring.u8), pages, rx.next, rx.batch.count

    plain, fast = on_both(run)
    assert plain == fast


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), starts, st.integers(0, 260))
def test_a_damaged_ring_page_and_grant_table_give_the_same_memory(
    seed: int, start: int, ahead: int
) -> None:
    def run() -> tuple[object, ...]:
        random = Random(seed)
        poller = PagePoller()
        poller.pages[:] = random.randbytes(len(poller.pages))
        for i in range(0, PAGES, 2):
            poller.pages[4096 * i : 4096 * i + len(FRAMES[0])] = FRAMES[0]
        page = bytearray(random.randbytes(4096))
        page[0:4] = ((start + ahead) % 2**32).to_bytes(4, "little")
        for i in range(256):
            if random.random() < 0.7:  # most slots are near a good one
                at = 64 + 12 * i
                gref = random.choice([FIRST_GREF + random.randrange(PAGES), 600, 511, 3])
                page[at : at + 4] = gref.to_bytes(4, "little")
                page[at + 4 : at + 8] = random.choice([0, 1 << 16, 4 << 16, 8 << 16, 40]).to_bytes(
                    4, "little"
                )
                page[at + 10 : at + 12] = random.choice([60, 14, 4096, 900]).to_bytes(2, "little")
        poller.ring_page[:] = page
        for _ in range(random.randrange(4)):
            entry = 8 * random.randrange(512)
            poller.grant_table[entry : entry + 8] = random.randbytes(8)
        ring = [bytes(page[64 + 12 * ((start + i) % 256) :][:12]) for i in range(256)]
        verdict = poller.poll(start)
        arena = bytes(poller.memory.u8)
        res = list(poller.res)
        packets = poller.packets()
        poller.close()
        return verdict, res, packets, arena, ring

    plain, fast = on_both(run)
    assert plain == fast
    expected = expect(list(plain[4]), ahead)  # type: ignore[call-overload]
    assert bool(plain[0]) == bool(expected.rule)
    assert len(expected.packets) >= len(plain[2])  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(14, 9000) | st.sampled_from([4096, 4097, 65535]), max_size=60),
    st.lists(st.integers(14, 9000) | st.sampled_from([4096, 4097, 65535]), max_size=60),
    st.sampled_from([1, 2]),
)
def test_a_whole_machine_ends_with_the_same_memory_and_counters(
    up: list[int], down: list[int], version: int
) -> None:
    def run() -> tuple[object, ...]:
        guest, host = Stack(), Stack()
        link = VifLink(guest, host, grant_version=version)
        seen: list[object] = []
        link.machine.observers.subscribe(seen.append, RingEvent)
        link.open()
        guest.to_send = [bytes([i & 255]) * size for i, size in enumerate(up)]
        host.to_send = [bytes([i & 255]) * size for i, size in enumerate(down)]
        link.carry()
        arena = bytes(link.machine.memory.u8[: 4096 * 2048])
        assert link.netfront is not None
        counters = (link.netfront.counters, link.netback.counters)
        link.close()
        left = str(link.leaks())
        link.destroy()
        return guest.received, host.received, counters, left, arena, seen

    plain, fast = on_both(run)
    assert plain[:4] == fast[:4]
    assert plain[4] == fast[4]
    assert plain[5] == fast[5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(min_size=8, max_size=8), max_size=60),
    st.lists(st.integers(0, 300), max_size=20),
)
def test_hostile_responses_end_in_the_same_state(rx: list[bytes], tx: list[int]) -> None:
    def run() -> tuple[object, ...]:
        back = RawBackend()
        back.stack.to_send = [bytes(60)] * 40
        back.run()
        for slot in rx:
            back.raw_rx(slot)
        back.rx_ring.push_responses()
        for ident in tx:
            back.answer(ident, ident % 3 - 1)
        back.push_tx()
        broken = [(error.rule, error.index, error.word) for error in back.broken]
        rings = [bytes(ring.sring.u8) for ring in (back.tx_ring, back.rx_ring)]
        grants = bytes(back.machine.domain(GUEST).grants.words.cast("B"))
        return broken, rings, grants, back.stack.received, back.counters, back.queue.last_drop

    plain, fast = on_both(run)
    assert plain == fast


@pytest.mark.parametrize("sample", ["beginning.jsonl.gz", "gso.jsonl.gz"])
def test_the_recorded_streams_go_through_both(sample: str) -> None:
    path = Path(__file__).parent.parent / "data" / "recorded" / sample

    def run() -> list[object]:
        first: dict[str, int] = {}
        for event in events(path):
            if "first_index" in event:
                first.setdefault(event["ev"], event["first_index"])
        replay = Replay(tx_start=first["tx_packet"], rx_start=first["rx_batch"])
        outcome: list[object] = []
        for event in events(path):
            if event["ev"] == "tx_packet":
                outcome.append(replay.tx_packet(event))
            elif event["ev"] == "rx_batch":
                outcome.append(replay.rx_batch(event))
        assert not replay.fatal
        return outcome

    plain, fast = on_both(run)
    assert len(plain) > 100
    assert plain == fast


@given(st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64 - 1, 0xA907E61D << 32 | 1]))
@settings(max_examples=6, deadline=None)
def test_a_frame_number_of_64_bits_names_no_page(frame: int) -> None:
    """Compiled, 2^63 and more are negative numbers, and must not be places before the owners."""

    def run() -> tuple[object, ...]:
        machine = Machine(64, max_grant_frames=2)
        host, guest = machine.create_domain(0), machine.create_domain(1, grant_version=2)
        pages = host.alloc_pages(1)
        table = guest.table_pages(guest.setup_table(1, 1)[1][0], 1)
        entry = table.u32
        entry[8] = 1  # reference 2: GTF_permit_access to domain 0
        entry[10], entry[11] = frame & 0xFFFFFFFF, frame >> 32
        ops = memoryview(bytearray(3 * 40))
        own = struct.pack("<QHH4x", frame, DOMID_SELF, 0), struct.pack("<QHH4x", 2, 1, 0)
        page = struct.pack("<QHH4x", pages.first, DOMID_SELF, 0)
        for i, (source, dest, flags) in enumerate(
            [(own[0], own[1], 2), (own[1], own[0], 1), (own[1], page, 1)]
        ):
            ops[40 * i : 40 * i + 40] = source + dest + struct.pack("<HHhH", 60, flags, 0, 0)
        host.grant_copy(ops.cast("I"), 3)
        statuses = [struct.unpack_from("<h", ops, 40 * i + 36)[0] for i in range(3)]
        machine.close()
        return tuple(statuses)

    plain, fast = on_both(run)
    assert plain == fast
    assert all(status < 0 for status in plain)
