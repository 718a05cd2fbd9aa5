"""Whatever is in the rings, the driver does its work or panics; nothing else ever happens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.netif import TX_REQUEST
from xennet.netback.xnb import BackendPanic, chain
from xennet.testing.xnb_world import E, M, XnbWorld, extra

RULES = {"A1/A2", "A3/A4", "A9", "A12/A13", "A14/A15", "A17", "B2", "B8"}

request = st.builds(
    TX_REQUEST.pack,
    st.sampled_from([10, 10, 10, 10, 11, 0xFFFFFFFF]),
    st.sampled_from([0, 0, 0, 100, 4000]),
    st.sampled_from([0, 0, M, M, E, E | M, 1, 2, 3, 0xFFFF]),
    st.integers(0, 300),
    st.sampled_from([0, 1, 14, 60, 60, 1514, 4096, 5000, 40000, 65535]),
)
slot = st.one_of(
    request,
    request,
    st.builds(lambda t, f: extra(type=t, flags=f), st.sampled_from([1, 1, 4]), st.integers(0, 1)),
    st.binary(min_size=12, max_size=12),
)


@given(
    pushes=st.lists(st.lists(slot, min_size=1, max_size=20), min_size=1, max_size=4),
    start=st.integers(0, 0xFFFFFFFF),
    lie=st.one_of(st.none(), st.integers(0, 0xFFFFFFFF)),
    waiting=st.lists(st.integers(1, 9000), max_size=3),
    posted=st.lists(st.sampled_from([10, 10, 11, 1000]), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_an_interrupt_returns_or_panics(pushes, start, lie, waiting, posted):
    world = XnbWorld()
    world.start_at(start)
    world.post(*posted)
    world.xnb.ifp.if_snd.extend(world.packet(length) for length in waiting)
    died = None
    try:
        for slots in pushes:
            world.put(*slots)
            world.push()
            world.notify()  # it need not have been asked
            if lie is not None:
                world.tx.sring.req_prod = lie
            world.interrupt(limit=300)
            waits = sum(1 for mbufc in world.xnb.ifp.if_snd for _ in chain(mbufc))
            assert world.pool.in_use == waits  # everything else was freed
            if lie is None:  # it never takes what was not offered
                assert (world.tx.req_prod_pvt - world.txb.req_cons) & 0xFFFFFFFF <= 80
    except BackendPanic as panic:
        died = panic.rule
    assert died in {None, *RULES}
