"""The why report: silence for a vif that works, else the node or counter that is in the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xennet.abi.netif import TX_REQUEST
from xennet.lifecycle.remarks import remarks
from xennet.lifecycle.scene import Scene
from xennet.lifecycle.why import why
from xennet.netfront.options import NetfrontOptions
from xennet.ring import FrontRing, rx_ring, tx_ring

BACKEND = "/local/domain/0/backend/vif/1/0"
FRONTEND = "/local/domain/1/device/vif/0"


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene(lambda line: None)
    scene.connect()
    yield scene
    scene.destroy()


def test_a_vif_that_works_has_no_reason(scene: Scene) -> None:
    assert scene.trial()
    assert why(scene.vif) == []


def test_an_error_node_of_an_earlier_life_is_no_reason(scene: Scene) -> None:
    scene.host.store.write("/local/domain/0/error/backend/vif/1/0/error", "2 long ago")
    assert why(scene.vif) == []


@pytest.fixture
def heeding() -> Iterator[Scene]:
    """Its frontend looks at the carrier node."""
    scene = Scene(lambda line: None, front=NetfrontOptions(carrier=True))
    scene.connect()
    yield scene
    scene.destroy()


def test_a_carrier_of_0_is_named(heeding: Scene) -> None:
    heeding.host.store.write(f"{BACKEND}/carrier", "0")
    heeding.settle()
    assert why(heeding.vif) == [f"the backend has no carrier: {BACKEND}/carrier = 0"]
    assert remarks(heeding.vif) == []


def test_a_carrier_of_0_at_which_the_frontend_does_not_look_stops_nothing(scene: Scene) -> None:
    scene.host.store.write(f"{BACKEND}/carrier", "0")
    scene.settle()
    assert why(scene.vif) == []
    assert remarks(scene.vif) == [f"{BACKEND}/carrier = 0, and the frontend does not look at it"]
    assert scene.trial()


def test_a_missing_key_is_named_also_while_the_old_one_still_works(scene: Scene) -> None:
    scene.host.store.rm(f"{FRONTEND}/rx-ring-ref")
    (reason,) = why(scene.vif)
    assert f"{FRONTEND}/rx-ring-ref" in reason


def test_a_state_that_is_none_is_shown_as_it_is(scene: Scene) -> None:
    scene.host.store.write(f"{BACKEND}/state", "9")
    assert f"the backend is not Connected: {BACKEND}/state = 9 (not a XenbusState)" in why(
        scene.vif
    )


def test_a_queue_without_buffers_for_too_long_is_stalled_until_they_come_back(
    scene: Scene,
) -> None:
    scene.in_guest.room = 0
    scene.host_sends(300)
    for _ in range(7):  # Packets wait 10 s each; the queue is stalled after 60.
        scene.pass_time(10)
        scene.host_sends(10)
    assert [reason for reason in why(scene.vif) if "queue 0 of vif1.0 is stalled" in reason]
    assert "the network stack of domain 1 has room for 0 frames" in why(scene.vif)
    scene.in_guest.room = 1 << 30
    scene.vif.kick()
    scene.settle()
    assert why(scene.vif) == []


def test_a_host_that_takes_no_frames_is_named(scene: Scene) -> None:
    scene.in_host.room = 0
    assert why(scene.vif) == ["what vif1.0 leads to on the host has room for 0 frames"]


def test_a_carrier_that_came_back_is_named_until_the_frontend_knows(heeding: Scene) -> None:
    scene = heeding
    store = scene.host.store
    store.write(f"{BACKEND}/carrier", "0")
    scene.settle()
    store.write(f"{BACKEND}/carrier", "1")
    assert why(scene.vif) == [
        f'the frontend has not heard yet that there is a carrier: {BACKEND}/carrier = "1"'
    ]
    scene.settle()
    assert why(scene.vif) == []


def test_an_attach_that_the_toolstack_gave_up_is_named() -> None:
    scene = Scene(lambda line: None)
    scene.plug()
    scene.guest.boot()
    scene.settle_with_timers()
    gave_up = f"the toolstack gave up attaching {BACKEND}: backend did not come up: "
    assert f"{gave_up}the time limit passed" in why(scene.vif)
    scene.destroy()


def test_a_frontend_that_waits_says_for_what() -> None:
    scene = Scene(lambda line: None)
    scene.plug()
    scene.load_frontend()
    assert "the linux frontend, Initialising (1), waits for InitWait (2)" in why(scene.vif)
    scene.destroy()


def test_unplugged_drivers_are_missing_on_both_sides(scene: Scene) -> None:
    scene.host.unplug(scene.vif)
    scene.settle()
    assert [reason for reason in why(scene.vif) if reason.startswith("no driver of domain")] == [
        f"no driver of domain 1 serves {FRONTEND}",
        f"no driver of domain 0 serves {BACKEND}",
    ]


def own_frontend(scene: Scene, **keys: str) -> FrontRing:
    """A guest whose driver is somebody's own: two rings, a channel, Connected; its tx ring."""
    kernel = scene.guest.kernel
    rings = []
    for key, view in (("tx-ring-ref", tx_ring), ("rx-ring-ref", rx_ring)):
        page = kernel.alloc_pages(1)
        rings.append(FrontRing.init(view(page.u8, page.u32)))
        keys[key] = str(kernel.grants.grant_access(0, page.first))
    keys["event-channel"] = str(kernel.alloc_unbound(0))
    for name, value in (*keys.items(), ("state", "4")):
        kernel.store.write(f"device/vif/0/{name}", value)
    scene.settle()
    return rings[0]


