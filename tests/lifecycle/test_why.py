"""The why report: silence for a vif that works, else the node or counter that is in the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xennet.abi.netif import TX_REQUEST
from xennet.lifecycle.remarks import remarks
from xennet.lifecycle.stage import Stage
from xennet.lifecycle.why import why
from xennet.netfront.options import NetfrontOptions
from xennet.ring import FrontRing, rx_ring, tx_ring

BACKEND = "/local/domain/0/backend/vif/1/0"
FRONTEND = "/local/domain/1/device/vif/0"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(lambda line: None)
    stage.connect()
    yield stage
    stage.destroy()


def test_a_vif_that_works_has_no_reason(stage: Stage) -> None:
    assert stage.trial()
    assert why(stage.vif) == []


def test_an_error_node_of_an_earlier_life_is_no_reason(stage: Stage) -> None:
    stage.house.store.write("/local/domain/0/error/backend/vif/1/0/error", "2 long ago")
    assert why(stage.vif) == []


@pytest.fixture
def heeding() -> Iterator[Stage]:
    """Its frontend looks at the carrier node."""
    stage = Stage(lambda line: None, front=NetfrontOptions(carrier=True))
    stage.connect()
    yield stage
    stage.destroy()


def test_a_carrier_of_0_is_named(heeding: Stage) -> None:
    heeding.house.store.write(f"{BACKEND}/carrier", "0")
    heeding.settle()
    assert why(heeding.vif) == [f"the backend has no carrier: {BACKEND}/carrier = 0"]
    assert remarks(heeding.vif) == []


def test_a_carrier_of_0_at_which_the_frontend_does_not_look_stops_nothing(stage: Stage) -> None:
    stage.house.store.write(f"{BACKEND}/carrier", "0")
    stage.settle()
    assert why(stage.vif) == []
    assert remarks(stage.vif) == [f"{BACKEND}/carrier = 0, and the frontend does not look at it"]
    assert stage.trial()


def test_a_missing_key_is_named_also_while_the_old_one_still_works(stage: Stage) -> None:
    stage.house.store.rm(f"{FRONTEND}/rx-ring-ref")
    (reason,) = why(stage.vif)
    assert f"{FRONTEND}/rx-ring-ref" in reason


def test_a_state_that_is_none_is_shown_as_it_is(stage: Stage) -> None:
    stage.house.store.write(f"{BACKEND}/state", "9")
    assert f"the backend is not Connected: {BACKEND}/state = 9 (not a XenbusState)" in why(
        stage.vif
    )


def test_a_queue_without_buffers_for_too_long_is_stalled_until_they_come_back(
    stage: Stage,
) -> None:
    stage.in_guest.room = 0
    stage.host_sends(300)
    for _ in range(7):  # Packets wait 10 s each; the queue is stalled after 60.
        stage.pass_time(10)
        stage.host_sends(10)
    assert [reason for reason in why(stage.vif) if "queue 0 of vif1.0 is stalled" in reason]
    assert "the network stack of domain 1 has room for 0 frames" in why(stage.vif)
    stage.in_guest.room = 1 << 30
    stage.vif.kick()
    stage.settle()
    assert why(stage.vif) == []


def test_a_host_that_takes_no_frames_is_named(stage: Stage) -> None:
    stage.in_host.room = 0
    assert why(stage.vif) == ["what vif1.0 leads to on the host has room for 0 frames"]


def test_a_carrier_that_came_back_is_named_until_the_frontend_knows(heeding: Stage) -> None:
    stage = heeding
    store = stage.house.store
    store.write(f"{BACKEND}/carrier", "0")
    stage.settle()
    store.write(f"{BACKEND}/carrier", "1")
    assert why(stage.vif) == [
        f'the frontend has not heard yet that there is a carrier: {BACKEND}/carrier = "1"'
    ]
    stage.settle()
    assert why(stage.vif) == []


def test_an_attach_that_the_toolstack_gave_up_is_named() -> None:
    stage = Stage(lambda line: None)
    stage.plug()
    stage.guest.boot()
    stage.settle_with_timers()
    gave_up = f"the toolstack gave up attaching {BACKEND}: backend did not come up: "
    assert f"{gave_up}the time limit passed" in why(stage.vif)
    stage.destroy()


def test_a_frontend_that_waits_says_for_what() -> None:
    stage = Stage(lambda line: None)
    stage.plug()
    stage.load_frontend()
    assert "the linux frontend, Initialising (1), waits for InitWait (2)" in why(stage.vif)
    stage.destroy()


def test_unplugged_drivers_are_missing_on_both_sides(stage: Stage) -> None:
    stage.house.unplug(stage.vif)
    stage.settle()
    assert [reason for reason in why(stage.vif) if reason.startswith("no driver of domain")] == [
        f"no driver of domain 1 serves {FRONTEND}",
        f"no driver of domain 0 serves {BACKEND}",
    ]


def own_frontend(stage: Stage, **keys: str) -> FrontRing:
    """A guest whose driver is somebody's own: two rings, a channel, Connected; its tx ring."""
    kernel = stage.guest.kernel
    rings = []
    for key, view in (("tx-ring-ref", tx_ring), ("rx-ring-ref", rx_ring)):
        page = kernel.alloc_pages(1)
        rings.append(FrontRing.init(view(page.u8, page.u32)))
        keys[key] = str(kernel.grants.grant_access(0, page.first))
    keys["event-channel"] = str(kernel.alloc_unbound(0))
    for name, value in (*keys.items(), ("state", "4")):
        kernel.store.write(f"device/vif/0/{name}", value)
    stage.settle()
    return rings[0]


