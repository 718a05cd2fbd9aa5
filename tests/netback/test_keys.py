"""Every key that a frontend publishes: missing, garbled, out of range (rules F21, F23, F26)."""

from __future__ import annotations

import pytest
from back_world import BackWorld

from xennet.frames import Offload
from xennet.netback.policy import VifOptions
from xennet.netback.vif_config import C_HEADROOM

NOTHING_HELD = (0, 0, 0)


def refused(world: BackWorld) -> str:
    """The error of a device that did not connect; nothing of the guest is held."""
    assert not world.vif.carrier
    assert world.own_state == "5"
    assert world.held() == NOTHING_HELD
    assert [watch.path.rpartition("/")[2] for watch in world.machine.watches] == ["state"]
    return world.error


@pytest.mark.parametrize("count", ["0", "3", "8", "4294967295"])
def test_F23_a_number_of_queues_that_was_not_offered_is_refused_by_name(count: str) -> None:
    world = BackWorld(options=VifOptions(max_queues=2))
    world.connect(multi_queue_num_queues=count)
    assert "multi-queue-num-queues: number of queues is not in 1..2" in refused(world)
    assert count in world.error


@pytest.mark.parametrize("count", [None, "junk", "-1", "99999999999"])
def test_a_number_of_queues_that_is_missing_or_garbage_is_1(count: str | None) -> None:
    world = BackWorld()
    world.connect(multi_queue_num_queues=count)
    assert world.vif.carrier
    assert len(world.vif.queues) == 1


@pytest.mark.parametrize("key", ["tx_ring_ref", "rx_ring_ref"])
@pytest.mark.parametrize("value", [None, "", "junk", "-1", "0x10", "4294967296"])
def test_F21_a_ring_reference_that_is_missing_or_no_number_is_named(
    key: str, value: str | None
) -> None:
    world = BackWorld()
    world.connect(**{key: value})
    assert key.replace("_", "-") in refused(world)


@pytest.mark.parametrize("key", ["tx_ring_ref", "rx_ring_ref"])
@pytest.mark.parametrize("value", ["0", "1500", "4294967295"])
def test_F21_a_reference_that_grants_nothing_is_named(key: str, value: str) -> None:
    world = BackWorld()
    world.connect(**{key: value})
    assert key.replace("_", "-") in refused(world)
    assert value in world.error


def test_F21_a_reference_that_is_granted_to_another_domain_is_refused() -> None:
    world = BackWorld()
    page = world.guest.alloc_pages(1)
    world.connect(tx_ring_ref=str(world.guest.grants.grant_access(7, page.first)))
    assert "tx-ring-ref" in refused(world)


def test_F21_the_same_page_as_both_rings_connects() -> None:
    world = BackWorld()
    world.prepare()
    world.publish(rx_ring_ref=str(world.queues[0].tx_ref))
    world.state(4)
    assert world.vif.carrier


def test_F21_two_queues_may_share_their_ring_pages_as_in_linux() -> None:
    # Each has indices of its own: the guest confuses itself, and nobody else.
    world = BackWorld(options=VifOptions(max_queues=2))
    world.prepare(2)
    first = world.queues[0]
    world.publish(queue_1__tx_ring_ref=str(first.tx_ref), queue_1__rx_ring_ref=str(first.rx_ref))
    world.state(4)
    assert world.vif.carrier
    first.send()
    world.stack.to_send = [bytes(60)]
    world.vif.kick()
    world.run()
    world.state(6)
    assert world.held() == NOTHING_HELD


def test_F21_two_queues_cannot_share_a_channel() -> None:
    world = BackWorld(options=VifOptions(max_queues=2))
    world.prepare(2)
    port = str(world.queues[0].tx_port)
    world.publish(queue_1__event_channel=port)
    world.state(4)
    assert "queue-1/event-channel" in refused(world)


