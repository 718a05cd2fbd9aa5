"""Rings in the machine: built, introduced, used by guests, broken, and gone with their domains."""

from __future__ import annotations

import random

import pytest
from ring_domains import CONNECTION, ERROR, REQ_CONS, REQ_PROD, RSP_PROD, Site, write

from xennet.abi.event_channel import EVTCHNSTAT_unbound
from xennet.abi.xs_wire import XS_WATCH
from xennet.evtchn.channels import ChannelStatus
from xennet.gnttab.entry import granted_frame
from xennet.hypervisor import StoreRingReport
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.observe import EventDelivered, StoreOperation
from xennet.runloop import Delivery
from xennet.xenstore import XsConnectionError, XsError
from xennet.xenstore.ring_page import RingPage
from xennet.xenstore.wire import encode


@pytest.fixture
def site():
    site = Site()
    yield site
    site.machine.close()


def introduce(site: Site, number: int = 0) -> RingPage:
    """The ring page of a guest that plays by hand."""
    site.service.introduce(site.guests[number])
    return RingPage.over(site.guests[number].store_ring.page)


# Birth and death


@pytest.mark.parametrize("version", [1, 2])
def test_the_builder_grants_the_page_as_reference_1_and_makes_a_port(version: int) -> None:
    site = Site(0)
    guest = site.machine.create_domain(grant_version=version)
    ring = site.machine.build_store_ring(guest.domid)
    words = GuestKernel(guest, None).grants.words
    assert words[1 << version] & 0xFFFF == 1  # GTF_permit_access, to domain 0
    assert words[1 << version] >> 16 == 0
    assert granted_frame(words, 1 << version, version) == ring.gfn == ring.page.first
    assert site.dom0.status(guest.domid, ring.port) == ChannelStatus(EVTCHNSTAT_unbound, dom=0)
    assert site.machine.build_store_ring(guest.domid) is ring
    client = site.service.connect(guest)
    site.own_directory(guest)
    client.write("x", "1")
    assert client.read("x") == b"1"


def test_the_ring_belongs_to_the_life_of_the_domain_and_is_no_leak(site: Site) -> None:
    site.service.connect(site.guests[0])
    site.run()
    report = site.machine.leaks()
    assert not report, str(report)
    ring = site.guests[0].store_ring
    assert report.domains[1].store_ring == StoreRingReport(ring.gfn, 1, ring.port, True)
    assert report.domains[2].store_ring is None
    assert len(site.machine.grant_tables.mappings(0)) == 1


def test_only_the_store_ring_itself_is_excused(site: Site) -> None:
    introduce(site)
    guest = site.guests[0]
    assert site.dom0.map_grant_ref(1, 1, 2)[0] == 0
    port = site.dom0.bind_interdomain(1, guest.alloc_unbound(0x7FF0, 0))
    dom0, domain, _ = site.machine.leaks().domains
    assert (len(dom0.mappings), dom0.ports) == (1, (port,))
    assert len(domain.ports) == 1


def test_death_gives_everything_back(site: Site) -> None:
    used = site.machine.memory.used
    client = site.service.connect(site.guests[0])
    client.watch("/x", "t", lambda *event: None)
    RingPage.over(site.guests[0].store_ring.page).requests.write(b"half a mess")
    site.machine.destroy_domain(1)
    assert "gave up frame" in str(site.machine.leaks())  # xenstored has not looked yet
    site.run()
    assert not site.machine.leaks()
    assert site.machine.domain_info(1) is None
    assert site.machine.memory.used < used
    assert site.machine.grant_tables.mappings(0) == []
    assert site.store.connections_of(1) == 0
    with pytest.raises(XsConnectionError):
        client.read("/x")


def test_release_lets_go_of_the_page_and_introducing_takes_it_again(site: Site) -> None:
    page = introduce(site)
    ring = site.guests[0].store_ring
    site.root.release(1)
    assert (ring.server_port, ring.server_handle) == (None, None)
    assert site.machine.grant_tables.mappings(0) == []
    page.requests.write(write("/x"))
    site.guests[0].send(ring.port)
    site.run()
    assert page.requests.room() < 1024
    with pytest.raises(XsError, match="EINVAL"):  # the port is bound once, the guest's end lives
        site.root.introduce(1, ring.gfn, ring.port + 1)
    site.root.introduce(1, ring.gfn, ring.port)
    assert page.requests.empty
    site.own_directory(site.guests[0])
    site.service.connect(site.guests[0]).write("x", "1")


def test_release_during_a_wish_to_reconnect_leaves_no_connection(site: Site) -> None:
    introduce(site)
    site.guests[0].store_ring.page.u32[CONNECTION] = 1
    site.root.release(1)
    assert site.store.connections_of(1) == 0


