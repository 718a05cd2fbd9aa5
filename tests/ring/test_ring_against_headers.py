"""xennet.ring against the real macros, on random indices anywhere in 2^32."""

from __future__ import annotations

import ctypes

import pytest
import ring_c_macros
from how_many import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xennet.bench.compiler import why_not
from xennet.ring import BackRing, FrontRing, overflows, rx_ring, tx_ring

MASK32 = 0xFFFFFFFF
RINGS = {"netif_tx": tx_ring, "netif_rx": rx_ring}


@pytest.fixture(scope="module")
def macros(tmp_path_factory):
    if reason := why_not("xen/io/netif.h"):
        pytest.skip(reason)
    return ring_c_macros.build(tmp_path_factory.mktemp("macros"))


#: Indices near each other, so that windows of all sorts come up, or anywhere.
base = st.one_of(st.just(0), st.integers(MASK32 - 600, MASK32), st.integers(0, MASK32))
near = st.integers(-300, 600)
state = st.builds(
    lambda start, steps, wild: [
        (start + step) & MASK32 if anywhere is None else anywhere
        for step, anywhere in zip(steps, wild, strict=True)
    ],
    base,
    st.lists(near, min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), st.none(), st.integers(0, MASK32)), min_size=6, max_size=6),
)


class Twin:
    """The same page twice: once for C, once for Python."""

    def __init__(self, macros, name, header):
        self.name = name
        self.macros = macros
        self.theirs = (ctypes.c_uint32 * 1024)(*header)
        self.u8 = memoryview(bytearray(4096))
        self.u32 = self.u8.cast("I")
        for i, word in enumerate(header):
            self.u32[i] = word
        self.sring = RINGS[name](self.u8, self.u32)

    def c(self, function, *args):
        call = getattr(self.macros, f"{self.name}_{function}")
        call.restype = ctypes.c_uint32
        return call(self.theirs, *map(ctypes.c_uint32, args))

    def same_page(self):
        return bytes(self.theirs) == bytes(self.u8)


@pytest.mark.parametrize("name", RINGS)
def test_ring_size_and_fresh_header_are_those_of_the_header(macros, name):
    """__RING_SIZE, SHARED_RING_INIT"""
    twin = Twin(macros, name, [7] * 16)
    size = getattr(macros, f"{name}_size")
    assert size() == twin.sring.nr_ents
    twin.c("shared_init")
    twin.sring.init()
    assert twin.same_page()


@pytest.mark.parametrize("name", RINGS)
@given(index=st.integers(0, MASK32))
@settings(max_examples=50, deadline=None)
def test_slots_lie_where_the_header_puts_them(macros, name, index):
    """RING_GET_REQUEST"""
    twin = Twin(macros, name, [])
    assert twin.c("request_at", index) == twin.sring.slot_offset(index)


@given(words=state)
@example(words=[0, 0, 0, 0, 0, 0])
@example(words=[1, 1, 0, 0, MASK32, MASK32])
@settings(max_examples=examples(400), deadline=None)
def test_front_ring_agrees_with_the_macros(macros, words):
    """RING_FREE_REQUESTS, RING_FULL, RING_HAS_UNCONSUMED_RESPONSES, RING_RESPONSE_PROD_OVERFLOW,
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY, RING_FINAL_CHECK_FOR_RESPONSES
    """
    *header, prod, cons = words
    for function, ours in {
        "free_requests": lambda ring: ring.free_requests & MASK32,
        "full": lambda ring: int(ring.full),
        "unconsumed_responses": lambda ring: ring.unconsumed_responses,
        "push_requests": lambda ring: int(ring.push_requests_and_check_notify()),
        "final_check_responses": lambda ring: int(ring.final_check_for_responses()),
    }.items():
        twin = Twin(macros, "netif_tx", header)
        front = FrontRing.attach(twin.sring, cons)
        front.req_prod_pvt = prod
        assert (function, twin.c(function, prod, cons)) == (function, ours(front))
        assert twin.same_page(), function
    twin = Twin(macros, "netif_tx", header)
    assert twin.c("response_prod_overflow", cons, prod) == overflows(prod, cons, 256)


@given(words=state)
@example(words=[0, 0, 0, 0, 0, 0])
@example(words=[1, 1, 0, 0, MASK32, MASK32])
@settings(max_examples=examples(400), deadline=None)
def test_back_ring_agrees_with_the_macros(macros, words):
    """RING_HAS_UNCONSUMED_REQUESTS, RING_REQUEST_CONS_OVERFLOW, RING_REQUEST_PROD_OVERFLOW,
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY, RING_FINAL_CHECK_FOR_REQUESTS
    """
    *header, prod, cons = words
    for function, ours in {
        "unconsumed_requests": lambda ring: ring.unconsumed_requests,
        "request_cons_overflow": lambda ring: int(ring.request_cons_overflow(cons)),
        "push_responses": lambda ring: int(ring.push_responses_and_check_notify()),
        "final_check_requests": lambda ring: int(ring.final_check_for_requests()),
    }.items():
        twin = Twin(macros, "netif_rx", header)
        back = BackRing.init(twin.sring)
        back.rsp_prod_pvt, back.req_cons = prod, cons
        assert (function, twin.c(function, prod, cons)) == (function, ours(back))
        assert twin.same_page(), function
    twin = Twin(macros, "netif_rx", header)
    assert twin.c("request_prod_overflow", prod, cons) == overflows(cons, prod, 256)