@pytest.mark.parametrize("value", [None, "", "junk", "0", "4095"])
def test_F21_an_event_channel_that_is_missing_or_garbage_is_named(value: str | None) -> None:
    world = BackWorld()
    world.connect(event_channel=value)
    assert "event-channel" in refused(world)


def test_the_pair_of_channels_is_preferred_to_the_single_one() -> None:
    world = BackWorld()
    world.connect(split=True, event_channel="junk")
    (queue,) = world.vif.queues
    assert queue.tx_port != queue.rx_port


@pytest.mark.parametrize("half", ["event_channel_tx", "event_channel_rx"])
@pytest.mark.parametrize("value", [None, "junk"])
def test_half_a_pair_of_channels_falls_back_to_the_single_one(half: str, value: str | None) -> None:
    world = BackWorld()
    world.prepare(split=True)
    port = str(world.guest.alloc_unbound(0))
    world.publish(**{half: value, "event_channel": port})
    world.state(4)
    (queue,) = world.vif.queues
    assert queue.tx_port == queue.rx_port


def test_a_garbled_half_of_a_pair_is_what_is_blamed() -> None:
    world = BackWorld()
    world.connect(split=True, event_channel_rx="junk")
    assert "event-channel-rx" in refused(world)


def test_flat_keys_are_for_one_queue_only() -> None:
    world = BackWorld(options=VifOptions(max_queues=2))
    world.connect(multi_queue_num_queues="2")
    assert "queue-0/tx-ring-ref" in refused(world)


def test_keys_in_queue_directories_are_for_several_queues_only() -> None:
    world = BackWorld(options=VifOptions(max_queues=2))
    world.connect(2, multi_queue_num_queues="1")
    assert "vif/0/tx-ring-ref" in refused(world)


def test_a_bad_last_queue_undoes_the_good_ones() -> None:
    world = BackWorld(options=VifOptions(max_queues=8))
    world.prepare(8, split=True)
    world.publish(queue_7__rx_ring_ref="1999")
    world.state(4)
    assert "queue-7/rx-ring-ref" in refused(world)


@pytest.mark.parametrize("value", [None, "0"])
def test_without_request_rx_copy_no_feature_is_looked_at(value: str | None) -> None:
    world = BackWorld()
    world.connect(request_rx_copy=value, feature_no_csum_offload="1", xdp_headroom="256")
    assert world.vif.carrier
    wanted = Offload(sg=False, csum_v4=True, csum_v6=False, gso_types=0, max_frame=4096)
    assert world.stack.offload == wanted
    assert world.vif.config[C_HEADROOM] == 0


def test_a_garbled_request_rx_copy_is_refused_by_name() -> None:
    world = BackWorld()
    world.connect(request_rx_copy="yes")
    assert "request-rx-copy" in refused(world)


def test_a_frontend_that_takes_everything_gets_everything() -> None:
    world = BackWorld()
    world.connect()
    assert world.stack.offload == Offload()


@pytest.mark.parametrize(
    ("key", "value", "offload"),
    [
        ("feature_sg", None, Offload(sg=False, gso_types=0, max_frame=4096)),
        ("feature_sg", "junk", Offload(sg=False, gso_types=0, max_frame=4096)),
        ("feature_gso_tcpv4", "0", Offload(gso_types=1 << 2)),
        ("feature_gso_tcpv6", None, Offload(gso_types=1 << 1)),
        ("feature_no_csum_offload", "1", Offload(csum_v4=False)),
        ("feature_no_csum_offload", "junk", Offload()),
        ("feature_ipv6_csum_offload", None, Offload(csum_v6=False)),
        ("feature_ipv6_csum_offload", "junk", Offload(csum_v6=False)),
    ],
)
def test_a_feature_that_is_missing_or_garbage_is_the_default(
    key: str, value: str | None, offload: Offload
) -> None:
    world = BackWorld()
    world.connect(**{key: value})
    assert world.stack.offload == offload


