"""The device around the queues: what it writes and watches, and what it does when things change."""

from __future__ import annotations

from pathlib import Path

import pytest
from back_world import BE, FE, BackWorld

from xennet.abi.netif import (
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
)
from xennet.netback.policy import VifOptions
from xennet.netback.stage import TxStage
from xennet.netback.vif_config import C_HASH, C_HEADROOM, C_MCAST_COUNT, C_MCAST_FILTER, mcast_add

RECORDINGS = Path(__file__).parents[1] / "data" / "handshake"
NOTHING_HELD = (0, 0, 0)
#: A req_prod that cannot be (hardening rule F1).
FAR = 1000


def recorded(name: str, phase: str) -> list[tuple[str, str, str]]:
    """What domain 0's kernel did to the store in a phase of a recording, guest 1's vif 0."""
    found = []
    for line in (RECORDINGS / name).read_text().splitlines():
        when, who, operation, *rest = line.rpartition(" -> ")[0].split(" ")
        if (when, who) != (phase, "dom0-kernel") or operation.startswith("TRANSACTION"):
            continue
        value = "" if operation != "WRITE" else " ".join(rest[1:])
        found.append((operation, rest[0], value))
    return found


@pytest.mark.parametrize(
    ("name", "split", "queues"), [("single-channel.txt", False, 1), ("split-channels.txt", True, 2)]
)
def test_what_is_written_and_watched_is_what_linux_writes_and_watches(
    name: str, split: bool, queues: int
) -> None:
    world = BackWorld(options=VifOptions(max_queues=queues, split_channels=split))
    world.connect(split=split)
    assert world.log.log == recorded(name, "create")
    assert world.vif.carrier
    world.log.log.clear()
    world.nodes.write(f"{BE}/online", "0")
    world.state(6)
    assert world.log.log == recorded(name, "detach")
    assert world.held() == NOTHING_HELD


def test_options_that_are_off_are_advertised_as_0() -> None:
    off = VifOptions(
        ctrl_ring=False, xdp_headroom=False, multicast=False, split_channels=False, max_queues=3
    )
    world = BackWorld(options=off)
    assert world.own("feature-ctrl-ring") == "0"
    assert world.own("feature-xdp-headroom") == "0"
    assert world.own("feature-multicast-control") == "0"
    assert world.own("feature-dynamic-multicast-control") == "0"
    assert world.own("feature-split-event-channels") == "0"
    assert world.own("multi-queue-max-queues") == "3"


@pytest.mark.parametrize("queues", [0, 9])
def test_a_vif_has_1_to_8_queues(queues: int) -> None:
    with pytest.raises(ValueError, match="max_queues"):
        VifOptions(max_queues=queues)


@pytest.mark.parametrize("split", [False, True])
def test_every_queue_of_several_carries_packets(split: bool) -> None:
    world = BackWorld(options=VifOptions(max_queues=8))
    world.connect(8, split=split)
    for number, queue in enumerate(world.queues):
        queue.payload.u8[:60] = bytes([number]) * 60
        queue.send(60)
        assert queue.statuses() == [0]
    assert world.stack.received == [bytes([number]) * 60 for number in range(8)]
    assert [counters.tx.packets for counters in world.vif.queue_counters] == [1] * 8
    assert world.vif.counters.tx.packets == 8
    world.state(6)
    assert world.held() == NOTHING_HELD


def test_counters_run_over_all_connections() -> None:
    world = BackWorld(options=VifOptions(max_queues=2))
    world.connect(2)
    for queue in world.queues:
        queue.send(60)
    world.reconnect()
    world.queues[0].send(100)
    assert world.vif.counters.tx.packets == 3
    assert world.vif.counters.tx.bytes == 220


def test_vifs_of_a_domain_can_share_the_pages_they_receive_into() -> None:
    world = BackWorld()
    stage = TxStage(world.host)
    pages = [stage.take() for _ in range(3)]
    assert pages[0] is pages[1] is pages[2]
    for _ in pages:
        assert world.held()[2] == pages[0].count
        stage.give_back()
    assert world.held()[2] == 0


def test_frames_of_the_host_are_spread_over_the_queues_and_none_is_lost() -> None:
    world = BackWorld(options=VifOptions(max_queues=4))
    world.connect(4)
    # Nobody posted a buffer: every queue pulled what is its own, and they expire.
    world.stack.to_send = [bytes([i]) * 60 for i in range(40)]
    world.vif.kick()
    world.run()
    world.advance(11 * 10**9)
    assert world.vif.counters.expired == 40


# -- xdp headroom ----------------------------------------------------------------------------------


