"""Which keys a frontend publishes, in which order, for every kind, option and features."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from netfront_world import FrontendWorld

from xennet.netfront.kinds import FREEBSD, LINUX, WINDOWS
from xennet.netfront.options import NetfrontOptions
from xennet.testing import minimal_hypervisor

RECORDINGS = Path(__file__).parents[1] / "data" / "handshake"
SPLIT = {"feature-split-event-channels": 1, "multi-queue-max-queues": 4}


def names(world: FrontendWorld) -> list[str]:
    """What was written between the two states of a start."""
    written = [name for name, _ in world.writes]
    return [name for name in written if name != "state"]


def recorded(name: str) -> list[str]:
    """The same of a Linux 6.1 guest on Xen."""
    lines = (RECORDINGS / f"{name}.txt").read_text().splitlines()
    pattern = re.compile(r"create domU1-kernel WRITE device/vif/0/(\S+) (\S+) -> OK")
    keys = [match.groups() for match in map(pattern.fullmatch, lines) if match]
    return [key for key, _ in keys if key != "state"]


@pytest.mark.parametrize(("recording", "split"), [("single-channel", 0), ("split-channels", 1)])
def test_a_linux_frontend_writes_what_was_recorded(recording: str, split: int) -> None:
    features = {"feature-split-event-channels": split, "multi-queue-max-queues": 1 + split}
    world = FrontendWorld(features=features).start()
    assert names(world) == recorded(recording)
    values = world.keys
    features = [key for key in values if key.startswith(("feature", "request"))]
    assert {values[key] for key in features} == {"1"}
    assert values["multi-queue-num-queues"] == "1"
    assert values["xdp-headroom"] == "0"
    assert world.state == 4


def test_a_backend_without_queues_and_xdp_gets_no_key_for_them() -> None:
    features = {"multi-queue-max-queues": None, "feature-xdp-headroom": 0}
    world = FrontendWorld(features=features).start()
    assert names(world)[:3] == ["tx-ring-ref", "rx-ring-ref", "event-channel"]


def test_two_queues_have_directories_and_no_flat_keys() -> None:
    world = FrontendWorld(options=NetfrontOptions(queues=2), features=SPLIT).start()
    ring = ["tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx"]
    expected = [f"queue-{n}/{key}" for n in (0, 1) for key in ring]
    assert names(world)[1:10] == ["multi-queue-num-queues", *expected]
    assert not set(ring) & set(world.published)
    numbers = [world.keys[name] for name in expected]
    assert len(set(numbers[:2] + numbers[4:6])) == 4  # four grants
    assert len(set(numbers[2:4] + numbers[6:])) == 4  # four ports


@pytest.mark.parametrize(
    ("wanted", "offered", "agreed"),
    [(8, 3, 3), (2, 8, 2), (8, 100, 8), (4, 0, 1), (4, "lots", 1), (4, 1, 1)],
)
def test_the_number_of_queues_is_what_both_ends_want(
    wanted: int, offered: int | str, agreed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minimal_hypervisor, "GRANT_ENTRIES", 8192)
    options = NetfrontOptions(queues=wanted)
    world = FrontendWorld(options=options, features={"multi-queue-max-queues": offered}).start()
    assert world.keys["multi-queue-num-queues"] == str(agreed)
    assert len(world.netfront.queues) == agreed


@pytest.mark.parametrize("queues", [0, 9])
def test_a_number_of_queues_that_no_frontend_has_is_refused(queues: int) -> None:
    with pytest.raises(ValueError, match="queues"):
        NetfrontOptions(queues=queues)


def reconnect(world: FrontendWorld) -> None:
    """The frontend's driver is unloaded and loaded again."""
    world.frontend.close()
    world.set_state(5)
    world.set_state(6)
    world.frontend.start()
    world.machine.run()
    world.set_state(2)
    assert world.state == 4


def test_two_queues_that_connect_again_take_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FrontendWorld(options=NetfrontOptions(queues=2), features=SPLIT).connect()
    before = world.published
    removed: list[str] = []
    monkeypatch.setattr(world.guest.store, "rm", removed.append)
    reconnect(world)
    assert removed == []
    assert world.published == before