@pytest.fixture
def guest_without_driver() -> Iterator[Stage]:
    """A vif with a backend, and a guest of which no driver of ours is loaded."""
    stage = Stage(lambda line: None)
    stage.owner.load()
    stage.plug()
    yield stage
    stage.destroy()


def test_an_own_frontend_that_is_connected_is_judged_by_its_state(
    guest_without_driver: Stage,
) -> None:
    stage = guest_without_driver
    assert f"no driver of domain 1 serves {FRONTEND}" in why(stage.vif)
    own_frontend(stage, **{"request-rx-copy": "1", "feature-rx-notify": "1"})
    assert stage.vif.connected
    assert why(stage.vif) == ["queue 0 of vif1.0: the guest has posted no receive buffers"]


def test_refused_packets_of_an_own_frontend_are_remarked_on(guest_without_driver: Stage) -> None:
    stage = guest_without_driver
    ring = own_frontend(stage, **{"request-rx-copy": "1"})
    ring.sring.write_slot(0, TX_REQUEST.pack(777, 0, 0, 7, 60))
    ring.sring.write_slot(1, TX_REQUEST.pack(777, 0, 0, 8, 10))
    ring.req_prod_pvt = 2
    assert ring.push_requests_and_check_notify()
    kernel = stage.guest.kernel
    kernel.notify(int(kernel.store.read("device/vif/0/event-channel")))
    stage.settle()
    (remark,) = remarks(stage.vif)
    assert remark.startswith("packets of the guest that the backend refused: 2 ")


def test_an_own_frontend_that_does_not_ask_for_copies_is_told_so(
    guest_without_driver: Stage,
) -> None:
    stage = guest_without_driver
    own_frontend(stage)
    assert stage.vif.connected
    (reason,) = [reason for reason in why(stage.vif) if "copies" in reason]
    assert reason.endswith(f'{FRONTEND}/request-rx-copy = ""')


def test_an_own_backend_that_is_connected_is_judged_by_its_state() -> None:
    stage = Stage(lambda line: None)
    stage.plug()
    stage.load_frontend()
    assert f"no driver of domain 0 serves {BACKEND}" in why(stage.vif)
    store = stage.owner.kernel.store
    store.write("backend/vif/1/0/feature-rx-copy", "1")
    for state in ("2", "4"):
        store.write("backend/vif/1/0/state", state)
        stage.settle()
    assert stage.vif.connected
    assert why(stage.vif) == []
    stage.destroy()


def test_an_unbound_backend_is_missed_though_its_state_stays_connected(stage: Stage) -> None:
    stage.owner.backends.unload()
    stage.settle()
    assert not stage.vif.connected
    assert f"no driver of domain 0 serves {BACKEND}" in why(stage.vif)