def test_reconfiguring_reads_the_headroom_again_and_shows_reconfigured() -> None:
    world = BackWorld()
    world.connect(feature_sg="0")
    world.publish(xdp_headroom="256")
    assert world.vif.config[C_HEADROOM] == 0
    world.state(7)
    assert world.own_state == "8"
    assert world.vif.config[C_HEADROOM] == 256
    assert world.stack.offload.max_frame == 4096 - 256
    world.state(4)
    assert world.own_state == "4"
    assert world.vif.carrier


def test_reconfiguring_before_connecting_changes_nothing() -> None:
    world = BackWorld()
    world.publish(xdp_headroom="256")
    world.state(7)
    assert not world.vif.carrier
    assert world.vif.config[C_HEADROOM] == 0


def test_a_headroom_that_was_not_offered_is_not_left() -> None:
    world = BackWorld(options=VifOptions(xdp_headroom=False))
    world.connect(xdp_headroom="256")
    world.state(7)
    assert world.vif.config[C_HEADROOM] == 0


# -- multicast control -----------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "filtering"), [("1", 1), ("0", 0), ("junk", 0), (None, 0)])
def test_multicast_control_is_sampled_at_connect(value: str | None, filtering: int) -> None:
    for dynamic in (False, True):
        world = BackWorld(options=VifOptions(dynamic_multicast=dynamic))
        world.connect(request_multicast_control=value)
        assert world.vif.config[C_MCAST_FILTER] == filtering


@pytest.mark.parametrize("dynamic", [False, True])
def test_multicast_control_is_watched_only_if_that_was_offered(dynamic: bool) -> None:
    world = BackWorld(options=VifOptions(dynamic_multicast=dynamic))
    world.connect()
    world.publish(request_multicast_control="1")
    world.run()
    assert world.vif.config[C_MCAST_FILTER] == int(dynamic)
    world.publish(request_multicast_control=None)
    world.run()
    assert world.vif.config[C_MCAST_FILTER] == 0


def test_multicast_control_that_was_not_offered_is_not_read() -> None:
    world = BackWorld(options=VifOptions(multicast=False))
    world.connect(request_multicast_control="1")
    assert world.vif.config[C_MCAST_FILTER] == 0


# -- control ring ----------------------------------------------------------------------------------


def test_the_algorithm_of_the_control_ring_reaches_the_queues_and_goes_with_the_connection() -> (
    None
):
    world = BackWorld()
    world.prepare()
    front = world.add_ctrl_ring()
    world.state(4)
    for kind, data in (
        (XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ),
        (XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, XEN_NETIF_CTRL_HASH_TYPE_IPV4),
    ):
        assert world.vif.config[C_HASH] == 0
        front.ctrl(kind, data, ident=1)
        front.push_ctrl()
        world.run()
    assert world.vif.config[C_HASH] == XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ
    world.publish(ctrl_ring_ref=None)
    world.reconnect()
    assert world.vif.config[C_HASH] == 0


def test_the_multicast_list_goes_with_the_connection() -> None:
    world = BackWorld()
    world.connect()
    assert mcast_add(world.vif.config, 0x01005E000001)
    world.reconnect()
    assert world.vif.config[C_MCAST_COUNT] == 0


def test_an_impossible_index_in_the_control_ring_disables_the_vif() -> None:
    world = BackWorld()
    world.prepare()
    front = world.add_ctrl_ring()
    world.state(4)
    front.set_index("req_prod", FAR, ring="ctrl")
    front.notify("ctrl")
    world.run()
    assert world.vif.error is not None
    assert (world.vif.error.rule, world.vif.error.ring) == ("F1", "ctrl")
    assert not world.vif.carrier
    world.state(6)
    assert world.held() == NOTHING_HELD


# -- fatal errors ----------------------------------------------------------------------------------


def broken_world(queues: int = 3) -> BackWorld:
    world = BackWorld(options=VifOptions(max_queues=queues))
    world.connect(queues)
    world.queues[-1].tx_ring.sring.req_prod = FAR
    world.guest.notify(world.queues[-1].tx_port)
    world.run()
    return world


def test_what_one_queue_is_guilty_of_stops_all_queues_of_the_vif() -> None:
    world = broken_world()
    assert world.vif.disabled
    assert not world.vif.carrier
    assert world.vif.error is not None
    assert world.vif.error.rule == "F1"
    world.queues[0].send(60)
    world.stack.to_send = [bytes(60)]
    world.vif.kick()
    world.run()
    assert world.queues[0].statuses() == []
    assert world.stack.received == []


def test_a_disabled_vif_stays_connected_in_the_store_and_says_no_error() -> None:
    world = broken_world()
    assert world.own_state == "4"
    assert world.error == ""