# INTRODUCE


def test_introduce_needs_a_domain_with_a_ring_and_a_port_that_waits(site: Site) -> None:
    ring = site.machine.build_store_ring(1)
    for domid, port in ((1, ring.port + 5), (2, 1), (9, 1), (1, 0)):
        with pytest.raises(XsError, match="EINVAL"):
            site.root.introduce(domid, ring.gfn, port)
        assert not site.root.is_domain_introduced(domid)
    assert not site.machine.leaks().domains[0].mappings
    site.root.introduce(1, ring.gfn, ring.port)
    assert site.root.is_domain_introduced(1)


def test_introduce_fires_once_and_introducing_again_starts_anew_on_another_port(
    site: Site,
) -> None:
    heard: list[str] = []
    site.root.watch("@introduceDomain", "t", lambda path, token: heard.append(path))
    page = introduce(site)
    page.requests.write(encode(XS_WATCH, 1, 0, b"/\0t\0"))
    site.guests[0].send(site.guests[0].store_ring.port)
    site.run()
    assert site.store.watches_of(1) == 1
    port = site.guests[0].alloc_unbound(0x7FF0, 0)
    site.root.introduce(1, 0, port)
    site.run()
    assert len(heard) == 2  # one for the watch, one for the domain
    assert site.store.watches_of(1) == 0
    assert [page.requests.room(), page.responses.room()] == [1024, 1024]
    page.requests.write(encode(XS_WATCH, 1, 0, b"/\0t\0"))
    site.guests[0].send(port)
    site.run()
    assert site.store.watches_of(1) == 1


# Guests


def test_a_guest_has_its_answer_at_once_and_nothing_is_left_to_deliver(site: Site) -> None:
    client = site.service.connect(site.guests[0], "kernel")
    site.own_directory(site.guests[0])
    site.run()
    client.write("a", b"v" * 1900)
    assert client.read("a") == b"v" * 1900
    with client.transaction() as tx:
        for number in range(40):
            tx.mkdir(f"dir/{number:010}")
    assert len(client.directory("dir")) == 40
    with pytest.raises(XsError, match="ENOENT"):
        client.read("none")
    assert site.loop.idle


def test_an_event_of_others_is_an_upcall_and_then_one_delivery_each(site: Site) -> None:
    client = site.service.connect(site.guests[0])
    site.own_directory(site.guests[0])
    heard: list[str] = []
    client.watch("x", "t", lambda path, token: heard.append(path))
    site.run()
    heard.clear()
    site.root.write("/local/domain/1/x/1", "")
    site.root.write("/local/domain/1/x/2", "")
    port = site.guests[0].store_ring.port
    assert site.loop.ready() == (Delivery("evtchn", 1, port),)
    site.loop.step()
    assert [d.kind for d in site.loop.ready()] == ["xenstore"]
    for expected in (["x/1"], ["x/1", "x/2"]):
        site.loop.step()
        assert heard == expected
    assert site.loop.idle


def test_more_events_than_the_ring_holds_all_arrive(site: Site) -> None:
    client = site.service.connect(site.guests[0])
    site.own_directory(site.guests[0])
    heard: list[str] = []
    client.watch("x", "t", lambda path, token: heard.append(path))
    for number in range(300):
        site.root.write(f"/local/domain/1/x/{number}", "")
    site.run()
    assert heard == ["x", *(f"x/{number}" for number in range(300))]


def test_a_request_with_a_full_ring_of_events_is_answered_and_none_is_lost(site: Site) -> None:
    client = site.service.connect(site.guests[0])
    site.own_directory(site.guests[0])
    heard: list[str] = []
    client.watch("x", "t", lambda path, token: heard.append(path))
    for number in range(200):
        site.root.write(f"/local/domain/1/x/{number}", "")
        if number % 50 == 0:
            client.read(f"x/{number}")
    assert client.read("x/199") == b""
    site.run()
    assert len(heard) == 201


def test_observers_see_who_asked(site: Site) -> None:
    seen: list[StoreOperation] = []
    client = site.service.connect(site.guests[0], "netfront")
    site.machine.observers.subscribe(seen.append, StoreOperation)
    with pytest.raises(XsError, match="EACCES"):
        client.write("/tool/x", "1")
    assert seen == [StoreOperation("netfront", 1, "WRITE", "/tool/x", b"1", 0, "EACCES")]


