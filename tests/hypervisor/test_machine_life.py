"""Domains come and go while they grant, map, connect and defer; in the end nothing is left.

Every page carries a number that no other page ever had. Whoever may see a page must see its number
as long as the right lasts, also when the owner freed the page or was destroyed meanwhile.
"""

from __future__ import annotations

from attrs import define, field
from how_many import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xennet.hypervisor import Machine
from xennet.hypervisor.guest_kernel import GuestKernel, MappedGrant
from xennet.interface import HypercallError, OutOfFramesError
from xennet.memory import PageRun
from xennet.xenstored.service import XenStoreService

MAX_GUESTS = 4


@define(eq=False)
class Guest:
    """One life of a domain, as the test sees it. Numbers are those of the pages."""

    kernel: GuestKernel
    alive: bool = True
    pages: dict[int, PageRun] = field(factory=dict)
    grants: list[tuple[int, int, int]] = field(factory=list)  # grantee, gref, number
    mappings: dict[int, list[MappedGrant]] = field(factory=dict)
    ports: list[int] = field(factory=list)
    waiting: list[tuple[int, int]] = field(factory=list)  # for whom, port


class MachineLife(RuleBasedStateMachine):
    @initialize()
    def boot(self) -> None:
        self.machine = Machine(160, max_grant_frames=2)
        self.machine.create_domain()
        self.service = XenStoreService(self.machine)
        self.numbers = 0
        self.guests: list[Guest] = []
        self.dom0 = self.settle(self.machine.domain(0))
        self.empty = self.machine.memory.used

    def settle(self, domain) -> Guest:
        guest = Guest(GuestKernel(domain, self.service.connect(domain)))
        self.guests.append(guest)
        return guest

    def guest(self, data: st.DataObject) -> Guest:
        return data.draw(st.sampled_from([g for g in self.guests if g.alive]))

    def ran(self, guest: Guest):
        def run() -> None:
            assert guest.alive, "code of a dead domain ran"

        return run

    @rule(version=st.sampled_from((1, 2)))
    def create(self, version: int) -> None:
        if sum(guest.alive for guest in self.guests) <= MAX_GUESTS:
            self.settle(self.machine.create_domain(grant_version=version))

    @rule(data=st.data(), crash=st.booleans())
    def end(self, data: st.DataObject, crash: bool) -> None:
        guest = self.guest(data)
        if guest is self.dom0:
            return
        if crash:
            self.machine.shutdown_domain(guest.kernel.domid, 3)
        self.machine.destroy_domain(guest.kernel.domid)
        guest.alive = False

    @rule(data=st.data(), count=st.integers(1, 3))
    def allocate(self, data: st.DataObject, count: int) -> None:
        guest = self.guest(data)
        for _ in range(count):
            try:
                page = guest.kernel.alloc_pages(1)
            except OutOfFramesError:
                return
            assert not any(page.u8)
            self.numbers += 1
            page.u64[0] = self.numbers
            guest.pages[self.numbers] = page

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        guest = self.guest(data)
        if guest.pages:
            number = data.draw(st.sampled_from(sorted(guest.pages)))
            guest.kernel.free_pages(guest.pages.pop(number))

    @rule(data=st.data())
    def grant(self, data: st.DataObject) -> None:
        granter, grantee = self.guest(data), self.guest(data)
        if granter.pages:
            number = data.draw(st.sampled_from(sorted(granter.pages)))
            frame = granter.pages[number].first
            gref = granter.kernel.grants.grant_access(grantee.kernel.domid, frame)
            granter.grants.append((grantee.kernel.domid, gref, number))

    @rule(data=st.data())
    def end_access(self, data: st.DataObject) -> None:
        guest = self.guest(data)
        if guest.grants:
            grant = data.draw(st.sampled_from(guest.grants))
            if guest.kernel.grants.end_access(grant[1]):
                guest.grants.remove(grant)

    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        """A page that is granted and mapped at once, which chance alone makes too seldom."""
        granter, grantee = self.guest(data), self.guest(data)
        try:
            page = granter.kernel.alloc_pages(1)
        except OutOfFramesError:
            return
        self.numbers += 1
        page.u64[0] = self.numbers
        granter.pages[self.numbers] = page
        gref = granter.kernel.grants.grant_access(grantee.kernel.domid, page.first)
        granter.grants.append((grantee.kernel.domid, gref, self.numbers))
        self.map_one(granter, granter.grants[-1])

    @rule(data=st.data())
    def map(self, data: st.DataObject) -> None:
        granter = self.guest(data)
        if granter.grants:
            self.map_one(granter, data.draw(st.sampled_from(granter.grants)))

    def map_one(self, granter: Guest, grant: tuple[int, int, int]) -> None:
        domid, gref, number = grant
        mapper = next((g for g in self.guests if g.alive and g.kernel.domid == domid), None)
        if mapper is None:
            return
        try:
            mapping = mapper.kernel.map_grant(granter.kernel.domid, gref)
        except HypercallError:
            assert number not in granter.pages, "a valid grant was refused"
            return
        if number in granter.pages:
            mapper.mappings.setdefault(number, []).append(mapping)
        else:  # the frame came back to the granter, under another number
            mapper.kernel.unmap_grant(mapping)

    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        guest = self.guest(data)
        if guest.mappings:
            number = data.draw(st.sampled_from(sorted(guest.mappings)))
            guest.kernel.unmap_grant(guest.mappings[number].pop())
            if not guest.mappings[number]:
                del guest.mappings[number]

    @rule(data=st.data())
    def offer_channel(self, data: st.DataObject) -> None:
        guest, remote = self.guest(data), self.guest(data)
        port = guest.kernel.alloc_unbound(remote.kernel.domid)
        guest.kernel.on_event(port, self.ran(guest))
        guest.ports.append(port)
        guest.waiting.append((remote.kernel.domid, port))

    @rule(data=st.data())
    def bind_channel(self, data: st.DataObject) -> None:
        guest, remote = self.guest(data), self.guest(data)
        for offer in remote.waiting:
            if offer[0] == guest.kernel.domid:
                port = guest.kernel.bind_interdomain(remote.kernel.domid, offer[1])
                guest.kernel.on_event(port, self.ran(guest))
                guest.ports.append(port)
                remote.waiting.remove(offer)
                return

    @rule(data=st.data())
    def notify_and_defer(self, data: st.DataObject) -> None:
        guest = self.guest(data)
        guest.kernel.defer(self.ran(guest))
        for port in guest.ports:
            guest.kernel.notify(port)

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        loop = self.machine.run_loop
        for _ in range(min(3, len(loop.ready()))):
            loop.step(data.draw(st.integers(0, len(loop.ready()) - 1)))

    @invariant()
    def everybody_sees_the_pages_that_he_may_see(self) -> None:
        for guest in self.guests:
            if guest.alive:
                for number, page in guest.pages.items():
                    assert page.u64[0] == number
                for number, mappings in guest.mappings.items():
                    assert all(mapping.page.u64[0] == number for mapping in mappings)

    @invariant()
    def the_report_counts_what_is_held(self) -> None:
        report = {leaks.domid: leaks for leaks in self.machine.leaks().domains}
        for guest in self.guests:
            if guest.alive:
                leaks = report[guest.kernel.domid]
                assert leaks.pages == len(guest.pages)
                assert len(leaks.granted) == len(guest.grants)
                assert len(leaks.mappings) == sum(map(len, guest.mappings.values()))
                assert list(leaks.ports) == sorted(guest.ports)

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        for guest in self.guests:
            if guest.alive and guest is not self.dom0:
                self.machine.destroy_domain(guest.kernel.domid)
                guest.alive = False
        for mappings in self.dom0.mappings.values():
            for mapping in mappings:
                self.dom0.kernel.unmap_grant(mapping)
        for _, gref, _ in self.dom0.grants:
            assert self.dom0.kernel.grants.end_access(gref)
        for page in self.dom0.pages.values():
            self.dom0.kernel.free_pages(page)
        for port in self.dom0.ports:
            self.dom0.kernel.close_port(port)
        self.machine.run_loop.run_until_idle()
        assert not self.machine.leaks(), str(self.machine.leaks())
        assert self.machine.memory.used == self.empty
        assert self.machine.grant_tables.statistics.mapped == 0
        assert [domain.domid for domain in self.machine.domains] == [0]
        assert self.service.store.connections_of(0) == 1
        self.machine.close()


TestMachineLife = MachineLife.TestCase
TestMachineLife.settings = settings(max_examples=examples(75), stateful_step_count=50)