def test_frames_for_a_disabled_vif_are_dropped_and_counted() -> None:
    world = broken_world()
    world.stack.to_send = [bytes(60)] * 600
    world.vif.kick()
    world.run()
    assert world.stack.to_send == []
    assert world.vif.counters.dropped == 600


def test_fatal_then_close_then_reconnect_works() -> None:
    # XSA-374: the abandoned queues must be torn down like others.
    world = broken_world()
    world.reconnect(2)
    assert world.vif.carrier
    assert not world.vif.disabled
    assert world.vif.error is None
    for queue in world.queues:
        queue.send(60)
        assert queue.statuses() == [0]
    world.state(6)
    assert world.held() == NOTHING_HELD


# -- carrier node ----------------------------------------------------------------------------------


def test_linux_does_not_write_the_carrier_node() -> None:
    world = broken_world()
    assert world.own("carrier") == ""


def test_the_carrier_node_follows_the_carrier_if_that_is_wanted() -> None:
    world = BackWorld(options=VifOptions(publish_carrier=True))
    assert world.own("carrier") == ""
    world.connect()
    assert world.own("carrier") == "1"
    world.queues[0].tx_ring.sring.req_prod = FAR
    world.guest.notify(world.queues[0].tx_port)
    world.run()
    assert world.own("carrier") == "0"
    world.reconnect()
    assert world.own("carrier") == "1"
    world.state(6)
    assert world.own("carrier") == "0"


def test_a_vanished_directory_is_not_brought_back_by_the_carrier_node() -> None:
    world = BackWorld(options=VifOptions(publish_carrier=True))
    world.connect()
    world.nodes.rm(BE)
    world.state(6)
    assert world.own("carrier") == ""


# -- hostile lives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "states",
    [
        (5, 4),
        (5, 6, 4),
        (6, 4),
        (3, 4),
        (1, 4),
        (4, 4),
        (7, 4, 7, 5, 4),
        (6, 1, 4),
        (5, 1, 6, 1, 4, 6),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_F25_any_walk_of_states_ends_connected_once_or_with_nothing_held(
    states: tuple[int, ...], at_once: bool
) -> None:
    # Connected -> Closing -> Connected, Closed -> Connected without Initialising, and so on; with
    # the old ports, which wait for the backend again as soon as it has let go.
    world = BackWorld()
    world.connect()
    for state in states:
        world.guest.store.write(f"{FE}/state", str(state))
        if not at_once:
            world.run()
    world.run()
    if world.vif.carrier:
        mappings, ports, _ = world.held()
        assert (mappings, ports) == (2, 1)
        assert world.own_state == "4"
    else:
        assert world.held() == NOTHING_HELD
    assert world.vif.carrier == (world.own_state == "4")
    world.state(6)
    assert world.held() == NOTHING_HELD


def test_F27_removing_the_own_directory_while_connected_removes_the_device() -> None:
    world = BackWorld(options=VifOptions(max_queues=2))
    world.connect(2, split=True)
    world.guest.store.rm(FE)
    world.run()
    assert world.backend.removed
    assert world.held() == NOTHING_HELD
    assert world.machine.watches == []
    assert not world.vif.carrier


def test_F28_events_on_a_wrong_port_do_nothing() -> None:
    world = BackWorld()
    world.connect()
    stray = world.guest.alloc_unbound(0)
    world.queues[0].tx()
    assert world.queues[0].tx_ring.push_requests_and_check_notify()
    world.guest.notify(stray)
    world.run()
    assert world.stack.received == []
    world.guest.notify(world.queues[0].tx_port)
    world.run()
    assert len(world.stack.received) == 1


def test_F28_a_frontend_that_closes_its_port_loses_events_only() -> None:
    world = BackWorld()
    world.connect()
    queue = world.queues[0]
    world.guest.close_port(queue.tx_port)
    queue.tx()
    queue.tx_ring.sring.rsp_event = 1
    assert queue.tx_ring.push_requests_and_check_notify()  # and there is no port for it
    world.stack.to_send = [bytes(60)]
    world.vif.kick()
    world.run()
    assert queue.statuses() == [0]
    assert world.vif.carrier
    world.state(6)
    assert world.held() == NOTHING_HELD


def test_thirty_reconnects_hold_no_more_than_one() -> None:
    world = BackWorld(options=VifOptions(max_queues=2))
    world.connect(2, split=True)
    before = world.held(), len(world.machine.watches), len(world.machine.timers)
    for _ in range(30):
        world.reconnect(2, split=True)
    assert (world.held(), len(world.machine.watches), len(world.machine.timers)) == before