def test_channels_of_queues_that_are_split_no_more_are_taken_back() -> None:
    world = FrontendWorld(options=NetfrontOptions(queues=2), features=SPLIT).connect()
    world.netfront.options = NetfrontOptions(queues=2, split=False)
    reconnect(world)
    for queue in ("queue-0", "queue-1"):
        keys = {key for key in world.published if key.startswith(f"{queue}/")}
        assert keys == {f"{queue}/{key}" for key in ("tx-ring-ref", "rx-ring-ref", "event-channel")}


def test_keys_of_an_earlier_connection_with_other_queues_are_taken_back() -> None:
    world = FrontendWorld(options=NetfrontOptions(queues=2), features=SPLIT).connect()
    world.netfront.options = NetfrontOptions(split=False)
    reconnect(world)
    assert not [name for name in world.published if name.startswith("queue-")]
    assert "event-channel" in world.published
    world.netfront.options = NetfrontOptions(queues=3)
    reconnect(world)
    assert not {"tx-ring-ref", "rx-ring-ref", "event-channel"} & set(world.published)
    assert "queue-2/event-channel-rx" in world.published


def test_what_the_toolstack_wrote_stays() -> None:
    own = {"handle": 0, "mtu": 1500, "queue": "mine", "queue-0/tx-ring-ref": 9, "tx-ring-ref": 9}
    world = FrontendWorld(own=own).start()
    assert {"handle", "mtu", "queue", "mac", "backend"} <= set(world.published)
    assert "queue-0/tx-ring-ref" not in world.published


def test_what_the_administrator_switches_off_is_written_as_0() -> None:
    keys = FrontendWorld(options=NetfrontOptions(sg=False)).start().keys
    switched = {key: keys[key] for key in keys if "sg" in key or "gso" in key}
    assert switched == {"feature-sg": "0", "feature-gso-tcpv4": "0", "feature-gso-tcpv6": "0"}
    keys = FrontendWorld(options=NetfrontOptions(gso=False)).start().keys
    assert (keys["feature-sg"], keys["feature-gso-tcpv4"]) == ("1", "0")


@pytest.mark.parametrize("kind", [LINUX, FREEBSD, WINDOWS], ids=lambda kind: kind.name)
def test_field_bug_11_a_frontend_without_checksums_says_so(kind) -> None:  # type: ignore[no-untyped-def]
    keys = FrontendWorld(kind, NetfrontOptions(csum=False)).start().keys
    assert keys["feature-no-csum-offload"] == "1"
    assert keys.get("feature-ipv6-csum-offload", "0") == "0"
    assert keys["feature-gso-tcpv4"] == "0"
    assert "feature-no-csum-offload" not in FrontendWorld(kind).start().keys


def test_a_freebsd_frontend_has_one_channel_and_no_ipv6_offload() -> None:
    world = FrontendWorld(FREEBSD, features=SPLIT).start()
    assert names(world) == [
        *("tx-ring-ref", "rx-ring-ref", "event-channel"),
        *("request-rx-copy", "feature-rx-notify", "feature-sg", "feature-gso-tcpv4"),
    ]


def test_a_windows_frontend_has_a_control_ring_and_wants_multicast_control() -> None:
    world = FrontendWorld(WINDOWS, NetfrontOptions(queues=2), features=SPLIT).start()
    written = names(world)
    assert written[:3] == ["ctrl-ring-ref", "event-channel-ctrl", "queue-0/rx-ring-ref"]
    assert written[-1] == "multi-queue-num-queues"
    assert world.keys["request-multicast-control"] == "1"
    assert "xdp-headroom" not in written


def test_without_a_control_ring_at_the_backend_windows_has_none() -> None:
    world = FrontendWorld(WINDOWS, features={"feature-ctrl-ring": None}).start()
    assert "ctrl-ring-ref" not in world.published


def test_an_old_windows_frontend_asks_for_gso_prefixes() -> None:
    keys = FrontendWorld(WINDOWS, NetfrontOptions(gso_prefix=True)).start().keys
    assert keys["feature-gso-tcpv4-prefix"] == keys["feature-gso-tcpv6-prefix"] == "1"
    assert keys["feature-gso-tcpv4"] == "0"


def test_field_bug_12_a_directory_that_vanished_is_not_brought_back() -> None:
    world = FrontendWorld()
    world.frontend.start()
    world.host.store.rm("/local/domain/1/device/vif/0")
    world.machine.run()
    assert not world.published
    assert world.holds_nothing()
