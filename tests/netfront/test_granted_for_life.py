"""A frontend whose domain has no grant table at hand (interface.GuestGrants, shift 0): every page
that it shares is granted once, and kernels leave grants alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pytest
from vif_peers import HOST, RawBackend, Stack

from xennet.abi.grant_table import GTF_permit_access, GTF_readonly
from xennet.abi.words import RX_SLOTS, TX_SLOTS
from xennet.gnttab import GrantTable
from xennet.host.host import Host
from xennet.interface import HypercallError
from xennet.netfront.counters import NetfrontCounters
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.queue import Queue
from xennet.netfront.rx_pass import rx_batch
from xennet.testing.minimal_hypervisor import MinimalGrants

FRAMES = [bytes([size & 0xFF]) * size for size in (60, 9000, 4096, 1514)] * 50


class Keeper:
    """The grants of a domain whose table somebody else keeps; ``table`` is that."""

    shift = status_shift = 0

    def __init__(self, table: GrantTable | MinimalGrants) -> None:
        self.table = table
        self.granted: dict[int, bool] = {}

    def grant_access(self, domid: int, frame: int, readonly: bool = False) -> int:
        gref = self.table.grant_access(domid, frame, readonly)
        self.granted[gref] = readonly
        return gref

    def end_access(self, gref: int) -> bool:
        ended = self.table.end_access(gref)
        if ended:
            del self.granted[gref]
        return ended

    def end_all(self, grefs: Sequence[int]) -> list[int]:
        return [gref for gref in grefs if not self.end_access(gref)]

    @property
    def words(self) -> NoReturn:
        raise AssertionError("there is no table here")

    status = words

    def claim(self, count: int) -> NoReturn:
        raise AssertionError("nobody claims what others keep")


@pytest.fixture
def host(engine: str) -> Iterator[Host]:
    host = Host()
    yield host
    host.destroy()


def keeper_of(guest: Any) -> Keeper:
    """Take the table away from a guest."""
    keeper = guest.kernel._grants = Keeper(guest.kernel.grants)
    return keeper


def test_frames_cross_both_ways_and_no_grant_changes_meanwhile(host: Host) -> None:
    guest = host.add_guest()
    keeper = keeper_of(guest)
    host.boot()
    ends = Stack(), Stack()
    vif = host.plug(guest, 0, *ends)
    host.settle()
    queue = vif.netfront.queue  # type: ignore[union-attr]
    grants = dict(keeper.granted)
    entries = keeper.table.words.tobytes()
    for end in ends:
        end.to_send += FRAMES
    vif.kick_guest()
    vif.kick_host()
    host.settle()
    assert [end.received for end in ends] == [FRAMES, FRAMES]
    assert keeper.granted == grants
    assert keeper.table.words.tobytes() == entries
    # Two rings and the control ring with its page; buffers that are read, buffers that are written.
    readonly = [gref for gref, only in grants.items() if only]
    assert sorted(readonly) == sorted(queue.tx.put_args[1][1].tolist())
    assert len(grants) - len(readonly) == RX_SLOTS + 2
    made = vif.netfront.counters.tx.grants, vif.netfront.counters.rx.grants  # type: ignore[union-attr]
    assert made == (TX_SLOTS + 1, RX_SLOTS + 1)
    host.unplug(vif)
    host.settle()
    assert keeper.granted == {}
    assert not host.leaks()


def test_what_others_keep_is_valid_from_the_start_read_only_where_it_is_only_read() -> None:
    back = RawBackend()
    table = back.guest.grants
    keeper = Keeper(table)
    back.guest.grants = keeper  # type: ignore[assignment]
    queue = a_queue(back)
    for gref, readonly in keeper.granted.items():
        flags = GTF_permit_access | (GTF_readonly if readonly else 0)
        assert table.words[gref << 1] == flags | HOST << 16
    assert len(keeper.granted) == TX_SLOTS + RX_SLOTS + 2
    assert queue.disconnect() == []
    assert keeper.granted == {}


def test_references_that_run_out_leave_nothing_behind() -> None:
    back = RawBackend()
    table = back.guest.grants
    table.claim(len(table.free) - 300)
    frames = dict(back.machine.frames)
    back.guest.grants = keeper = Keeper(table)  # type: ignore[assignment]
    with pytest.raises(HypercallError):
        a_queue(back)
    assert (keeper.granted, back.machine.frames, len(table.free)) == ({}, frames, 300)


def test_a_page_that_the_backend_still_maps_at_the_end_is_kept_until_it_does_not() -> None:
    host = Host()
    guest = host.add_guest()
    keeper = keeper_of(guest)
    host.boot()
    vif = host.plug(guest, 0, Stack(), Stack())
    host.settle()
    queue = vif.netfront.queue  # type: ignore[union-attr]
    gref = queue.tx.put_args[1][1][7]
    other = host.dom0.kernel
    mapping = other.map_grant(guest.domid, gref, readonly=True)
    host.unplug(vif)
    host.settle()
    assert list(keeper.granted) == [gref]
    assert host.leaks()
    other.unmap_grant(mapping)
    (held,) = vif.netfront._held  # type: ignore[union-attr]
    assert held.end()
    assert keeper.granted == {}
    assert not host.leaks()
    host.destroy()


def a_queue(back: RawBackend) -> Queue:
    """One more frontend queue of the guest."""
    return Queue(
        back.guest,
        Negotiated(HOST),
        back.stack,
        NetfrontCounters(),
        back.broken.append,
        rx_batch(),
    )
