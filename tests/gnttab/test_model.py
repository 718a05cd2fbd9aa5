"""Random use and abuse of grant tables against a plain model of them."""

from __future__ import annotations

from gnttab_world import READONLY_MAP, WRITE, Own, Ref, World, element, status_name
from grant_model import GrantModel, Key
from how_many import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from xennet.abi.grant_table import (
    GRANT_ENTRY_V1,
    GRANT_ENTRY_V2_FULL,
    GRANT_ENTRY_V2_SUB,
    GRANT_ENTRY_V2_TRANSITIVE,
    GNTMAP_host_map,
    GTF_accept_transfer,
    GTF_permit_access,
    GTF_readonly,
    GTF_sub_page,
    GTF_transitive,
    GTF_type_mask,
)
from xennet.abi.xen import DOMID_SELF
from xennet.gnttab.entry import GNTPIN_hstr_inc, GNTPIN_hstw_inc

DOMAINS = st.integers(0, 2)
SOME_DOMID = st.sampled_from([0, 1, 2, 3])
GREFS = [8, 9]
GREF = st.sampled_from(GREFS)
SOME_GREF = st.sampled_from([*GREFS, 512])
OFFSET = st.sampled_from([0, 0, 0, 0, 99, 100, 4095])
LENGTH = st.sampled_from([1, 1, 1, 60, 60, 0, 100, 4096, 4097])
RIGHTS = st.sampled_from([0, 0, GTF_readonly])
#: Which of the things that would do; None: anything, whether it would do or not.
CHOICE = st.one_of(st.none(), *[st.integers(0, 7)] * 4)
#: One end of a copy: a reference that should do, an own page, or something that hardly does.
END = st.tuples(st.sampled_from(["aimed", "aimed", "own", "wild"]), st.integers(0, 7), OFFSET)


