"""Whatever a program asks for, it gets an answer, and the machine's books stay right."""

from __future__ import annotations

from calling_program import BASE, Site
from hypothesis import given
from hypothesis import strategies as st

from xennet.abi import xen as xh

NUMBERS = [
    xh.__HYPERVISOR_event_channel_op,
    xh.__HYPERVISOR_grant_table_op,
    xh.__HYPERVISOR_memory_op,
    xh.__HYPERVISOR_sched_op,
    xh.__HYPERVISOR_xen_version,
]
#: Words that mean something somewhere: domids, references, ports, flags, counts, edges.
WORD = st.one_of(
    st.sampled_from([0, 1, 2, 3, 7, 8, 9, 0x7FF0, 0x7FF4, 0x1000, 0xFFFF, 0xFFFFFFFF, BASE]),
    st.integers(0, 0xFFFFFFFF),
)
POINTER = st.one_of(
    st.sampled_from([BASE, BASE + 4096, BASE + 8184, BASE - 1, 0, 8, 1 << 63, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
COUNT = st.one_of(st.integers(0, 4), st.sampled_from([1024, 1025, 1 << 31, (1 << 64) - 1]))
CALL = st.tuples(
    st.sampled_from(NUMBERS), st.integers(0, 15) | st.integers(0, (1 << 64) - 1), POINTER, COUNT
)


@given(st.lists(st.tuples(st.booleans(), CALL, st.lists(WORD, max_size=24)), max_size=12))
def test_no_call_raises_anything_but_an_errno_and_nothing_of_it_outlives_its_domain(
    calls: list[tuple[bool, tuple[int, int, int, int], list[int]]],
) -> None:
    site = Site()
    machine = site.machine
    used = machine.memory.used
    try:
        spare = machine.create_domain(5, name="spare")
        spare.alloc_pages(3)
        for whose, (number, a1, a2, a3), words in calls:
            program = site.front if whose else site.back
            at = BASE + (a2 - BASE) if BASE <= a2 < BASE + 8000 else BASE
            data = b"".join(word.to_bytes(4, "little") for word in words)
            room = BASE + len(program.memory.data) - at
            program.memory.write(at, data[:room])
            program.call(number, a1, a2, a3)
            machine.run_loop.run_until_idle()
        assert spare.allocated == 3
        for domid in (1, 2, 5):
            machine.destroy_domain(domid)
        machine.run_loop.run_until_idle()
        assert machine.memory.used == used - sum_of_a_domain(used)
        assert not machine.leaks()
    finally:
        machine.close()


def sum_of_a_domain(used: int) -> int:
    """The pages of the two domains that a site begins with."""
    site = Site()
    try:
        for domid in (1, 2):
            site.machine.destroy_domain(domid)
        return used - site.machine.memory.used
    finally:
        site.machine.close()
