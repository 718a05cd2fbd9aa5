"""Scenarios of nodes that are missing or garbage; all of them are named, whether or not the vif
works."""

from __future__ import annotations

from collections.abc import Iterable

from xennet.lifecycle.remarks import OF_BACKEND, OF_FRONTEND, OF_GUEST, Fallback, remarks
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scenarios.backends import rebind
from xennet.lifecycle.scene import Scene

_GARBAGE = "junk"
#: Nodes that are not read when a frontend starts.
_NOT_NOW = frozenset({"online", "carrier"})


def _by_hand(scene: Scene, keys: dict[str, str]) -> None:
    """Let a guest without a driver write ``keys``, then Connected."""
    scene.load_backend()
    scene.plug()
    scene.tell("The guest has no driver: somebody in it writes keys by hand, then Connected.")
    for name, value in (*keys.items(), ("state", "4")):
        scene.guest.kernel.store.write(f"device/vif/0/{name}", value)
    scene.settle()


def _garbage_ring_ref(scene: Scene) -> None:
    _by_hand(scene, {"tx-ring-ref": _GARBAGE, "rx-ring-ref": "9", "event-channel": "1"})


def _missing_event_channel(scene: Scene) -> None:
    _by_hand(scene, {"tx-ring-ref": "8", "rx-ring-ref": "9"})


def _garbage_mac(scene: Scene) -> None:
    scene.load_backend()
    scene.plug()
    scene.tell("Somebody spoils the address that the toolstack gave to the guest.")
    scene.host.store.write(f"{scene.vif.paths.frontend}/mac", _GARBAGE)
    scene.load_frontend()


def _no_rx_copy(scene: Scene) -> None:
    scene.load_backend()
    scene.plug()
    scene.tell("The backend turns out to be one that can only flip pages.")
    scene.owner.kernel.store.write(f"{scene.vif.paths.backend_node}/feature-rx-copy", "0")
    scene.load_frontend()


def _early_init_wait(scene: Scene) -> None:
    scene.load_frontend()
    scene.plug()
    backend = scene.vif.paths.backend_node
    scene.tell("A backend like QEMU's xen-net-device shows InitWait before its features are there.")
    scene.owner.kernel.store.write(f"{backend}/state", "2")
    scene.settle()
    scene.tell("The frontend has looked; now they are there, but its state changes no more.")
    for name, value in (("feature-rx-copy", "1"), ("feature-rx-flip", "0")):
        scene.owner.kernel.store.write(f"{backend}/{name}", value)
    scene.settle()


def _garbage_defaults(scene: Scene) -> None:
    scene.load_backend()
    scene.plug()
    scene.tell("Every node with a default becomes garbage before the frontend reads it.")
    paths = scene.vif.paths
    rows = [row for row in OF_BACKEND if row.key not in _NOT_NOW]
    _spoil(scene, paths.backend, rows)
    _spoil(scene, paths.frontend, OF_GUEST)
    scene.load_frontend()
    _expect_remarks(scene, paths.backend, rows)
    _expect_remarks(scene, paths.frontend, OF_GUEST)


def _garbage_features(scene: Scene) -> None:
    scene.connect()
    scene.tell("Every node of the frontend that has a default becomes garbage.")
    paths = scene.vif.paths
    _spoil(scene, paths.frontend, OF_FRONTEND)
    rebind(scene, "It is bound again and reads them; udev has the hotplug script run.")
    _expect_remarks(scene, paths.frontend, OF_FRONTEND)


def _spoil(scene: Scene, directory: str, rows: Iterable[Fallback]) -> None:
    for row in rows:
        scene.host.store.write(f"{directory}/{row.key}", _GARBAGE)


def _expect_remarks(scene: Scene, directory: str, rows: Iterable[Fallback]) -> None:
    said = remarks(scene.vif)
    for row in rows:
        node = f"{directory}/{row.key}"
        if not any(remark.startswith(f"{node} = ") for remark in said):
            scene.wrong.append(f"no remark names {node}")


KEYS = (
    Scenario(
        "garbage-ring-ref",
        "a ring reference that is no number",
        _garbage_ring_ref,
        "{frontend}/tx-ring-ref",
    ),
    Scenario(
        "missing-event-channel",
        "Connected, but no event channel",
        _missing_event_channel,
        "{frontend}/event-channel",
    ),
    Scenario("garbage-mac", "an address that is none", _garbage_mac, "device/vif/0/mac: "),
    Scenario("no-rx-copy", "a backend that cannot copy", _no_rx_copy, "{backend}/feature-rx-copy"),
    Scenario(
        "early-init-wait",
        "a backend shows InitWait before its features, the frontend gives up",
        _early_init_wait,
        "looks again only when that is shown again: {backend}/feature-rx-copy: cannot be read",
    ),
    Scenario("garbage-offer", "garbage in all that has a default for frontends", _garbage_defaults),
    Scenario(
        "garbage-features", "garbage in all that has a default for backends", _garbage_features
    ),
)
