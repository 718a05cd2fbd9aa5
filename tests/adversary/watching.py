"""What a run loaded, what came of it, and a peer that rewrites what was loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from vif_peers import RawBackend, RawFrontend

from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.words import REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xennet.adversary import LOAD, STORE, Access, interleavings, record
from xennet.engine.choice import current

#: Words of a ring by what they are called.
INDICES = {
    REQ_PROD: "req_prod",
    REQ_EVENT: "req_event",
    RSP_PROD: "rsp_prod",
    RSP_EVENT: "rsp_event",
}

Words = dict[tuple[str, str], int]


def loads(accesses: list[Access]) -> Words:
    """How often each word was loaded, whatever the size of the loads: (memory, word) -> count."""
    of_byte: Counter[tuple[str, int]] = Counter()
    for access in accesses:
        if access.kind == LOAD:
            of_byte.update((access.memory, access.at + i) for i in range(access.size))
    words: Words = {}
    for (memory, at), count in of_byte.items():
        index = INDICES.get(at // 4) if memory.endswith("ring") else None
        key = memory, index or f"word {at // 4}"
        words[key] = max(words.get(key, 0), count)
    return words


#: What a peer can make of a byte: something else, something that is nearly the same.
TWISTS: dict[str, Callable[[int], int]] = {
    "all bits flipped": lambda byte: byte ^ 0xFF,
    "one more": lambda byte: byte + 1 & 0xFF,
    "zero": lambda byte: 0,
}


def knowing_memories(scene: Callable[[], Any]) -> Callable[[], Any]:
    """The same scene, whose world has all shared memory as ``memories``: bytes by name."""

    def made() -> Any:
        world = scene()
        world.memories = {name: view.cast("B") for name, view in current().memories}
        return world

    return made


def slots_of(access: Access) -> bool:
    """Whether it is a load of a slot or of a buffer, not of an index or a grant."""
    if access.kind != LOAD or access.memory == "grant table":
        return False
    return not access.memory.endswith("ring") or access.at >= SRING_HEADER_SIZE


def dead(accesses: list[Access], number: int) -> dict[str, set[int]]:
    """By memory, the bytes that were loaded up to a point and not stored since."""
    bytes_of: dict[str, set[int]] = {}
    for access in accesses[:number]:
        touched = range(access.at, access.at + access.size)
        if slots_of(access):
            bytes_of.setdefault(access.memory, set()).update(touched)
        elif access.kind == STORE:
            bytes_of.setdefault(access.memory, set()).difference_update(touched)
    return bytes_of


def rewritings(
    scene: Callable[[], Any],
    run: Callable[[Any], object],
    twist: Callable[[int], int],
    outcome: Callable[[Any], Any],
) -> Iterator[tuple[str, Any, Any]]:
    """For each load of a slot or buffer: where, the outcome if all that was loaded until then is
    rewritten behind it, and the outcome if nothing is."""
    scene = knowing_memories(scene)
    accesses, world = record(scene, run)
    expected = outcome(world)

    def act(world: Any, access: Access) -> None:
        for name, places in dead(accesses, access.number).items():
            memory = world.memories[name]
            for at in places:
                memory[at] = twist(memory[at])

    for access, world in interleavings(scene, run, act, slots_of):
        yield str(access), outcome(world), expected


def backend_outcome(front: RawFrontend) -> dict[str, Any]:
    """All that came of a backend's pass."""
    return {
        "to the host": front.stack.received,
        "with": front.stack.meta,
        "tx responses": front.responses(),
        "rx responses": front.rx_responses(),
        "to the guest": bytes(front.rx_pages.u8),
        "multicast and hash": front.config.tolist(),
        "fatal": [str(error) for error in front.fatal],
        "counters": attrs.asdict(front.counters),
    }


def frontend_outcome(back: RawBackend) -> dict[str, Any]:
    """All that came of a frontend's pass."""
    return {
        "to the guest": back.stack.received,
        "with": back.stack.meta,
        "requests": (back.tx_ring.sring.req_prod, back.rx_ring.sring.req_prod),
        "ids": (back.queue.tx._state.tolist(), back.queue.tx._pending.tolist()),
        "outcomes": back.queue.tx._outcomes.tolist(),
        "broken": [str(error) for error in back.broken],
        "last drop": back.queue.last_drop,
        "counters": attrs.asdict(back.counters),
    }
