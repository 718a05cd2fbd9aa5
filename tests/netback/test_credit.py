"""The rate limit: parsing, bursts, waiting, and changes of the rate (tx_credit_exceeded)."""

from __future__ import annotations

import pytest
from back_world import BE, BackWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import RawFrontend

from xennet.abi.netif import NETTXF_more_data
from xennet.netback.credit import MIN_BURST, NO_LIMIT, Rate, parse_rate
from xennet.netback.policy import VifOptions

MS = 1_000_000
#: 10,000 bytes every 50 ms.
SLOW = Rate(10_000, 50_000)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        (b"1000000,50000", Rate(1_000_000, 50_000)),
        (b"1,1", Rate(1, 1)),
        (b"0,50000", NO_LIMIT),
        (b"1000,0", NO_LIMIT),
        (b"", NO_LIMIT),
        (b"1000", NO_LIMIT),
        (b"1000,", NO_LIMIT),
        (b",50000", NO_LIMIT),
        (b"-5,50000", NO_LIMIT),
        (b"1000,50000x", NO_LIMIT),
        (b"1000 ,50000", NO_LIMIT),
        (b"\xff\x00", NO_LIMIT),
        (b"9" * 2000 + b",1", NO_LIMIT),
    ],
)
def test_a_rate_is_two_numbers_and_anything_else_is_no_limit(text: bytes, rate: Rate) -> None:
    assert parse_rate(text) == rate


def send(front: RawFrontend, *sizes: int) -> int:
    """Send packets of several slots where they need it; how many arrived so far."""
    for size in sizes:
        left = size
        first = True
        while left:
            piece = min(left, 4096)
            left -= piece
            front.tx(size if first else piece, NETTXF_more_data if left else 0)
            first = False
    front.push()
    return len(front.stack.received)


def later(front: RawFrontend, ns: int) -> int:
    front.machine.advance(ns)
    front.machine.run()
    return len(front.stack.received)


def test_without_a_rate_nothing_waits() -> None:
    front = RawFrontend()
    assert send(front, *[60_000] * 10) == 10
    assert front.counters.rate_limited == 0


def test_a_queue_begins_with_the_credit_of_one_period() -> None:
    front = RawFrontend(rate=SLOW)
    assert send(front, 4000, 4000, 2000, 14) == 3
    assert front.counters.rate_limited == 1


def test_what_is_not_covered_waits_for_the_end_of_the_period_without_an_event() -> None:
    front = RawFrontend(rate=SLOW)
    assert send(front, 4000, 4000, 4000) == 2
    assert later(front, 49 * MS) == 2
    assert later(front, 1 * MS) == 3


def test_requests_pushed_while_waiting_do_not_pass() -> None:
    front = RawFrontend(rate=SLOW)
    send(front, 4000, 4000, 4000)
    assert send(front, 60) == 2
    assert later(front, 50 * MS) == 4


def test_nothing_is_answered_while_it_waits() -> None:
    front = RawFrontend(rate=SLOW)
    send(front, 4000, 4000, 4000)
    assert front.statuses() == [0, 0]
    later(front, 50 * MS)
    assert front.statuses() == [0]


def test_a_packet_larger_than_the_credit_of_a_period_saves_up_for_it() -> None:
    front = RawFrontend(rate=SLOW)
    assert send(front, 35_000) == 0
    # 10,000 are there; three periods make 40,000.
    assert later(front, 50 * MS) == 0
    assert later(front, 50 * MS) == 0
    assert later(front, 50 * MS) == 1


def test_any_packet_goes_at_last_because_credit_piles_up_to_128_kib() -> None:
    front = RawFrontend(rate=Rate(5_000, 1_000))
    assert send(front, 65_535) == 0
    for _ in range(20):
        later(front, MS)
    assert len(front.stack.received) == 1


def test_an_idle_guest_gains_one_period_not_all_that_went_by() -> None:
    front = RawFrontend(rate=SLOW)
    send(front, 4000, 4000)
    later(front, 10**12)
    # 2,000 were left.
    assert send(front, 4000, 4000, 4000) == 5
    assert front.counters.rate_limited == 0
    assert send(front, 14) == 5
    assert front.counters.rate_limited == 1


