"""Scenarios of nodes that are missing or garbage: they are named, whether or not it goes on."""

from __future__ import annotations

from collections.abc import Iterable

from xennet.lifecycle.remarks import OF_BACKEND, OF_FRONTEND, OF_GUEST, Fallback, remarks
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scenarios.backends import rebind
from xennet.lifecycle.stage import Stage

_GARBAGE = "junk"
#: What a frontend reads later, and a backend only when it closes.
_NOT_NOW = frozenset({"online", "carrier"})


def _by_hand(stage: Stage, keys: dict[str, str]) -> None:
    """A guest without a driver writes ``keys``, then Connected."""
    stage.load_backend()
    stage.plug()
    stage.tell("The guest has no driver: somebody in it writes keys by hand, then Connected.")
    for name, value in (*keys.items(), ("state", "4")):
        stage.guest.kernel.store.write(f"device/vif/0/{name}", value)
    stage.settle()


def _garbage_ring_ref(stage: Stage) -> None:
    _by_hand(stage, {"tx-ring-ref": _GARBAGE, "rx-ring-ref": "9", "event-channel": "1"})


def _missing_event_channel(stage: Stage) -> None:
    _by_hand(stage, {"tx-ring-ref": "8", "rx-ring-ref": "9"})


def _garbage_mac(stage: Stage) -> None:
    stage.load_backend()
    stage.plug()
    stage.tell("Somebody spoils the address that the toolstack gave to the guest.")
    stage.house.store.write(f"{stage.vif.paths.frontend}/mac", _GARBAGE)
    stage.load_frontend()


def _no_rx_copy(stage: Stage) -> None:
    stage.load_backend()
    stage.plug()
    stage.tell("The backend turns out to be one that can only flip pages.")
    stage.owner.kernel.store.write(f"{stage.vif.paths.backend_node}/feature-rx-copy", "0")
    stage.load_frontend()


def _early_init_wait(stage: Stage) -> None:
    stage.load_frontend()
    stage.plug()
    backend = stage.vif.paths.backend_node
    stage.tell("A backend like QEMU's xen-net-device shows InitWait before its features are there.")
    stage.owner.kernel.store.write(f"{backend}/state", "2")
    stage.settle()
    stage.tell("The frontend has looked; now they are there, but its state changes no more.")
    for name, value in (("feature-rx-copy", "1"), ("feature-rx-flip", "0")):
        stage.owner.kernel.store.write(f"{backend}/{name}", value)
    stage.settle()


def _garbage_offer(stage: Stage) -> None:
    stage.load_backend()
    stage.plug()
    stage.tell("Every node with a default becomes garbage before the frontend reads it.")
    paths = stage.vif.paths
    offer = [row for row in OF_BACKEND if row.key not in _NOT_NOW]
    _spoil(stage, paths.backend, offer)
    _spoil(stage, paths.frontend, OF_GUEST)
    stage.load_frontend()
    _expect_remarks(stage, paths.backend, offer)
    _expect_remarks(stage, paths.frontend, OF_GUEST)


def _garbage_features(stage: Stage) -> None:
    stage.connect()
    stage.tell("Every node of the frontend that has a default becomes garbage.")
    paths = stage.vif.paths
    _spoil(stage, paths.frontend, OF_FRONTEND)
    rebind(stage, "It is bound again and reads them; udev has the hotplug script run.")
    _expect_remarks(stage, paths.frontend, OF_FRONTEND)


def _spoil(stage: Stage, directory: str, rows: Iterable[Fallback]) -> None:
    for row in rows:
        stage.house.store.write(f"{directory}/{row.key}", _GARBAGE)


def _expect_remarks(stage: Stage, directory: str, rows: Iterable[Fallback]) -> None:
    said = remarks(stage.vif)
    for row in rows:
        node = f"{directory}/{row.key}"
        if not any(remark.startswith(f"{node} = ") for remark in said):
            stage.wrong.append(f"no remark names {node}")


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
    Scenario("garbage-offer", "garbage in all that has a default for frontends", _garbage_offer),
    Scenario(
        "garbage-features", "garbage in all that has a default for backends", _garbage_features
    ),
)