class Grants(RuleBasedStateMachine):
    @initialize(versions=st.tuples(*[st.sampled_from([1, 2])] * 3))
    def set_up(self, versions: tuple[int, ...]) -> None:
        # Small numbers are no frames: an entry that was something else must not, by chance, grant
        # a page of a table, whose contents the model does not follow.
        self.world = world = World(versions, max_frames=1, first_frame=300)
        lengths = {domid: len(world.table[domid]) for domid in range(3)}
        self.model = GrantModel(versions, lengths)
        self.handles: list[tuple[int, int]] = []
        self.fills = 0
        for domid in range(3):
            world.table[domid].claim(len(GREFS))
            self.adopt(world.page[domid], domid)
            self.new_page(domid)
        for domid in range(3):
            for gref in GREFS:
                self.grant(domid, gref, (domid + 1 + gref % 2) % 3, page=gref, rights=0)

    # Memory

    def adopt(self, frame: int, domid: int) -> None:
        self.model.owner[frame] = domid
        self.model.content[frame] = bytearray(self.world.bytes_of(frame))

    @rule(domid=DOMAINS)
    def new_page(self, domid: int) -> None:
        if len(self.model.owner) < 8:
            self.fills += 1
            self.adopt(self.world.new_page(domid, 0x80 | self.fills % 0x80), domid)

    def frame(self, domid: int, choice: int | None) -> int:
        """A page of a domain, or (None) of another one, or nobody's."""
        owned = [f for f, owner in sorted(self.model.owner.items()) if owner == domid]
        others = [500, *sorted(set(self.model.owner) - set(owned))]
        pages = others if choice is None else owned or [500]
        return pages[(choice or 1) % len(pages)]

    def granted_to(self, domid: int, *kinds: int) -> list[Key]:
        """The entries of those GTF_ types whose grantee is ``domid``."""
        headers = {key: self.model.header(key) for key in sorted(self.model.entries)}
        return [
            key
            for key, (flags, grantee) in headers.items()
            if flags & GTF_type_mask in kinds and grantee == domid
        ]

    def aim(self, domid: int, choice: int | None, *kinds: int) -> Key:
        """One of the entries granted to a domain, or (None, or there is no such) any."""
        keys = self.granted_to(domid, *kinds)
        if choice is None or not keys:
            return ((choice or 0) % 4, 512 if choice == 7 else GREFS[0])
        return keys[choice % len(keys)]

    # The guests' own doing

    def store(self, key: Key, raw: bytes) -> None:
        size = len(raw)
        table = self.world.table[key[0]].words.cast("B")
        table[key[1] * size : (key[1] + 1) * size] = raw
        self.model.entries[key] = bytearray(raw)

    @rule(granter=DOMAINS, gref=GREF, grantee=DOMAINS, page=CHOICE, rights=RIGHTS)
    def grant(self, granter: int, gref: int, grantee: int, page: int | None, rights: int) -> None:
        """A guest introduces an entry, perhaps over one that is in use."""
        fields = (GTF_permit_access | rights, grantee)
        frame = self.frame(granter, page)
        if self.model.versions[granter] == 1:
            self.store((granter, gref), GRANT_ENTRY_V1.pack(*fields, frame))
        else:
            self.store((granter, gref), GRANT_ENTRY_V2_FULL.pack(*fields, 0, frame))

    @rule(
        granter=DOMAINS,
        gref=GREF,
        grantee=DOMAINS,
        page=CHOICE,
        rights=RIGHTS,
        part=st.sampled_from([(0, 4096), (100, 60), (99, 1), (4000, 0xFFFF), (0, 0)]),
    )
    def grant_part(
        self,
        granter: int,
        gref: int,
        grantee: int,
        page: int | None,
        rights: int,
        part: tuple[int, int],
    ) -> None:
        if self.model.versions[granter] == 2:
            flags = GTF_permit_access | GTF_sub_page | rights
            raw = GRANT_ENTRY_V2_SUB.pack(flags, grantee, *part, self.frame(granter, page))
            self.store((granter, gref), raw)

    @rule(granter=DOMAINS, gref=GREF, grantee=DOMAINS, behind=CHOICE, rights=RIGHTS)
    def pass_on(
        self, granter: int, gref: int, grantee: int, behind: int | None, rights: int
    ) -> None:
        if self.model.versions[granter] == 2:
            key = self.aim(granter, behind, GTF_permit_access, GTF_transitive)
            raw = GRANT_ENTRY_V2_TRANSITIVE.pack(
                GTF_transitive | rights, grantee, key[0], 0, key[1]
            )
            self.store((granter, gref), raw)

    @rule(granter=DOMAINS, gref=GREF, giver=DOMAINS)
    def offer(self, granter: int, gref: int, giver: int) -> None:
        codec = (GRANT_ENTRY_V1, GRANT_ENTRY_V2_FULL)[self.model.versions[granter] - 1]
        body = [0] * (len(codec.fields) - 2)
        self.store((granter, gref), codec.pack(GTF_accept_transfer, giver, *body))

    @rule(
        granter=DOMAINS,
        gref=GREF,
        junk=st.one_of(
            st.binary(min_size=16, max_size=16),
            st.builds(lambda flags: flags.to_bytes(2, "little"), st.integers(0, 0x1FF)),
        ),
    )
    def scribble(self, granter: int, gref: int, junk: bytes) -> None:
        """Any bytes at all, or only other flags."""
        raw = self.model.entry((granter, gref))
        self.store((granter, gref), (junk + raw[len(junk) :])[: len(raw)])

    @rule(granter=DOMAINS, gref=GREF, marks=st.integers(0, 0xFFFF))
    def scribble_marks(self, granter: int, gref: int, marks: int) -> None:
        if self.model.versions[granter] == 2:
            self.world.table[granter].status[gref] = marks
            self.model.marks[granter, gref] = marks

    @rule(granter=DOMAINS, gref=GREF)
    def end_access(self, granter: int, gref: int) -> None:
        table, key = self.world.table[granter], (granter, gref)
        marks = self.model.header(key)[0]
        if self.model.versions[granter] == 2:
            marks = self.model.marks.get(key, 0)
        ended = table.end_access(gref)
        assert ended == (marks & WRITE == 0)
        if ended:
            self.model.entry(key)[0:4] = bytes(4)
            assert list(table.claim(1)) == [gref]

    # Hypercalls

    @rule(caller=DOMAINS, choice=CHOICE, write=st.booleans())
    def map(self, caller: int, choice: int | None, write: bool) -> None:
        if len(self.handles) > 100:
            return
        key = self.aim(caller, choice, GTF_permit_access)
        expected = self.model.map(caller, key, write)
        flags = GNTMAP_host_map if write else READONLY_MAP
        status, handle, frame = self.world.hypervisor.map_grant_ref(caller, *key, flags)
        assert status_name(status) == expected
        if expected == "okay":
            use = self.model.uses[key][-1]
            assert frame == use.frame
            self.handles.append((caller, handle))
            self.model.handles[caller, handle] = (key, use)

    @precondition(lambda self: self.handles)
    @rule(choice=st.integers(0, 200))
    def unmap(self, choice: int) -> None:
        caller, handle = self.handles.pop(choice % len(self.handles))
        self.model.end(*self.model.handles.pop((caller, handle)))
        assert self.world.hypervisor.unmap_grant_ref(caller, handle) == 0

    @rule(caller=DOMAINS, handle=st.integers(0, 5))
    def unmap_what_is_not_mapped(self, caller: int, handle: int) -> None:
        if (caller, handle) not in self.model.handles:
            status = self.world.hypervisor.unmap_grant_ref(caller, handle)
            assert status_name(status) == "bad_handle"

    def end(self, caller: int, kind: str, choice: int, offset: int) -> Ref | Own:
        if kind == "aimed":
            return Ref(*self.aim(caller, choice, GTF_permit_access, GTF_transitive), offset)
        if kind == "own":
            return Own(self.frame(caller, choice), offset)
        wild: list[Ref | Own] = [
            Own(self.frame(caller, None), offset),
            Own(self.frame(caller, choice), offset, domid=1),
            Ref(DOMID_SELF, GREFS[0], offset),
            Ref(choice, GREFS[0], offset),
        ]
        return wild[choice % 4]

    @rule(caller=DOMAINS, ops=st.lists(st.tuples(END, END, LENGTH), min_size=1, max_size=3))
    def copy(
        self, caller: int, ops: list[tuple[tuple[str, int, int], tuple[str, int, int], int]]
    ) -> None:
        elements, expected = [], []
        for source, dest, length in ops:
            ends = self.end(caller, *source), self.end(caller, *dest)
            elements.append(element(*ends, length))
            expected.append(self.model.copy(caller, *ends, length))
        assert self.world.copy(caller, *elements) == expected

    @rule(caller=DOMAINS, page=CHOICE, choice=CHOICE)
    def transfer(self, caller: int, page: int | None, choice: int | None) -> None:
        frame = self.frame(caller, page)
        key = self.aim(caller, choice, GTF_accept_transfer)
        expected = self.model.transfer(caller, frame, key)
        status = self.world.hypervisor.transfer(caller, frame, *key)
        assert status_name(status) == expected

    @rule(domid=DOMAINS, a=GREF, b=SOME_GREF)
    def swap(self, domid: int, a: int, b: int) -> None:
        keys = (domid, a), (domid, b)
        status = status_name(self.world.hypervisor.swap_grant_ref(domid, a, b))
        if b >= self.model.table_length[domid]:
            assert status == "bad_gntref"
        elif a != b and any(self.model.uses.get(key) for key in keys):
            assert status == "eagain"
        else:
            assert status == "okay"
            for what, nothing in ((self.model.entries, None), (self.model.marks, 0)):
                values = [what.get(key, nothing) for key in reversed(keys)]
                for key, value in zip(keys, values, strict=True):
                    if value is None:
                        what.pop(key, None)
                    else:
                        what[key] = value  # type: ignore[assignment]

    # What must agree

    @invariant()
    def agrees_with_the_model(self) -> None:
        world, model = self.world, self.model
        for domid in range(3):
            size = 8 * model.versions[domid]
            table = world.table[domid].words.cast("B")
            for gref in GREFS:
                key = (domid, gref)
                assert bytes(table[gref * size : (gref + 1) * size]) == model.entry(key)
                if model.versions[domid] == 2:
                    assert world.table[domid].status[gref] == model.marks.get(key, 0)
            assert world.pins(domid) == {
                gref: sum(GNTPIN_hstw_inc if use.write else GNTPIN_hstr_inc for use in uses)
                for (granter, gref), uses in model.uses.items()
                if granter == domid and uses
            }
        for frame, owner in model.owner.items():
            assert world.memory.owner[frame] == owner
            assert world.bytes_of(frame) == model.content[frame]
        assert world.hypervisor.statistics.mapped == len(self.handles)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        while self.handles:
            self.unmap(0)
        self.agrees_with_the_model()
        for domid in range(3):
            assert world_is_idle(self.world, domid)


def world_is_idle(world: World, domid: int) -> bool:
    """No pins, no mappings, nothing reachable but the domain's own pages."""
    return (
        world.pins(domid) == {}
        and world.hypervisor.mappings(domid) == []
        and not world.spaces[domid].mapped
        and not world.spaces[domid].writable
    )


TestGrants = Grants.TestCase
TestGrants.settings = settings(
    max_examples=examples(180), stateful_step_count=60, deadline=None, report_multiple_bugs=False
)
