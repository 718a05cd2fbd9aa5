"""A frontend device from its first connection to its last: features, failures, resume, B15..B19."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netfront_world import BE, FrontendWorld
from vif_peers import RawBackend

from xennet.abi.netif import TX_REQUEST, XEN_NETIF_GSO_TYPE_TCPV4
from xennet.frames import NOTHING, Offload
from xennet.interface import HypercallError
from xennet.netfront.kinds import FREEBSD, KINDS, LINUX, WINDOWS, FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.testing.minimal_hypervisor import MinimalHypervisor
from xennet.vif.late_eoi import HZ, JIFFY
from xennet.xenbus.errors import XenbusError
from xennet.xenstore.errors import XsError

TCPV4, TCPV6 = 2, 4


def sent(world: FrontendWorld, *frames: bytes) -> int:
    """How many requests are on the ring of the first queue after the guest sent these."""
    world.stack.to_send += frames
    world.netfront.kick()
    world.machine.run()
    queue = world.netfront.queue
    return queue.tx_ring.sring.req_prod if queue is not None else 0


# -- what the guest is told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "options", "offload"),
    [
        ({}, {}, Offload()),
        ({"feature-no-csum-offload": 1}, {}, Offload(csum_v4=False, gso_types=TCPV6)),
        ({"feature-ipv6-csum-offload": None}, {}, Offload(csum_v6=False, gso_types=TCPV4)),
        ({"feature-gso-tcpv6": None}, {}, Offload(gso_types=TCPV4)),
        ({"feature-sg": None}, {}, Offload(sg=False, gso_types=0, max_frame=4096)),
        ({}, {"csum": False}, NOTHING),
        ({}, {"gso": False}, Offload(gso_types=0)),
        ({}, {"sg": False}, Offload(sg=False, gso_types=0, max_frame=4096)),
    ],
)
def test_the_guest_is_told_what_the_backend_takes(
    features: dict[str, int], options: dict[str, bool], offload: Offload
) -> None:
    world = FrontendWorld(options=NetfrontOptions(**options), features=features).connect()  # type: ignore[arg-type]
    assert world.stack.offload == offload


@pytest.mark.parametrize(
    ("own", "mtu"),
    [({}, 1500), ({"mtu": 9000}, 9000)]
    + [({"mtu": bad}, 1500) for bad in ("", "x", "-1", "0", 67, 65522, 2**32)],
)
def test_field_bug_10_the_mtu_is_read_and_does_not_count_the_header(
    own: dict[str, int], mtu: int
) -> None:
    world = FrontendWorld(options=NetfrontOptions(enforce_mtu=True), own=own).connect()  # type: ignore[arg-type]
    assert world.netfront.mtu == mtu
    assert world.stack.offload.max_frame == mtu + 14
    assert FrontendWorld(own=own).connect().stack.offload.max_frame == 0  # type: ignore[arg-type]


COPYING = pytest.mark.parametrize("kind", [LINUX, FREEBSD], ids=lambda kind: kind.name)


@COPYING
def test_a_backend_that_cannot_copy_is_not_used(kind: FrontendKind) -> None:
    # xennet_connect: -ENODEV, xn_connect: EPROTONOSUPPORT; neither leaves an error node.
    world = FrontendWorld(kind, features={"feature-rx-copy": 0}).start()
    assert world.state == 1
    assert world.holds_nothing()
    assert str(world.frontend.declined) == f"{BE}/feature-rx-copy: offers no copies (found b'0')"


@COPYING
def test_field_bug_21_features_behind_init_wait_are_looked_at_when_it_is_shown_again(
    kind: FrontendKind,
) -> None:
    world = FrontendWorld(kind, features={"feature-rx-copy": None}).start()
    assert str(world.frontend.declined) == f"{BE}/feature-rx-copy: cannot be read: ENOENT"
    world.set("feature-rx-copy", 1)
    world.machine.run()
    assert world.state == 1  # nobody tells it
    world.set_state(2)
    assert world.state == 4
    assert world.frontend.declined is None


def test_field_bug_21_xenvif_does_not_look_for_copies() -> None:
    # win-xenvif FrontendConnect: InitWait is enough.
    world = FrontendWorld(WINDOWS, features={"feature-rx-copy": None}).connect()
    assert world.frontend.declined is None
    assert world.netfront.carrier


# -- several queues --------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_connect_that_fails_half_way_leaves_nothing(
    left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = FrontendWorld(
        WINDOWS, NetfrontOptions(queues=3), features={"multi-queue-max-queues": 3}
    )
    real = MinimalHypervisor.alloc_unbound

    def alloc(self: MinimalHypervisor, domid: int) -> int:
        if len(self.ports) == left:
            raise HypercallError("EVTCHNOP_alloc_unbound", -28, "no port")
        return real(self, domid)

    monkeypatch.setattr(MinimalHypervisor, "alloc_unbound", alloc)
    # References run out in the second queue of three: 514 are needed for each.
    if left == 5:
        world.guest.grants.free[:] = world.guest.grants.free[:1000]
    free = len(world.guest.grants.free)
    world.start()
    assert "/local/domain/1/error/device/vif/0/error" in world.machine.nodes
    assert not [name for name in world.published if "ring-ref" in name]
    assert not world.guest.ports
    assert not world.machine.frames
    assert len(world.guest.grants.free) == free


def test_queues_share_the_memory_of_a_receive_pass() -> None:
    options = NetfrontOptions(queues=3)
    world = FrontendWorld(options=options, features={"multi-queue-max-queues": 3}).start()
    first, *others = world.netfront.queues
    assert all(queue.rx.batch is first.rx.batch for queue in others)
    assert len({id(queue.tx.batch) for queue in world.netfront.queues}) == 3


def test_each_ring_notifies_its_own_channel() -> None:
    world = FrontendWorld(features={"feature-split-event-channels": 1}).start()
    queue = world.netfront.queue
    assert queue is not None
    heard: list[str] = []
    for name, port in (("tx", queue.tx_port), ("rx", queue.rx_port)):
        own = world.host.bind_interdomain(1, port)
        world.host.on_event(own, lambda name=name: heard.append(name))  # type: ignore[misc]
    world.machine.run()
    heard.clear()
    world.set_state(4)
    sent(world, bytes(60))
    assert heard == ["tx"]


# -- carrier, multicast, headroom ------------------------------------------------------------------


def test_without_carrier_nothing_is_sent_and_frames_are_counted() -> None:
    world = FrontendWorld(features={"carrier": 0}).connect()
    assert not world.netfront.carrier
    assert sent(world, bytes(60), bytes(60)) == 0
    assert world.netfront.counters.no_carrier == 2
    world.set("carrier", 1)
    world.machine.run()
    assert world.netfront.carrier
    assert sent(world, bytes(60)) == 1
    world.set("carrier", 0)
    world.machine.run()
    assert sent(world, bytes(60)) == 1


def watched(world: FrontendWorld) -> list[str]:
    return [watch.path.rpartition("/")[2] for watch in world.machine.watches]


def test_a_backend_without_the_carrier_node_is_up_and_not_watched_as_by_linux() -> None:
    world = FrontendWorld().connect()
    assert world.netfront.carrier
    assert watched(world) == ["state"]


def test_a_carrier_node_that_first_appears_after_the_connect_counts_if_that_is_wanted() -> None:
    # xen/io/netif.h, "Link state": without the node the link is up.
    world = FrontendWorld(options=NetfrontOptions(carrier=True)).connect()
    assert world.netfront.carrier
    assert watched(world) == ["state", "carrier"]
    world.set("carrier", 0)
    world.machine.run()
    assert not world.netfront.carrier
    assert sent(world, bytes(60)) == 0
    assert world.netfront.counters.no_carrier == 1
    world.host.store.rm(f"{BE}/carrier")
    world.machine.run()
    assert world.netfront.carrier
    assert sent(world, bytes(60)) == 1


def test_a_store_that_refuses_the_watch_on_the_carrier_stops_nothing() -> None:
    world = FrontendWorld(options=NetfrontOptions(carrier=True)).start()
    watch = world.guest.store.watch

    def refuse(path: str, token: str, callback: Callable[[str, str], None]) -> None:
        if path.endswith("/carrier"):
            raise XsError("E2BIG", path)
        watch(path, token, callback)

    world.guest.store.watch = refuse  # type: ignore[method-assign]
    world.set_state(4)
    assert world.netfront.carrier
    assert watched(world) == ["state"]
    assert sent(world, bytes(60)) == 1


def test_the_carrier_watch_ends_with_the_connection() -> None:
    world = FrontendWorld(features={"carrier": 1}).connect()
    assert watched(world) == ["state", "carrier"]
    world.set_state(5)
    world.set_state(6)
    assert watched(world) == ["state"]


GROUP = bytes.fromhex("01005e0000fb")


def test_multicast_addresses_are_asked_for_again_at_every_connection() -> None:
    world = FrontendWorld(WINDOWS, features={"feature-ctrl-ring": 0}).connect()
    change = world.netfront.multicast_add(GROUP)
    world.machine.run()
    assert change is not None
    assert change.status is None
    world.set_state(6)
    world.guest.store.write("device/vif/0/state", 1)
    world.frontend.resume()
    world.set_state(2)
    world.set_state(4)
    queue = world.netfront.queue
    assert queue is not None
    assert queue.tx_ring.sring.req_prod == 2
    assert world.netfront.multicast == [GROUP]
    assert world.netfront.multicast_del(GROUP) is not None
    assert not world.netfront.multicast


def test_a_backend_without_a_multicast_list_is_not_asked() -> None:
    world = FrontendWorld(features={"feature-multicast-control": 0}).connect()
    assert world.netfront.multicast_add(GROUP) is None
    assert sent(world) == 0
    with pytest.raises(ValueError, match="00:16:3e"):
        world.netfront.multicast_add(bytes.fromhex("00163e000001"))


def test_a_change_of_the_xdp_headroom_goes_through_reconfiguring() -> None:
    world = FrontendWorld().connect()
    answers: list[bool] = []
    world.netfront.set_xdp_headroom(world.frontend, 256, answers.append)
    assert (world.state, world.keys["xdp-headroom"]) == (7, "256")
    assert world.netfront.xdp_headroom == 0
    world.set_state(8)
    world.set_state(4)
    assert (world.state, answers, world.netfront.xdp_headroom) == (4, [True], 256)
    assert world.netfront.carrier


def test_a_headroom_that_cannot_be_had_is_refused() -> None:
    world = FrontendWorld(features={"feature-xdp-headroom": 0}).connect()
    with pytest.raises(XenbusError, match="not negotiated"):
        world.netfront.set_xdp_headroom(world.frontend, 256)
    with pytest.raises(ValueError, match="32768"):
        world.netfront.set_xdp_headroom(world.frontend, 32768)
    assert world.state == 4


# -- rules B15 to B19 ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([LINUX, FREEBSD, WINDOWS]),
    states=st.lists(st.sampled_from([*map(str, range(10)), "-1", "", "x"]), max_size=12),
    data=st.data(),
)
def test_B15_a_backend_that_writes_any_state_gets_no_more_than_a_frontend(
    kind: FrontendKind, states: list[str], data: st.DataObject
) -> None:
    world = FrontendWorld(kind).start()
    for state in states:
        world.set("state", state)
        if data.draw(st.booleans()):
            world.machine.run(limit=2000)
        world.stack.to_send.append(bytes(60))
        world.netfront.kick()
    world.machine.run(limit=2000)
    assert world.state in (1, 3, 4, 5, 6)
    assert not (world.netfront.carrier and not world.netfront.queues)
    world.frontend.close()
    for state in ("5", "6"):
        world.set("state", state)
        world.machine.run(limit=2000)
    assert world.holds_nothing()


def test_B16_features_that_change_after_connect_change_nothing() -> None:
    world = FrontendWorld(features={"feature-sg": 0, "feature-gso-tcpv4": 0}).connect()
    before = world.stack.offload
    for name in ("feature-sg", "feature-gso-tcpv4", "feature-split-event-channels"):
        world.set(name, 1)
    world.set("feature-rx-copy", 0)
    world.set("multi-queue-max-queues", 8)
    world.machine.run()
    assert world.stack.offload is before
    assert sent(world, bytes(5000), bytes(60)) == 1
    assert world.netfront.counters.tx.errors == 1
    assert (world.state, len(world.netfront.queues)) == (4, 1)


@pytest.mark.parametrize(
    ("node", "option", "bounced"),
    [("0", None, True), ("1", None, False), (None, None, False), ("1", False, True)]
    + [("0", True, False)],
)
def test_B17_who_trusts_whom_says_the_toolstack_or_the_administrator(
    node: str | None, option: bool | None, bounced: bool
) -> None:
    own = {} if node is None else {"trusted": node}
    world = FrontendWorld(options=NetfrontOptions(trusted=option), own=own).connect()  # type: ignore[arg-type]
    queue = world.netfront.queue
    assert queue is not None
    world.stack.to_send = [b"\xee" * 4096]
    sent(world)
    gref, *_, ident, _ = TX_REQUEST.unpack_from(queue.tx_ring.sring.copy_slot(0))
    mapped = [world.host.map_grant(1, queue.tx_ring_ref)]
    page = mapped[0].page
    page.u8[64:68] = ident.to_bytes(2, "little") + bytes(2)
    page.u32[2] = 1
    world.host.unmap_grant(mapped[0])
    sent(world, b"\xdd" * 60)
    again = TX_REQUEST.unpack_from(queue.tx_ring.sring.copy_slot(1))
    assert (again[0], again[3]) == (gref, ident)
    mapping = world.host.map_grant(1, gref, readonly=True)
    assert bytes(mapping.page.u8[:60]) == b"\xdd" * 60
    assert bytes(mapping.page.u8[60:]) == (bytes(4036) if bounced else b"\xee" * 4036)


def test_B18_a_storm_of_events_costs_a_look_at_the_ring_each_and_no_more() -> None:
    world = FrontendWorld().start()
    queue = world.netfront.queue
    assert queue is not None
    port = world.host.bind_interdomain(1, queue.tx_port)
    world.set_state(4)
    counters = world.netfront.counters
    spurious = counters.spurious
    for _ in range(1000):
        world.host.notify(port)
    assert world.machine.run() <= 3  # one delivery, no pass
    for _ in range(100):
        world.host.notify(port)
        world.machine.run(limit=3)
        world.machine.advance(HZ * JIFFY)
        world.machine.run(limit=3)
    assert counters.spurious - spurious == 101
    assert sent(world, bytes(60)) == 1


def test_B18_spurious_events_delay_the_next_ones_for_longer_and_longer() -> None:
    back = RawBackend()
    delays = []
    for _ in range(13):
        before = back.counters.jiffies_eoi_delayed
        back.host.notify(back.port)
        back.machine.run()
        delays.append(back.counters.jiffies_eoi_delayed - before)
        back.machine.advance(delays[-1] * JIFFY)
    assert delays == [0, 1, 2, 4, 8, 16, 32, 64, 128, 250, 250, 250, 250]
    # Something comes, and all is forgiven, but for the delay that has begun.
    back.host.notify(back.port)
    back.machine.run()
    back.rx(bytes(60))
    back.push_rx()
    assert back.stack.received == []
    back.machine.advance(HZ * JIFFY)
    back.machine.run()
    assert len(back.stack.received) == 1
    back.host.notify(back.port)
    back.machine.run()
    assert back.counters.jiffies_eoi_delayed == sum(delays) + HZ


def test_B18_frames_are_sent_during_a_delay() -> None:
    back = RawBackend()
    for _ in range(5):
        back.host.notify(back.port)
        back.machine.run()
    assert back.counters.spurious == 2  # the others are pending
    back.stack.to_send = [bytes(60)]
    back.run()
    assert len(back.requests()) == 1


def test_B18_responses_that_the_guest_does_not_take_do_not_excuse_a_storm() -> None:
    back = RawBackend(split=True)
    back.stack.room = 0
    back.rx(bytes(60))
    back.publish_rx()
    for _ in range(100):
        back.host.notify(back.rx_port)
        back.machine.run()
    assert back.counters.spurious == 2
    back.make_room(1)
    assert len(back.stack.received) == 1


def test_B18_no_timer_survives_the_queue() -> None:
    back = RawBackend()
    for _ in range(2):
        back.host.notify(back.port)
        back.machine.run()
    back.queue.disconnect()
    back.machine.advance(HZ * JIFFY)
    assert back.machine.run() == 0


def test_B18_freebsd_and_windows_have_no_late_eoi() -> None:
    assert [kind.name for kind in KINDS.values() if kind.late_eoi] == ["linux"]
    back = RawBackend(late_eoi=False)
    for _ in range(20):
        back.host.notify(back.port)
        back.machine.run()
    assert (back.counters.spurious, back.counters.jiffies_eoi_delayed) == (20, 0)


def test_B19_a_resume_after_which_the_backend_never_comes_does_no_harm() -> None:
    world = FrontendWorld(options=NetfrontOptions(queues=2), features={"multi-queue-max-queues": 2})
    world.connect()
    ports = list(world.guest.ports)
    peers = [world.host.bind_interdomain(1, port) for port in ports]
    for port in peers:
        world.host.notify(port)
    world.frontend.resume()  # with events and a pass still on their way
    world.netfront.kick()
    world.machine.run()
    assert sent(world, bytes(60)) == 0
    for state in ("1", "3", "0", "x"):
        world.set_state(state)
        world.netfront.kick()
        world.machine.run()
    assert not world.netfront.queues
    assert not world.netfront.carrier
    assert world.holds_nothing()
    world.set_state(2)
    world.set_state(4)
    assert world.netfront.carrier


# -- suspend and resume ----------------------------------------------------------------------------


def test_after_a_resume_all_keys_are_written_again_and_the_rings_are_new() -> None:
    world = FrontendWorld().connect()
    queue = world.netfront.queue
    assert queue is not None
    sent(world, bytes(60))
    queue.tx_ring.sring.rsp_prod = 77
    world.host.notify(world.host.bind_interdomain(1, queue.tx_port))
    world.machine.run()
    assert world.netfront.error is not None
    first = {name for name, _ in world.writes}
    world.writes.clear()
    world.frontend.resume()
    world.set_state(1)
    world.set_state(2)
    assert {name for name, _ in world.writes} == first
    assert world.netfront.error is None
    fresh = world.netfront.queue
    assert fresh is not None
    assert fresh is not queue
    assert (fresh.tx_ring.sring.req_prod, fresh.rx_ring.sring.req_prod) == (0, 256)
    world.set_state(4)
    assert sent(world, bytes(60)) == 1


def test_ports_that_a_suspend_took_away_are_not_missed() -> None:
    world = FrontendWorld(WINDOWS).connect()
    world.guest.ports.clear()
    world.frontend.resume()
    assert world.holds_nothing()


def test_a_domain_restored_as_another_starts_with_nothing() -> None:
    world = FrontendWorld(features={"carrier": 1}).connect()
    old = world.netfront.queue
    assert old is not None
    other = world.machine.domain(2)
    for node in ("backend", "backend-id", "mac"):
        value = world.machine.nodes[f"/local/domain/1/device/vif/0/{node}"]
        other.store.write(f"/local/domain/2/device/vif/0/{node}", value)
    other.store.write("/local/domain/2/device/vif/0/state", 1)
    grants = list(world.guest.grants.free)
    world.frontend.resume(other)
    world.set_state(2)
    world.set_state(4)
    assert world.netfront.carrier
    assert len(other.ports) == 1
    assert world.guest.grants.free == grants  # the old domain was not touched
    world.stack.to_send = [bytes(60)]
    old.kick()
    world.machine.run()
    assert old.tx_ring.sring.req_prod == 0


# -- what went wrong -------------------------------------------------------------------------------


def test_a_broken_queue_stops_all_of_them_until_the_next_connection() -> None:
    options = NetfrontOptions(queues=2)
    world = FrontendWorld(options=options, features={"multi-queue-max-queues": 2}).connect()
    guilty = world.netfront.queues[1]
    guilty.tx_ring.sring.rsp_prod = 9
    world.host.notify(world.host.bind_interdomain(1, guilty.tx_port))
    world.machine.run()
    assert world.netfront.error is not None
    assert world.netfront.error.rule == "B1"
    assert not world.netfront.carrier
    assert sent(world, *[bytes(60)] * 20) == 0
    assert len(world.stack.to_send) == 20


def test_gso_types_are_bits_of_netif_h() -> None:
    assert 1 << XEN_NETIF_GSO_TYPE_TCPV4 == TCPV4
