"""Missing and garbage nodes: what cannot go on says which node it was and what was found there;
what has a default takes it. Every key of a vif that one end reads of the other."""

from __future__ import annotations

import re

import pytest
from vif_world import LinuxBackendDriver, LinuxFrontendDriver, World

from xennet.xenbus.device import StoreValue, XenbusDevice
from xennet.xenbus.errors import XenbusError

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"

#: Keys that a backend cannot do without, once they are wanted.
REQUIRED = (
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel",
    "event-channel-tx",
    "event-channel-rx",
    "ctrl-ring-ref",
    "event-channel-ctrl",
    "queue-0/tx-ring-ref",
    "queue-1/event-channel-rx",
)
#: Keys of frontends, and of backends, with the default of the reader.
OPTIONAL_FRONTEND = {
    "multi-queue-num-queues": 1,
    "request-rx-copy": 0,
    "feature-rx-notify": 0,
    "feature-sg": 0,
    "feature-gso-tcpv4": 0,
    "feature-gso-tcpv6": 0,
    "feature-ipv6-csum-offload": 0,
    "feature-no-csum-offload": 0,
    "request-multicast-control": 0,
    "xdp-headroom": 0,
}
OPTIONAL_BACKEND = {
    "feature-sg": 0,
    "feature-gso-tcpv4": 0,
    "feature-gso-tcpv6": 0,
    "feature-ipv6-csum-offload": 0,
    "feature-rx-copy": 0,
    "feature-multicast-control": 0,
    "feature-dynamic-multicast-control": 0,
    "feature-split-event-channels": 0,
    "multi-queue-max-queues": 1,
    "feature-ctrl-ring": 0,
    "feature-xdp-headroom": 0,
    "carrier": 1,
}
BINARY = bytes(range(256)) * 7 + b"\xff" * 200
GARBAGE: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "word": b"abc",
    "negative": b"-1",
    "too big": b"4294967296",
    "2 kB of binary": BINARY,
}
garbage = pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE)


@pytest.fixture(scope="module")
def world() -> World:
    """For tests that only read."""
    world = World()
    world.connected()
    return world


def put(world: World, path: str, value: bytes | None) -> None:
    if value is None:
        if world.exists(path):
            world.root.rm(path)
    else:
        world.root.write(path, value)


def check(error: str | None, path: str, value: bytes | None) -> None:
    """``error`` is "errno path: what (found value)", and not longer than a node may be."""
    assert error is not None
    number = "2" if value is None else "22"
    assert error.startswith(f"{number} {path}: ")
    if value is not None:
        assert f"(found {value[:64]!r})" in error
    assert len(error) < 1024
    assert error.isprintable()


@garbage
@pytest.mark.parametrize("key", REQUIRED)
def test_a_key_that_a_backend_needs_is_named(key: str, value: bytes | None) -> None:
    class Reader(LinuxBackendDriver):
        def connect(self, dev: XenbusDevice) -> None:
            self.connected = True
            directory, _, name = key.rpartition("/")
            keys = dev.otherend.sub(directory) if directory else dev.otherend
            keys.unsigned(name)

    world = World()
    world.make_backend_driver = Reader
    world.create_domain()
    world.attach()
    world.idle()
    put(world, f"{FE}/{key}", value)
    world.root.write(f"{FE}/state", "4")
    world.idle()
    check(world.value("/local/domain/0/error/backend/vif/1/0/error"), f"{FE}/{key}", value)
    assert world.states()[1] == 5
    assert not world.backend_drivers[0].connected


@garbage
@pytest.mark.parametrize("key", OPTIONAL_FRONTEND)
def test_a_key_with_a_default_of_a_frontend(world: World, key: str, value: bytes | None) -> None:
    put(world, f"{FE}/{key}", value)
    default = OPTIONAL_FRONTEND[key]
    assert world.backend().dev.otherend.optional_unsigned(key, default) == default


@garbage
@pytest.mark.parametrize("key", OPTIONAL_BACKEND)
def test_a_key_with_a_default_of_a_backend(world: World, key: str, value: bytes | None) -> None:
    put(world, f"{BE}/{key}", value)
    default = OPTIONAL_BACKEND[key]
    assert world.frontend().dev.otherend.optional_unsigned(key, default) == default


@garbage
def test_a_mac_address_is_named_by_a_frontend(value: bytes | None) -> None:
    class Reader(LinuxFrontendDriver):
        def setup(self, dev: XenbusDevice) -> list[tuple[str, StoreValue]]:
            self.set_up = True
            mac = dev.own.raw("mac")
            if not re.fullmatch(rb"(..:){5}..", mac):
                raise XenbusError(22, "parsing mac", path=dev.own.node("mac"), value=mac)
            return []

    world = World()
    world.make_frontend_driver = Reader
    world.create_domain()
    world.attach()
    world.idle()
    put(world, f"{FE}/mac", value)
    world.boot()
    world.idle()
    check(world.value("/local/domain/1/error/device/vif/0/error"), "device/vif/0/mac", value)
    assert world.states()[0] in (5, 6)


@garbage
@pytest.mark.parametrize("key", ["frontend-id", "handle"])
def test_a_number_of_the_backends_own_is_named(key: str, value: bytes | None) -> None:
    world = World()
    world.create_domain()
    world.backends.stop()
    world.attach()
    put(world, f"{BE}/{key}", value)
    world.backends.start()
    world.idle()
    check(
        world.value("/local/domain/0/error/backend/vif/1/0/error"),
        f"backend/vif/1/0/{key}",
        value,
    )
    assert world.backend().failed


@garbage
@pytest.mark.parametrize("key", ["backend", "backend-id"])
def test_the_way_to_a_backend_is_named_by_a_frontend(key: str, value: bytes | None) -> None:
    world = World()
    world.create_domain()
    world.attach()
    world.idle()
    put(world, f"{FE}/{key}", value)
    world.boot()
    world.idle()
    error = world.value("/local/domain/1/error/device/vif/0/error")
    assert error is not None
    assert f"device/vif/0/{key}: " in error
    assert world.states()[0] == 5
    assert world.store.watches_of(1) == 1


@garbage
def test_online_counts_as_offline_when_it_cannot_be_read(value: bytes | None) -> None:
    world = World()
    world.hostile()
    put(world, f"{BE}/online", value)
    world.set_frontend_state("6")
    assert world.backends.devices == {}
