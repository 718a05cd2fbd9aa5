"""Granter and hypervisor on one grant entry: each writes it while the other looks
(xen/grant_table.h, "Introducing a valid entry into the grant table", "Invalidating an unused
GTF_permit_access entry")."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import scenes
from gnttab_world import Own, Ref, World, element
from vif_peers import GUEST
from watching import loads

from xennet.abi.grant_table import GTF_PWT, GTF_permit_access, GTF_reading, GTF_readonly
from xennet.abi.xen import PAGE_SIZE
from xennet.adversary import STORE, UPDATE, Access, Adversary, interleavings, record
from xennet.engine.choice import using
from xennet.granter import IN_USE, end_access
from xennet.interface import HypercallError
from xennet.netfront import guest_rx, guest_tx

CALLER, GRANTER = 0, 1
LENGTH = 100
OLD, NEW, MINE = 0x11, 0xBB, 0x01
VERSIONS = pytest.mark.parametrize("version", [1, 2])
DIRECTIONS = pytest.mark.parametrize("writes", [False, True], ids=["source", "dest"])


class Entry:
    """A grant entry of domain 1 whose access for domain 0 has been ``ended``, or not: its frame is
    ``old``. ``new`` is another page of domain 1, ``mine`` one of domain 0."""

    def __init__(self, version: int, writes: bool, *, ended: bool) -> None:
        self.world = world = World((1, version))
        self.table = world.table[GRANTER]
        self.writes = writes
        self.old, self.new = world.page[GRANTER], world.new_page(GRANTER, NEW)
        self.mine = world.page[CALLER]
        self.gref = self.table.grant_access(CALLER, self.old)
        self.ended = ended and self.table.end_access(self.gref)
        self.status = ""

    def copy(self) -> None:
        ends = (Ref(GRANTER, self.gref), Own(self.mine))
        source, dest = reversed(ends) if self.writes else ends
        (self.status,) = self.world.copy(CALLER, element(source, dest, LENGTH))

    def map(self) -> None:
        status, _, self.frame = self.world.hypervisor.map_grant_ref(CALLER, GRANTER, self.gref, 2)
        self.status = "okay" if status == 0 else "refused"

    def grant_new(self) -> None:
        assert self.table.grant_access(CALLER, self.new) == self.gref

    def grant_elsewhere(self) -> None:
        """End the access, grant another page under the same reference, and use the old one for a
        secret."""
        self.end()
        if self.ended:
            self.grant_new()

    def end(self) -> None:
        """Take the access back and, if that succeeds, use the page for a secret."""
        self.ended = self.table.end_access(self.gref)
        if self.ended:
            self.world.fill(self.old, bytes([0xEE]) * PAGE_SIZE)

    @property
    def untouched(self) -> bool:
        """Whether page ``old`` has what its owner wrote."""
        old = set(self.world.bytes_of(self.old))
        return old == ({0xEE} if self.ended else {OLD})


def is_table(entry: Entry, access: Access) -> bool:
    """Whether it is an access to the granter's table or status words."""
    frames = entry.world.hypervisor.table_frames(GRANTER)
    return access.memory == "arena" and access.at // PAGE_SIZE in frames


@DIRECTIONS
@VERSIONS
def test_a_copy_loads_each_word_of_an_ordinary_entry_once(version: int, writes: bool) -> None:
    accesses, entry = record(lambda: Entry(version, writes, ended=False), Entry.copy)
    assert entry.status == "okay"
    accesses = [access for access in accesses if is_table(entry, access)]
    # The marks are swapped into the header that was checked. In version 2 they lie elsewhere, and
    # the header is checked again behind them.
    assert sorted(loads(accesses).values()) == ([1, 1] if version == 1 else [1, 1, 2])
    marked, unmarked = (access.value for access in accesses if access.kind == UPDATE)
    assert marked & IN_USE == (IN_USE if writes else GTF_reading)
    assert unmarked & IN_USE == 0
    assert not [access for access in accesses if access.kind == STORE]


@DIRECTIONS
@VERSIONS
@pytest.mark.parametrize("use", [Entry.copy, Entry.map])
def test_an_entry_that_becomes_valid_is_used_with_its_new_frame_or_not_at_all(
    use: Any, version: int, writes: bool
) -> None:
    outcomes = set()
    for access, entry in interleavings(
        lambda: Entry(version, writes, ended=True), use, lambda entry, _: entry.grant_new()
    ):
        outcomes.add(entry.status)
        assert set(entry.world.bytes_of(entry.old)) == {OLD}, access
        assert OLD not in entry.world.bytes_of(entry.mine), access
        if use is Entry.map and entry.status == "okay":
            assert entry.frame == entry.new, access
    assert outcomes <= {"okay", "general_error", "refused"}


