"""The scenario of a vif that connects a thousand times: everything that can grow is counted."""

from __future__ import annotations

import gc
import sys

from xennet.host.host import Host
from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import Scene

#: Number of times that reconnect-1000 closes and connects.
RECONNECTS = 1000
#: Rounds before the first count, so that caches are full.
_WARM_UP = 10
#: Most objects that Python's collector may have gained after all rounds (a few belong to the count
#: itself), and most memory blocks gained in the second half (measured: 200 in the first 150 rounds,
#: then less and less, none after 1200). A leak in each round makes 1000 objects, or 500 blocks.
_OBJECTS, _BLOCKS = 50, 250


def _reconnect(scene: Scene) -> None:
    scene.connect()
    _rounds(scene, 0, _WARM_UP)
    frames = scene.in_guest.received, scene.in_host.received
    before = _held(scene.host)
    scene.tell(
        f"The guest's driver is unloaded and loaded {RECONNECTS} times; each time a frame waits at "
        f"both ends."
    )
    objects = _objects()
    _rounds(scene, 0, RECONNECTS // 2)
    blocks = _blocks()
    _rounds(scene, RECONNECTS // 2, RECONNECTS)
    blocks = _blocks() - blocks
    objects = _objects() - objects
    after = _held(scene.host)
    for name, old in before.items():
        new = after[name]
        scene.expect(f"{name}: {new}, before {'the same' if old == new else old}.", old == new)
    scene.expect(f"Python has at most {_OBJECTS} objects more.", objects <= _OBJECTS)
    scene.expect(f"In the second half it took at most {_BLOCKS} memory blocks.", blocks <= _BLOCKS)
    arrived = (scene.in_guest.received - frames[0], scene.in_host.received - frames[1])
    scene.expect("All frames arrived.", arrived == (RECONNECTS, RECONNECTS))


def _rounds(scene: Scene, first: int, end: int) -> None:
    with scene.silence(), scene.counting("connections", RECONNECTS) as done:
        for number in range(first, end):
            scene.guest.unload()
            scene.settle()
            scene.both_have_frames(1)
            scene.guest.load()
            scene.settle()
            done(number + 1)


def _held(host: Host) -> dict[str, str]:
    """What the hypervisor, the store and the run loop hold, in words that can be compared."""
    held, store = {}, host.service.store
    for domain in host.leaks().domains:
        domid = domain.domid
        held[f"Domain {domid}"] = (
            f"{len(domain.granted)} grants, {len(domain.mappings)} mappings, "
            f"{len(domain.ports)} ports, {domain.pages} pages"
        )
        held[f"Domain {domid} in the store"] = (
            f"{store.nodes_owned(domid)} nodes, {store.watches_of(domid)} watches, "
            f"{store.connections_of(domid)} connections, {store.transactions_of(domid)} "
            f"transactions, {store.events_of(domid)} bytes of events"
        )
    loop = host.machine.run_loop
    held["The run loop"] = f"{len(loop.ready())} deliveries, {loop.timers} timers"
    return held


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


RECONNECT = (Scenario("reconnect-1000", "a thousand connections, and nothing grows", _reconnect),)
