"""A domain whose own code, outside of this process, takes its upcalls, writes its store ring and
frees its memory page by page."""

from __future__ import annotations

import errno

import pytest

from xennet.abi.grant_table import GNTMAP_host_map, GNTMAP_readonly
from xennet.abi.xen import DOMID_SELF
from xennet.abi.xs_wire import XENSTORE_CONNECTED, XENSTORE_RECONNECT
from xennet.interface import HypercallError
from xennet.xenstore import XsError

#: The word of the store's page that says whether the domain is connected.
CONNECTION = 2068 // 4


def channel(site) -> tuple[int, int]:
    """A channel from ``back`` to ``front`` with nothing pending: (back's port, front's port)."""
    far = site.front.alloc_unbound(DOMID_SELF, site.back.domid)
    near = site.back.bind_interdomain(site.front.domid, far)
    site.run()
    return near, far


def pending(site, port: int) -> bool:
    return site.machine.channels.bits(site.front.domid).is_pending(port)


def masked(site, port: int) -> bool:
    return site.machine.channels.bits(site.front.domid).is_masked(port)


@pytest.fixture
def upcalls(site) -> list[int]:
    """The number of the run loop's step at each upcall of ``front``."""
    found: list[int] = []
    site.front.take_upcalls(lambda: found.append(site.machine.run_loop.steps))
    return found


def test_an_upcall_leaves_the_bits_to_the_domain(site, upcalls: list[int]) -> None:
    near, far = channel(site)
    site.front.unmask(far)
    site.back.send(near)
    site.run()
    assert len(upcalls) == 1
    assert pending(site, far)
    site.back.send(near)
    site.run()
    assert len(upcalls) == 1, "it is pending already"
    assert site.front.poll(far)
    site.back.send(near)
    site.run()
    assert len(upcalls) == 2


def test_a_domain_with_a_kernel_gets_no_other(site) -> None:
    site.front.take_upcalls(lambda: None)
    assert site.front.own_kernel
    with pytest.raises(ValueError, match="domain 1 has a kernel"):
        site.front.take_upcalls(lambda: None)
    _, far = channel(site)
    assert not site.back.own_kernel
    site.back.set_handler(far, lambda: None)
    with pytest.raises(ValueError, match="domain 2 has a kernel"):
        site.back.take_upcalls(lambda: None)


def test_its_own_kernel_begins_with_the_2_level_abi(site) -> None:
    near, far = channel(site)
    site.front.unmask(far)
    used = site.machine.memory.used
    upcalls: list[int] = []
    site.front.take_upcalls(lambda: upcalls.append(1))
    assert masked(site, far)
    assert site.front.evtchn_abi == "2l"
    assert (site.machine.memory.used < used) == (site.abi == "fifo")
    site.front.unmask(far)
    site.back.send(near)
    site.run()
    assert upcalls == [1]
    # It may change to the FIFO ABI by pages of its own.
    pages = site.front.alloc_pages(2)
    site.front.init_control(pages.first, 0, 0)
    site.front.alloc_unbound(DOMID_SELF, 0)
    site.front.expand_array(pages.first + 1)
    assert site.front.evtchn_abi == "fifo"
    site.machine.destroy_domain(site.front.domid)
    site.run()
    assert not [leaks for leaks in site.machine.leaks().domains if leaks.pages]


def test_close_and_reset_leave_the_mask_bits_as_xen_does(site, upcalls: list[int]) -> None:
    _, far = channel(site)
    site.front.unmask(far)
    site.front.close(far)
    assert not masked(site, far)
    site.front.reset(DOMID_SELF)
    assert not masked(site, far)


def test_no_upcall_of_a_domain_that_has_stopped(site, upcalls: list[int]) -> None:
    near, far = channel(site)
    site.front.unmask(far)
    site.back.send(near)
    site.front.shutdown(3)
    site.run()
    assert not upcalls


def test_a_poll_is_woken_by_a_masked_port_once(site, upcalls: list[int]) -> None:
    near, far = channel(site)
    site.front.mask(far)
    site.back.send(near)
    site.run()
    assert site.front.await_ports([far])
    assert site.front.poll(far)
    assert not site.front.await_ports([far])
    assert not upcalls
    for _ in range(2):
        site.back.send(near)
        site.run()
        assert pending(site, far)
        assert len(upcalls) == 1
        site.front.poll(far)