@pytest.fixture
def guest_without_driver() -> Iterator[Scene]:
    """A vif with a backend, and a guest of which no driver of ours is loaded."""
    scene = Scene(lambda line: None)
    scene.owner.load()
    scene.plug()
    yield scene
    scene.destroy()


def test_an_own_frontend_that_is_connected_is_judged_by_its_state(
    guest_without_driver: Scene,
) -> None:
    scene = guest_without_driver
    assert f"no driver of domain 1 serves {FRONTEND}" in why(scene.vif)
    own_frontend(scene, **{"request-rx-copy": "1", "feature-rx-notify": "1"})
    assert scene.vif.connected
    assert why(scene.vif) == ["queue 0 of vif1.0: the guest has posted no receive buffers"]


def test_refused_packets_of_an_own_frontend_are_remarked_on(guest_without_driver: Scene) -> None:
    scene = guest_without_driver
    ring = own_frontend(scene, **{"request-rx-copy": "1"})
    ring.sring.write_slot(0, TX_REQUEST.pack(777, 0, 0, 7, 60))
    ring.sring.write_slot(1, TX_REQUEST.pack(777, 0, 0, 8, 10))
    ring.req_prod_pvt = 2
    assert ring.push_requests_and_check_notify()
    kernel = scene.guest.kernel
    kernel.notify(int(kernel.store.read("device/vif/0/event-channel")))
    scene.settle()
    (remark,) = remarks(scene.vif)
    assert remark.startswith("packets of the guest that the backend refused: 2 ")


def test_an_own_frontend_that_does_not_ask_for_copies_is_told_so(
    guest_without_driver: Scene,
) -> None:
    scene = guest_without_driver
    own_frontend(scene)
    assert scene.vif.connected
    (reason,) = [reason for reason in why(scene.vif) if "copies" in reason]
    assert reason.endswith(f'{FRONTEND}/request-rx-copy = ""')


def test_an_own_backend_that_is_connected_is_judged_by_its_state_and_the_rings() -> None:
    scene = Scene(lambda line: None)
    scene.plug()
    scene.load_frontend()
    assert f"no driver of domain 0 serves {BACKEND}" in why(scene.vif)
    kernel, store = scene.owner.kernel, scene.owner.kernel.store
    store.write("backend/vif/1/0/feature-rx-copy", "1")
    store.write("backend/vif/1/0/state", "2")
    scene.settle()
    store.write("backend/vif/1/0/state", "4")
    scene.settle()
    assert not scene.vif.connected
    assert why(scene.vif) == [
        "the backend has not connected to the rings of the frontend that is Connected: "
        f"{FRONTEND}/state = Connected (4)"
    ]
    keys = ("tx-ring-ref", "rx-ring-ref", "event-channel")
    tx, rx, port = (int(store.read(f"{FRONTEND}/{key}")) for key in keys)
    for ring in tx, rx:
        kernel.map_grant(1, ring)
    kernel.bind_interdomain(1, port)
    assert scene.vif.connected
    assert why(scene.vif) == []
    scene.destroy()


def test_an_unbound_backend_is_missed_though_its_state_stays_connected(scene: Scene) -> None:
    scene.owner.backends.unload()
    scene.settle()
    assert not scene.vif.connected
    assert f"no driver of domain 0 serves {BACKEND}" in why(scene.vif)