@DIRECTIONS
@VERSIONS
def test_an_entry_that_was_ended_is_not_copied_through(version: int, writes: bool) -> None:
    for access, entry in interleavings(
        lambda: Entry(version, writes, ended=False), Entry.copy, lambda entry, _: entry.end()
    ):
        if not entry.ended:
            continue
        assert entry.untouched, access
        assert 0xEE not in entry.world.bytes_of(entry.mine), access
        assert entry.table.words[entry.gref << entry.table.shift] & 0xFFFF == 0, access


@VERSIONS
def test_an_entry_that_was_ended_is_not_mapped(version: int) -> None:
    for access, entry in interleavings(
        lambda: Entry(version, False, ended=False), Entry.map, lambda entry, _: entry.end()
    ):
        assert not (entry.ended and entry.status == "okay"), access


@DIRECTIONS
@VERSIONS
@pytest.mark.parametrize("use", [Entry.copy, Entry.map])
def test_an_entry_that_is_ended_and_granted_again_just_then_is_never_used_with_its_old_page(
    use: Any, version: int, writes: bool
) -> None:
    # The header is the same as before: only what is loaded behind the marks is what it means.
    moved = 0
    for access, entry in interleavings(
        lambda: Entry(version, writes, ended=False), use, lambda entry, _: entry.grant_elsewhere()
    ):
        if not entry.ended:
            continue
        assert entry.untouched, access
        assert 0xEE not in entry.world.bytes_of(entry.mine), access
        if use is Entry.map and entry.status == "okay":
            moved += entry.frame == entry.new
            assert entry.frame in (entry.old, entry.new), access
            assert entry.frame == entry.new or not entry.world.table[GRANTER].in_use(entry.gref)
    assert moved or use is Entry.copy


@VERSIONS
@pytest.mark.parametrize("use", [Entry.copy, Entry.map])
def test_an_access_that_is_used_just_then_does_not_end_before_its_use(
    use: Any, version: int
) -> None:
    """The other way round: the hypervisor comes between two accesses of the granter."""
    seen = set()
    for access, entry in interleavings(
        lambda: Entry(version, False, ended=False),
        lambda entry: setattr(entry, "ended", entry.table.end_access(entry.gref)),
        lambda entry, _: use(entry),
    ):
        seen.add((entry.ended, entry.status))
        mapped = use is Entry.map and entry.status == "okay"
        assert entry.ended is not mapped, access
    assert {status for _, status in seen} == {
        "okay",
        "general_error" if use is Entry.copy else "refused",
    }


def test_an_access_with_flags_of_its_own_does_not_end_before_its_use_either() -> None:
    def scene() -> Entry:
        entry = Entry(1, False, ended=False)
        entry.table.words[entry.gref << 1] |= GTF_PWT
        return entry

    def end(entry: Entry) -> None:
        words, status = entry.table.words, entry.table.status
        access = GTF_permit_access | CALLER << 16
        entry.ended = end_access((words, 1, status, 2, access, 0), entry.gref)

    seen = set()
    for access, entry in interleavings(scene, end, lambda entry, _: entry.map()):
        seen.add(entry.ended)
        assert entry.ended is (entry.status != "okay"), access
    assert seen == {True, False}


@VERSIONS
def test_an_entry_whose_flags_change_a_few_times_is_used(version: int) -> None:
    status, swaps, entry = unstable(version, times=4)
    assert (status, swaps) == ("okay", 5 if version == 1 else 1)
    assert entry.table.in_use(entry.gref)


def test_an_entry_that_never_stands_still_holds_nobody_up() -> None:
    status, swaps, entry = unstable(1, times=100)
    assert (status, swaps) == ("refused", 5)
    assert not entry.table.in_use(entry.gref)


def unstable(version: int, times: int) -> tuple[str, int, Entry]:
    """Map an entry whose owner changes a flag that means nothing here, ``times`` times, each behind
    an access to it: what came of it, and how often it was tried."""
    adversary = Adversary()
    with using(adversary):
        entry = Entry(version, True, ended=False)
    header = entry.gref << entry.table.shift
    swaps = changes = 0

    def change(access: Access) -> None:
        nonlocal swaps, changes
        if is_table(entry, access):
            swaps += access.kind == UPDATE
            if changes < times:
                changes += 1
                entry.table.words[header] ^= GTF_PWT

    with adversary.watching(change):
        entry.map()
    return entry.status, swaps, entry