def test_another_poll_forgets_the_ports_of_the_first(site, upcalls: list[int]) -> None:
    near, far = channel(site)
    _, other = channel(site)
    site.front.mask(far)
    assert not site.front.await_ports([far])
    assert not site.front.await_ports([other])
    site.back.send(near)
    site.run()
    assert not upcalls


def test_a_virq_wakes_a_poll_too(site, upcalls: list[int]) -> None:
    from xennet.abi.xen import VIRQ_TIMER

    port = site.front.bind_virq(VIRQ_TIMER, 0)
    site.front.mask(port)
    assert not site.front.await_ports([port])
    site.machine.channels.raise_virq(site.front.domid, VIRQ_TIMER)
    site.run()
    assert len(upcalls) == 1


def test_a_poll_of_what_is_no_port_is_refused(site) -> None:
    with pytest.raises(HypercallError) as refusal:
        site.front.await_ports([0, 1 << 20])
    assert refusal.value.status == -errno.EINVAL


def test_a_closed_port_is_never_pending(site, upcalls: list[int]) -> None:
    assert not site.front.await_ports([0, 1])


def test_pages_of_a_run_are_freed_one_by_one(site) -> None:
    before = site.machine.memory.used
    run = site.front.alloc_pages(3)
    frames = range(run.first, run.first + 3)
    site.front.free_frame(frames[1])
    assert site.machine.memory.used == before + 2
    with pytest.raises(ValueError, match="released memoryview"):
        run.u8[0]
    site.front.adopt(frames[0]).u8[0] = 1
    with pytest.raises(ValueError, match="cannot free frame"):
        site.front.free_frame(frames[1])
    site.front.free_frame(frames[0])
    site.front.free_frame(frames[2])
    assert site.machine.memory.used == before


def test_pages_that_are_not_the_domains_to_free(site) -> None:
    foreign = site.back.alloc_pages(1)
    for frame in (foreign.first, site.front.shared_info.first, -1, 1 << 40):
        with pytest.raises(ValueError, match="cannot free frame"):
            site.front.free_frame(frame)


def test_what_a_domain_may_access(site) -> None:
    own, foreign = site.front.alloc_pages(1), site.back.alloc_pages(1)
    _, table = site.front.setup_table(DOMID_SELF, 1)
    for frame in (own.first, table[0], site.front.shared_info.first):
        assert site.front.can_access(frame, write=True)
    for frame in (foreign.first, -1, 1 << 40):
        assert not site.front.can_access(frame)
    gref = site.kernel(site.back).grants.grant_access(site.front.domid, foreign.first)
    _, handle, _ = site.front.map_grant_ref(
        site.back.domid, gref, GNTMAP_host_map | GNTMAP_readonly
    )
    assert site.front.can_access(foreign.first)
    assert not site.front.can_access(foreign.first, write=True)
    site.front.unmap_grant_ref(handle)
    assert not site.front.can_access(foreign.first)


def test_the_kernel_here_does_not_touch_the_ring_any_more(site) -> None:
    kernel = site.kernel(site.front)
    kernel.store.watch("device", "t", lambda *_: None)
    site.run()
    site.front.take_upcalls(lambda: None)
    before = bytes(site.front.store_ring.page.u8)
    with pytest.raises(XsError):
        kernel.store.read("domid")
    site.service.connect(site.dom0).write("/local/domain/1/device/x", "1")
    assert bytes(site.front.store_ring.page.u8[:1024]) == before[:1024]


def test_its_own_kernel_begins_the_ring_anew(site) -> None:
    kernel = site.kernel(site.front)
    kernel.store.watch("device", "t", lambda *_: None)
    site.run()
    ring, page = site.front.store_ring, site.front.store_ring.page
    site.front.take_upcalls(lambda: None)
    page.u32[CONNECTION] = XENSTORE_RECONNECT
    site.front.send(ring.port)
    site.run()
    assert page.u32[CONNECTION] == XENSTORE_CONNECTED
    assert bytes(page.u8[2048:2064]) == bytes(16), "both rings are empty"
    # XS_READ of "domid".
    request = b"".join(n.to_bytes(4, "little") for n in (2, 7, 0, 6)) + b"domid\0"
    page.u8[: len(request)] = request
    page.u32[2052 // 4] = len(request)
    site.front.send(ring.port)
    site.run()
    # An error or a value, but an answer to this request.
    assert page.u32[2060 // 4] > 16
    assert bytes(page.u8[1028:1032]) == (7).to_bytes(4, "little")