def test_gso_prefix_is_a_way_to_take_gso() -> None:
    world = BackWorld()
    world.connect(feature_gso_tcpv4=None, feature_gso_tcpv6=None, feature_gso_tcpv4_prefix="1")
    assert world.stack.offload.gso_types == 1 << 1
    assert world.vif.queues[0].vif.features.gso_prefix_types == 1 << 1


def test_gso_and_gso_prefix_of_a_type_exclude_each_other() -> None:
    world = BackWorld()
    world.connect(feature_gso_tcpv4_prefix="1")
    assert "mutually exclusive" in refused(world)


@pytest.mark.parametrize(
    ("value", "headroom"),
    [
        (None, 0),
        ("0", 0),
        ("256", 256),
        ("2048", 2048),
        ("2049", 0),
        ("4097", 0),
        ("32768", 0),
        ("-1", 0),
        ("junk", 0),
    ],
)
def test_xdp_headroom_beyond_what_a_page_can_give_is_none(value: str | None, headroom: int) -> None:
    world = BackWorld()
    world.connect(xdp_headroom=value)
    assert world.vif.carrier
    assert world.vif.config[C_HEADROOM] == headroom


def test_xdp_headroom_shortens_the_longest_frame_without_sg() -> None:
    world = BackWorld()
    world.connect(xdp_headroom="256", feature_sg="0")
    assert world.stack.offload.max_frame == 4096 - 256


@pytest.mark.parametrize("value", [None, "junk", "-3"])
def test_without_a_readable_reference_there_is_no_control_ring(value: str | None) -> None:
    world = BackWorld()
    world.connect(ctrl_ring_ref=value, event_channel_ctrl="1")
    assert world.vif.carrier
    assert len(world.host.mappings) == 2


@pytest.mark.parametrize("value", [None, "junk"])
def test_a_control_ring_without_a_port_is_refused_by_name(value: str | None) -> None:
    world = BackWorld()
    world.prepare()
    world.add_ctrl_ring()
    world.publish(event_channel_ctrl=value)
    world.state(4)
    assert "event-channel-ctrl" in refused(world)


@pytest.mark.parametrize("key", ["ctrl_ring_ref", "event_channel_ctrl"])
def test_a_control_ring_that_cannot_be_connected_is_refused_by_name(key: str) -> None:
    world = BackWorld()
    world.prepare()
    world.add_ctrl_ring()
    world.publish(**{key: "1999"})
    world.state(4)
    assert key.replace("_", "-") in refused(world)


def test_a_control_ring_that_was_not_offered_is_not_looked_for() -> None:
    world = BackWorld(options=VifOptions(ctrl_ring=False))
    world.connect(ctrl_ring_ref="1999")
    assert world.vif.carrier


def test_F26_the_guest_does_not_name_itself() -> None:
    world = BackWorld()
    world.connect(mac="ff:ff:ff:ff:ff:ff")
    assert world.vif.mac == bytes.fromhex("00163e000001")


@pytest.mark.parametrize("mac", ["x" * 2000, "\x00\x01\x02", "", "00:16:3e:00:00"])
def test_F26_hostile_text_in_the_frontends_mac_is_never_read(mac: str) -> None:
    world = BackWorld()
    world.connect(mac=mac)
    assert world.vif.carrier


@pytest.mark.parametrize(
    "mac", ["", "junk", "00:16:3e:00:00", "00:16:3e:00:00:01:02", "0:0:0:0:0:g"]
)
def test_a_mac_that_the_toolstack_did_not_give_is_fatal(mac: str) -> None:
    world = BackWorld(own={"mac": mac})
    world.connect()
    assert "backend/vif/1/0/mac" in refused(world)


def test_a_mac_of_single_digits_is_one() -> None:
    world = BackWorld(own={"mac": "0:16:3E:0:0:1"})
    world.connect()
    assert world.vif.mac == bytes.fromhex("00163e000001")