def test_every_queue_has_its_own_credit() -> None:
    world = BackWorld(own={"rate": "10000,50000"}, options=VifOptions(max_queues=2))
    world.connect(2)
    for queue in world.queues:
        for _ in range(3):
            queue.send(4000)
    assert len(world.stack.received) == 4


def test_the_rate_is_obeyed_only_where_the_toolstack_wrote_it() -> None:
    world = BackWorld()
    world.connect(rate="1,1000000")
    for _ in range(20):
        world.queues[0].send(4000)
    assert len(world.stack.received) == 20


def test_a_backend_without_rate_limits_does_not_look() -> None:
    world = BackWorld(own={"rate": "1,1000000"}, options=VifOptions(rate_limit=False))
    world.connect()
    world.queues[0].send(4000)
    assert len(world.stack.received) == 1


@pytest.mark.parametrize("rate", ["", "junk", "0,50000"])
def test_taking_the_limit_away_lets_go_at_once_what_waits(rate: str) -> None:
    world = BackWorld(own={"rate": "10000,50000"})
    world.connect()
    for _ in range(30):
        world.queues[0].send(4000)
    assert len(world.stack.received) == 2
    world.nodes.write(f"{BE}/rate", rate)
    world.run()
    assert len(world.stack.received) == 30


def test_a_limit_set_while_connected_takes_effect() -> None:
    world = BackWorld()
    world.connect()
    world.nodes.write(f"{BE}/rate", "10000,50000")
    world.run()
    for _ in range(5):
        world.queues[0].send(4000)
    assert len(world.stack.received) == 2


def test_a_higher_rate_adds_its_credit_to_who_waits() -> None:
    world = BackWorld(own={"rate": "10000,50000"})
    world.connect()
    for _ in range(5):
        world.queues[0].send(4000)
    world.nodes.write(f"{BE}/rate", "12000,50000")
    world.run()
    assert len(world.stack.received) == 5


def test_a_lower_rate_takes_credit_away() -> None:
    world = BackWorld(own={"rate": "100000,50000"})
    world.connect()
    world.nodes.write(f"{BE}/rate", "4000,50000")
    world.run()
    for _ in range(3):
        world.queues[0].send(4000)
    assert len(world.stack.received) == 1


def test_a_timer_that_is_still_running_dies_with_the_connection() -> None:
    world = BackWorld(own={"rate": "10000,50000"})
    world.connect()
    for _ in range(5):
        world.queues[0].send(4000)
    world.state(6)
    world.advance(10**9)
    assert len(world.stack.received) == 2
    assert world.held() == (0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.builds(Rate, st.integers(1_000, 300_000), st.sampled_from([1_000, 7_500, 50_000])),
    steps=st.lists(
        st.tuples(st.lists(st.integers(14, 65_535), max_size=3), st.integers(0, 120 * MS)),
        max_size=30,
    ),
)
def test_delivered_bytes_never_exceed_the_rate_and_one_burst_and_all_arrive(
    rate: Rate, steps: list[tuple[list[int], int]]
) -> None:
    front = RawFrontend(rate=rate)
    wanted = 0
    began = front.host.now

    def check() -> None:
        elapsed = front.host.now - began
        credit = rate.bytes * (elapsed // (rate.usec * 1000)) + rate.bytes
        assert front.counters.tx.bytes <= credit
        assert front.counters.tx.bytes <= rate.bytes * elapsed / (rate.usec * 1000) + max(
            MIN_BURST, rate.bytes
        )

    for sizes, wait in steps:
        front.responses()
        slots = sum(-(-size // 4096) for size in sizes)
        if front.tx_ring.free_requests >= slots:
            send(front, *sizes)
            wanted += len(sizes)
        check()
        later(front, wait)
        check()
    # However little credit a period brings, it piles up: nothing waits for ever.
    for _ in range(256 * 70):
        if len(front.stack.received) == wanted:
            break
        later(front, rate.usec * 1000)
    assert len(front.stack.received) == wanted