@VERSIONS
def test_an_entry_that_becomes_readonly_just_then_is_written_or_not_as_its_marks_say(
    version: int,
) -> None:
    """It is mapped for reading already, and keeps the mark of that whatever happens."""

    def scene() -> Entry:
        entry = Entry(version, True, ended=False)
        assert entry.world.hypervisor.map_grant_ref(CALLER, GRANTER, entry.gref, 2 | 4)[0] == 0
        return entry

    def make_readonly(entry: Entry, _: Access) -> None:
        # Only while nobody writes (xen/grant_table.h, "Changing ... from writable to read-only").
        if not entry.world.marks(GRANTER, entry.gref) & ~GTF_reading:
            entry.table.words[entry.gref << entry.table.shift] |= GTF_readonly
            entry.ended = True

    outcomes = set()
    for access, entry in interleavings(scene, Entry.map, make_readonly):
        outcomes.add((entry.status, entry.ended))
        written = entry.status == "okay"
        assert not (written and entry.ended), access
        assert entry.world.marks(GRANTER, entry.gref) == (IN_USE if written else GTF_reading)
    assert outcomes == {("okay", False), ("refused", True)}


class Offer:
    """Domain 1 offers to take a page, and domain 0 gives it one."""

    def __init__(self, version: int) -> None:
        self.world = World((1, version))
        self.table = self.world.table[GRANTER]
        self.page = self.world.new_page(CALLER, MINE)
        self.gref = self.table.grant_transfer(CALLER)
        self.given: bool | None = None
        self.taken: int | str | None = "not looked"

    def give(self) -> None:
        if self.given is None:
            status = self.world.hypervisor.transfer(CALLER, self.page, GRANTER, self.gref)
            self.given = status == 0

    def take_back(self) -> None:
        with suppress(HypercallError):  # a page is on its way
            self.taken = self.table.end_transfer(self.gref)


@VERSIONS
@pytest.mark.parametrize(
    ("step", "act"), [(Offer.give, Offer.take_back), (Offer.take_back, Offer.give)]
)
def test_a_page_given_just_then_arrives_or_the_offer_was_gone(
    version: int, step: Any, act: Any
) -> None:
    for access, offer in interleavings(lambda: Offer(version), step, lambda offer, _: act(offer)):
        if offer.taken == "not looked":
            offer.take_back()
        assert offer.taken == (offer.page if offer.given else None), access


def test_B5_a_page_that_the_backend_maps_just_then_is_not_used_again() -> None:
    def write(back: Any) -> None:
        ident = scenes.requests(back, [scenes.FRAME])[0]
        back.gref = scenes.gref_of(back.tx_ring.sring.copy_slot(0))
        back.mapped = False
        back.answer(ident)

    def act(back: Any, _: Access) -> None:
        with suppress(HypercallError):
            back.host.map_grant(GUEST, back.gref, readonly=True)
            back.mapped = True

    for access, back in interleavings(
        scenes.tx_responses(write), lambda back: back.queue.tx.take_responses(), act
    ):
        assert not back.mapped or back.queue.tx.res[guest_tx.R_VERDICT] != guest_tx.OK, access


def map_just_then(back: Any, _: Access) -> None:
    with suppress(HypercallError):
        back.host.map_grant(GUEST, back.gref)
        back.mapped = True


@pytest.mark.parametrize(
    "slot", [0, 1, 5, 9, 11], ids=["frame", "chain", "GSO extra", "XDP extra", "prefix"]
)
def test_B5_a_buffer_that_the_backend_maps_just_then_keeps_the_mark_of_that(slot: int) -> None:
    """Whatever was in it, its access ends and it is posted again: the mark of a mapping that began
    in between is not written over, or its page would be given away while it is mapped (XSA-396)."""

    def write(back: Any) -> None:
        back.gref = int.from_bytes(back.rx_ring.sring.copy_slot(slot)[4:8], "little")
        back.mapped = False
        scenes.RX_RESPONSES["packets of every kind"](back)

    verdicts = set()
    for access, back in interleavings(
        scenes.rx_responses(write),
        lambda back: back.queue.rx.take_responses(256),
        map_just_then,
        lambda access: access.memory in ("grant table", "rx ring"),
    ):
        verdict = back.queue.rx.res[guest_rx.R_VERDICT]
        verdicts.add(verdict)
        marks = back.guest.grants.status[back.gref << 2] & IN_USE
        assert marks == (IN_USE if back.mapped else 0), access
        assert verdict in (guest_rx.OK, guest_rx.STILL_GRANTED)
    assert verdicts == {guest_rx.OK, guest_rx.STILL_GRANTED}