def test_a_guest_that_boots_again_takes_its_ring_over(site: Site) -> None:
    old = site.service.connect(site.guests[0], "old")
    heard: list[str] = []
    old.watch("/x", "t", lambda path, token: heard.append(path))
    opened = old.transaction()
    opened.__enter__()
    assert site.store.transactions_of(1) == 1
    new = site.service.connect(site.guests[0], "new")
    with pytest.raises(XsConnectionError):
        old.read("/x")
    assert (site.store.watches_of(1), site.store.transactions_of(1)) == (0, 0)
    site.own_directory(site.guests[0])
    new.write("x", "1")
    site.run()
    assert heard == []
    assert site.store.connections_of(1) == 1


def test_a_guest_that_closes_its_connection_leaves_nothing_in_the_store(site: Site) -> None:
    client = site.service.connect(site.guests[0])
    client.watch("/x", "t", lambda *event: None)
    client.close()
    assert site.store.watches_of(1) == 0
    with pytest.raises(XsConnectionError):
        client.read("/x")


def test_a_guest_whose_ring_was_given_up_is_told_why_and_can_connect_again(site: Site) -> None:
    client = site.service.connect(site.guests[0])
    site.guests[0].store_ring.page.u32[REQ_PROD] += 4000
    with pytest.raises(XsConnectionError, match="> 1024"):
        client.read("/x")
    client = site.service.connect(site.guests[0])
    site.guests[0].store_ring.page.u32[ERROR] = 3
    with pytest.raises(XsConnectionError, match="payload too long"):
        client.read("/x")
    site.own_directory(site.guests[0])
    site.service.connect(site.guests[0]).write("x", "1")


def test_a_stopped_guest_cannot_use_its_ring(site: Site) -> None:
    client = site.service.connect(site.guests[0])
    site.machine.shutdown_domain(1, 3)
    with pytest.raises(XsConnectionError):
        client.read("/x")


def test_the_client_of_a_domain_that_is_gone_does_not_speak_for_the_next_of_its_number(
    site: Site,
) -> None:
    client = site.service.connect(site.guests[0])
    site.machine.destroy_domain(1)
    site.run()
    again = site.machine.create_domain(1)
    site.own_directory(again)
    other = site.service.connect(again)
    other.write("x", "its own")
    with pytest.raises(XsConnectionError):
        client.read("x")
    assert other.read("x") == b"its own"


# Requests as deliveries


@pytest.fixture
def waiting_site():
    site = Site(deliveries=True)
    yield site
    site.machine.close()


def while_it_waits(site: Site, act) -> None:
    """``act`` happens once, before domain 0 looks at the next request."""
    done = []

    def meanwhile(ready) -> int:
        if not done:
            done.append(True)
            act()
        return 0

    site.loop.meanwhile = meanwhile


def test_a_request_as_a_delivery_is_answered_after_what_came_before_it(waiting_site: Site) -> None:
    site = waiting_site
    client = site.service.connect(site.guests[0])
    site.root.write("/x", "before")
    site.root.set_perms("/x", ["r0"])
    while_it_waits(site, lambda: site.root.write("/x", "after"))
    assert client.read("/x") == b"after"


def test_who_causes_a_watch_event_does_not_serve_the_request_that_waits(waiting_site: Site) -> None:
    site = waiting_site
    client = site.service.connect(site.guests[0])
    site.own_directory(site.guests[0])
    client.watch("x", "t", lambda path, token: None)

    def write_twice() -> None:
        site.root.write("/local/domain/1/x", "1")
        site.root.write("/local/domain/1/x", "2")

    while_it_waits(site, write_twice)
    client.write("x", "3")
    assert site.root.read("/local/domain/1/x") == b"3"


def test_two_guests_may_wait_for_the_store_at_once(waiting_site: Site) -> None:
    site = waiting_site
    one, two = (site.service.connect(guest) for guest in site.guests)
    for guest in site.guests:
        site.own_directory(guest)
    order: list[str] = []

    def work(client, name: str) -> None:
        for value in "abc":
            client.write("x", value)
            order.append(name)

    chooser = random.Random(2)
    site.guests[0].defer(lambda: work(one, "1"))
    site.guests[1].defer(lambda: work(two, "2"))
    site.loop.run_until_idle(lambda ready: chooser.randrange(len(ready)), limit=5000)
    assert sorted(order) == ["1"] * 3 + ["2"] * 3
    assert (one.read("x"), two.read("x")) == (b"c", b"c")


def test_a_chooser_cannot_starve_a_request(waiting_site: Site) -> None:
    site = waiting_site
    client = site.service.connect(site.guests[0])
    idle = site.guests[1]

    def again() -> None:
        idle.defer(again)

    again()
    site.loop.meanwhile = lambda ready: next(
        index for index, delivery in enumerate(ready) if delivery.domid == idle.domid
    )
    site.root.write("/x", "1")
    site.root.set_perms("/x", ["r0"])
    assert client.read("/x") == b"1"


