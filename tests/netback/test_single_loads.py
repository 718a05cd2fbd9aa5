"""A word of a shared ring page is loaded once in a pass, also for the evidence of a verdict: the
peer may write another one at any time, and a message must not contradict what was judged (F14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from vif_peers import RawBackend, RawFrontend

from xennet.abi.words import REQ_PROD, RSP_PROD
from xennet.engine import using
from xennet.netback.verdict import rx_error, tx_error
from xennet.ring import MASK32


class PeersPage:
    """The words of a ring page whose peer writes another value after each load of ``moving``."""

    def __init__(self, words: memoryview, moving: int = -1) -> None:
        self._words = words
        self._moving = moving
        self.loads: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, at: int) -> int:
        self.loads[at] += 1
        value = int(self._words[at])
        if at == self._moving:
            self._words[at] = (value + 1) & MASK32
        return value

    def __setitem__(self, at: int, value: int) -> None:
        self._words[at] = value


@pytest.mark.parametrize("start", [0, 2**32 - 2])
def test_F1_names_the_req_prod_that_was_judged_on_guest_transmit(start: int) -> None:
    with using("plain"):
        front = RawFrontend(start=start)
    tx = front.queue.tx
    front.tx_ring.sring.req_prod = (start + 257) & MASK32
    page = PeersPage(tx.gather_args[0], REQ_PROD)
    tx._gather(256, tx.log.arg(), page, *tx.gather_args[1:])
    error = tx_error(tx.res)
    assert (error.rule, error.raw) == ("F1", ((start + 257) & MASK32,))
    assert page.loads[REQ_PROD] == 1


@pytest.mark.parametrize("start", [0, 2**32 - 2])
def test_F1_names_the_req_prod_that_was_judged_on_guest_receive(start: int) -> None:
    with using("plain"):
        front = RawFrontend(start=start)
    rx = front.queue.rx
    front.rx_ring.sring.req_prod = (start + 257) & MASK32
    page = PeersPage(rx._fill_args[0], REQ_PROD)
    rx._fill(0, 0, rx._log.arg(), page, *rx._fill_args[1:])
    error = rx_error(rx.res)
    assert (error.rule, error.raw) == ("F1", ((start + 257) & MASK32,))
    assert page.loads[REQ_PROD] == 1


def loads_of(kernel: str, words: memoryview, run: Callable[[PeersPage], object]) -> Counter[int]:
    """What a kernel loads of a page of which every slot is random."""
    page = PeersPage(words)
    run(page)
    assert page.loads, kernel
    return page.loads


@pytest.mark.parametrize("seed", range(40))
def test_no_word_is_loaded_twice_by_a_kernel_of_the_backend(seed: int) -> None:
    random = Random(seed)
    with using("plain"):
        front = RawFrontend(rx_buffers=100)
    tx, rx = front.queue.tx, front.queue.rx
    # Flags and sizes that are likely to make chains and extras; any bytes at all elsewhere.
    for _ in range(250):
        flags = random.choice([0, 0, 4, 8, 12])
        front.tx(random.choice([60, 100, 0, 5000]), flags, offset=random.choice([0, 0, 4000]))
    front.tx_ring.push_requests()
    gathered = loads_of(
        "gather",
        tx.gather_args[0],
        lambda page: tx._gather(256, tx.log.arg(), page, *tx.gather_args[1:]),
    )
    assert set(gathered.values()) == {1}
    batch = rx.refill()
    for _ in range(20):
        gso = random.choice([0, 0, 1448])
        batch.append(bytes(random.randrange(14, 9000)), gso_size=gso, gso_type=1 if gso else 0)
    filled = loads_of(
        "fill",
        rx._fill_args[0],
        lambda page: rx._fill(0, batch.count, rx._log.arg(), page, *rx._fill_args[1:]),
    )
    assert set(filled.values()) == {1}


@pytest.mark.parametrize("seed", range(40))
def test_no_slot_is_loaded_twice_by_a_kernel_of_the_frontend(seed: int) -> None:
    random = Random(seed)
    with using("plain"):
        back = RawBackend()
    tx, rx = back.queue.tx, back.queue.rx
    for _ in range(30):
        back.rx(bytes(60), random.choice([0, 0, 4, 8]), status=random.choice([60, 60, 5000, -1]))
    back.rx_ring.push_responses()
    received = loads_of(
        "receive",
        rx._receive_args[0],
        lambda page: rx._receive(256, rx._log.arg(), page, *rx._receive_args[1:]),
    )
    # The index is looked at once more after an event was asked for.
    assert received.pop(RSP_PROD) <= 2
    slots = {at: count for at, count in received.items() if at >= 16}
    assert slots
    assert set(slots.values()) == {1}

    back.stack.to_send += [bytes(60)] * 20
    back.run()
    for raw in back.requests():
        back.answer(random.choice([int.from_bytes(raw[8:10], "little"), 300]))
    back.tx_ring.push_responses()
    reaped = loads_of(
        "reap",
        tx.reap_args[0],
        lambda page: tx._reap(tx.log.arg(), page, *tx.reap_args[1:]),
    )
    assert reaped.pop(RSP_PROD) <= 2
    assert {count for at, count in reaped.items() if at >= 16} == {1}