@pytest.mark.parametrize(
    "end",
    [
        lambda site: site.machine.destroy_domain(1),
        lambda site: site.machine.shutdown_domain(1, 3),
        lambda site: site.machine.shutdown_domain(0, 3),
        lambda site: site.root.release(1),
    ],
    ids=["destroyed", "crashed", "domain 0 crashed", "released"],
)
def test_a_request_ends_when_it_can_never_be_answered(waiting_site: Site, end) -> None:
    site = waiting_site
    client = site.service.connect(site.guests[0])
    while_it_waits(site, lambda: end(site))
    with pytest.raises(XsConnectionError):
        client.read("/x")
    site.run()
    assert not site.machine.leaks(), str(site.machine.leaks())


def test_a_guest_takes_its_ring_over_with_requests_as_deliveries(waiting_site: Site) -> None:
    site = waiting_site
    site.own_directory(site.guests[0])
    site.service.connect(site.guests[0]).write("x", "1")
    assert site.service.connect(site.guests[0]).read("x") == b"1"


# Hostile guests


@pytest.mark.parametrize("seed", range(20))
def test_a_guest_that_scribbles_over_its_page_disturbs_nobody(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    introduce(site)
    bad, port = site.guests[0], site.guests[0].store_ring.port
    good = site.service.connect(site.guests[1])
    site.own_directory(site.guests[1])
    heard: list[str] = []
    good.watch("n", "t", lambda path, token: heard.append(path))
    scribbles = (
        lambda: bad.store_ring.page.u8.__setitem__(slice(0, 4096), chance.randbytes(4096)),
        lambda: bad.store_ring.page.u32.__setitem__(
            chance.randrange(REQ_CONS, ERROR + 1), chance.getrandbits(32)
        ),
        lambda: bad.store_ring.page.u32.__setitem__(CONNECTION, 1),
        lambda: bad.store_ring.page.u8.__setitem__(slice(2048, 4096), bytes(2048)),
        lambda: bad.store_ring.page.u8.__setitem__(slice(0, 13), write("/x")[:13]),
        lambda: bad.store_ring.page.u32.__setitem__(
            REQ_PROD, (bad.store_ring.page.u32[REQ_CONS] + chance.randrange(1100)) % (1 << 32)
        ),
    )
    for number in range(60):
        chance.choice(scribbles)()
        if chance.random() < 0.7:
            bad.send(port)
        good.write("n", number)
        assert good.read("n") == b"%d" % number
        for _ in range(chance.randrange(3)):
            site.loop.step()
    site.run()
    assert heard
    site.machine.destroy_domain(1)
    site.run()
    assert not site.machine.leaks()
    assert good.read("n") == b"59"


def test_a_guest_may_close_its_port_and_revoke_its_page_to_its_own_harm_only(site: Site) -> None:
    introduce(site)
    bad = site.guests[0]
    kernel = GuestKernel(bad, None)
    kernel.grants.words[2] = 0
    bad.close(bad.store_ring.port)
    site.root.write("/a", "1")
    good = site.service.connect(site.guests[1])
    site.own_directory(site.guests[1])
    good.write("x", "1")
    assert not site.machine.leaks().domains[0].ports
    site.machine.destroy_domain(1)
    site.run()
    assert not site.machine.leaks()


def test_a_guest_that_never_reads_costs_bounded_memory(site: Site) -> None:
    page = introduce(site)
    bad = site.guests[0]
    page.requests.write(encode(XS_WATCH, 1, 0, b"/\0" + b"t" * 500 + b"\0"))
    bad.send(bad.store_ring.port)
    site.run()
    site.root.write("/all", "")
    site.root.set_perms("/all", ["r0"])
    for number in range(6000):
        site.root.write(f"/all/{number}", "")
    assert site.store.events_of(1) <= 5 << 19
    assert bad.store_ring.page.u32[RSP_PROD] <= 1024


def test_polling_takes_the_event_and_its_upcall(site: Site) -> None:
    seen: list[object] = []
    site.machine.observers.subscribe(seen.append, EventDelivered)
    near, far = site.guests
    port = near.alloc_unbound(0x7FF0, far.domid)
    other = far.bind_interdomain(near.domid, port)
    near.set_handler(port, lambda: pytest.fail("there was nothing left to deliver"))
    near.unmask(port)
    assert not near.poll(port)
    far.send(other)
    assert near.poll(port)
    assert not near.poll(port)
    site.run()
    assert [event for event in seen if event.domid == near.domid] == []
