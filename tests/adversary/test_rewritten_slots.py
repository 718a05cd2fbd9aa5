"""What was loaded is what counts: a peer that rewrites every slot and buffer behind each load of
one changes nothing, neither what is delivered and answered nor a verdict and its evidence (F14)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import control_sites
import pytest
import scenes
from watching import (
    TWISTS,
    backend_outcome,
    frontend_outcome,
    knowing_memories,
    rewritings,
    slots_of,
)

from xennet.abi.netif import (
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
)
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.words import REQ_PROD, RSP_PROD
from xennet.adversary import LOAD, Access, interleavings, record
from xennet.ring import MASK32

TWISTED = pytest.mark.parametrize("twist", TWISTS.values(), ids=list(TWISTS))


def work(world: Any) -> None:
    world.machine.run()


def nothing_comes_of_it(
    scene: Callable[[], Any],
    twist: Callable[[int], int],
    outcome: Callable[[Any], dict[str, Any]],
    run: Callable[[Any], None] = work,
) -> dict[str, Any]:
    """Rewrite at every point; the outcome, always the same one."""
    points, expected = 0, {}
    for where, got, expected in rewritings(scene, run, twist, outcome):
        points += 1
        for what, value in expected.items():
            assert got[what] == value, f"{what} changed by a rewriting at {where}"
    assert points
    return expected


@TWISTED
@pytest.mark.parametrize("name", scenes.GUEST_TX)
def test_F14_requests_of_guest_transmit(name: str, twist: Callable[[int], int]) -> None:
    found = nothing_comes_of_it(
        scenes.guest_tx(scenes.GUEST_TX[name], MASK32 - 3), twist, backend_outcome
    )
    assert found["to the host"]
    rule = name.split()[0]
    if name != "F3 error" and rule != "packets":
        assert [f"[{rule};" in error for error in found["fatal"]] == [True]
    else:
        assert not found["fatal"]


@TWISTED
@pytest.mark.parametrize("features", [{}, {"gso_types": 0, "gso_prefix_types": 6}])
@pytest.mark.parametrize("name", scenes.GUEST_RX)
def test_F14_requests_of_guest_receive(
    name: str, features: dict[str, int], twist: Callable[[int], int]
) -> None:
    scene = scenes.guest_rx(scenes.GUEST_RX[name], MASK32 - 3, **features)
    found = nothing_comes_of_it(scene, twist, backend_outcome)
    assert len(found["rx responses"]) > 4


@TWISTED
@pytest.mark.parametrize("name", scenes.TX_RESPONSES)
def test_the_frontend_judges_what_it_loaded_of_transmit_responses(
    name: str, twist: Callable[[int], int]
) -> None:
    found = nothing_comes_of_it(
        scenes.tx_responses(scenes.TX_RESPONSES[name]), twist, frontend_outcome
    )
    assert [f"[{name};" in error for error in found["broken"]] == [True] * name.startswith("B")
    assert found["counters"]["tx"]["responses"]


@TWISTED
@pytest.mark.parametrize("negotiated", [{}, {"gso_prefix_types": 6}, {"checksum_setup": True}])
@pytest.mark.parametrize("name", scenes.RX_RESPONSES)
def test_the_frontend_judges_what_it_loaded_of_receive_responses(
    name: str, negotiated: dict[str, Any], twist: Callable[[int], int]
) -> None:
    scene = scenes.rx_responses(scenes.RX_RESPONSES[name], **negotiated)
    found = nothing_comes_of_it(scene, twist, frontend_outcome)
    assert found["to the guest"]
    assert [f"[{name};" in error for error in found["broken"]] == [True] * (name == "B5")


@TWISTED
def test_F14_control_requests(twist: Callable[[int], int]) -> None:
    messages = [
        (XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ),
        (XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, 5),
        (XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, 128),
        (99, 1),
    ]

    def scene() -> control_sites.RawFrontend:
        front = control_sites.RawFrontend(start=MASK32 - 1)
        front.connect()
        for ident, (kind, number) in enumerate(messages, 0x1234):
            front.request(kind, number, ident=ident)
        if front.ring.push_requests_and_check_notify():
            front.site.guest.notify(front.port)
        return front

    def outcome(front: control_sites.RawFrontend) -> dict[str, Any]:
        return {"responses": front.raw_responses(), "config": front.config.settings.tolist()}

    found = nothing_comes_of_it(scene, twist, outcome, lambda front: front.site.run())
    assert len(found["responses"]) == 4
    assert found["config"][:2] == [1, 5]


@TWISTED
def test_the_frontend_judges_what_it_loaded_of_control_responses(
    twist: Callable[[int], int],
) -> None:
    def scene() -> Any:
        back: Any = control_sites.RawBackend()
        back.replies = []
        for flags in range(3):
            back.client.set_hash_flags(flags, done=back.replies.append)
        back.client.set_hash_key(b"key", done=back.replies.append)
        for i, (ident, kind, *_) in enumerate(back.requests()[:3]):
            back.answer(ident, kind, data=i)
        back.answer(77, kind)  # B4
        if back.ring.push_responses_and_check_notify():
            back.site.host.notify(back.port)
        return back

    def outcome(back: Any) -> dict[str, Any]:
        return {"replies": back.replies, "broken": [str(error) for error in back.broken]}

    found = nothing_comes_of_it(scene, twist, outcome, lambda back: back.site.run())
    assert [reply.data for reply in found["replies"]] == [0, 1, 2]
    assert len(found["broken"]) == 1


# -- a slot that is another one halfway through its loads ------------------------------------------


def slots_become(words: tuple[int, ...]) -> Callable[[Any, Access], None]:
    """The peer overwrites all slots of the ring that was accessed with these words, repeated."""

    def act(world: Any, access: Access) -> None:
        slots = world.memories[access.memory][SRING_HEADER_SIZE:]
        raw = b"".join(word.to_bytes(4, "little") for word in words)
        slots[: len(slots) // len(raw) * len(raw)] = raw * (len(slots) // len(raw))

    return act


def of_a_ring(access: Access) -> bool:
    """Whether it is a load of a slot."""
    return slots_of(access) and access.memory in ("tx ring", "rx ring")


#: Words of three tx slots, and of two rx slots: everything at once, a chain without an end, extras
#: of an unknown type, frames that end beyond their page.
HOSTILE = pytest.mark.parametrize(
    "words",
    [(MASK32,), (8, 4 << 16, 1 << 16), (8, 8 << 16, 60 << 16), (8, 4095, 60 << 16), (0,), (9,)],
    ids=str,
)


@HOSTILE
@pytest.mark.parametrize("name", ["packets of every kind", "F3 error", "F10 size"])
def test_torn_requests_come_to_a_verdict_and_leave_nothing(
    name: str, words: tuple[int, ...]
) -> None:
    scene = knowing_memories(scenes.guest_tx(scenes.GUEST_TX[name]))
    for access, front in interleavings(scene, work, slots_become(words), of_a_ring):
        assert {error.rule for error in front.fatal} <= scenes.FRONTEND_RULES, access
        assert all(14 <= len(frame) <= 65535 for frame in front.stack.received), access
        front.queue.disconnect()
        assert scenes.held_by(front.machine, 0) == [], access


TORN: dict[str, Callable[[], Any]] = {
    "tx": scenes.tx_responses(scenes.TX_RESPONSES["answers of every kind"]),
    "rx": scenes.rx_responses(scenes.RX_RESPONSES["packets of every kind"]),
}


@HOSTILE
@pytest.mark.parametrize("ring", TORN)
def test_torn_responses_come_to_a_verdict_and_leave_nothing(
    ring: str, words: tuple[int, ...]
) -> None:
    scene = knowing_memories(TORN[ring])
    for access, back in interleavings(scene, work, slots_become(words), of_a_ring):
        assert {error.rule for error in back.broken} <= scenes.BACKEND_RULES, access
        assert all(14 <= len(frame) <= 65535 for frame in back.stack.received), access
        for mapping in list(back.host.mappings):
            back.host.unmap_grant(mapping)
        assert back.queue.disconnect() == [], access
        assert scenes.held_by(back.machine, 1) == [], access


# -- an index that cannot be: the verdict names the one that was judged ----------------------------


def evidence(
    scene: Callable[[], Any],
    memory: str,
    word: int,
    possible: int,
    errors: Callable[[Any], list[Any]],
) -> None:
    """The peer takes its impossible index back, at each load of it: either nothing was wrong, or
    the verdict names the index that was judged."""
    accesses, world = record(scene, work)
    (expected,) = map(str, errors(world))
    assert f"{accesses[0].value:08x}" in expected

    def loads(access: Access) -> bool:
        return access.kind == LOAD and (access.memory, access.word) == (memory, word)

    def act(world: Any, access: Access) -> None:
        ring = world.tx_ring if memory == "tx ring" else world.rx_ring
        ring.sring.u32[word] = possible

    named = [[str(e) for e in errors(w)] for _, w in interleavings(scene, work, act, loads)]
    assert all(one in ([], [expected]) for one in named), named
    assert named[-1] == [expected]


@pytest.mark.parametrize("start", [0, MASK32 - 1])
@pytest.mark.parametrize("name", ["tx", "rx"])
def test_F1_names_the_req_prod_that_was_judged(name: str, start: int) -> None:
    def scene() -> scenes.RawFrontend:
        front = scenes.RawFrontend(start=start, split=True)
        front.machine.run()
        ring, port = (front.tx_ring, front.port) if name == "tx" else (front.rx_ring, front.rx_port)
        front.stack.to_send.append(scenes.FRAME)
        ring.req_prod_pvt += 257
        if ring.push_requests_and_check_notify():
            front.guest.notify(port)
        return front

    evidence(scene, f"{name} ring", REQ_PROD, start, lambda front: front.fatal)


@pytest.mark.parametrize("name", ["tx", "rx"])
def test_B1_names_the_rsp_prod_that_was_judged(name: str) -> None:
    def scene() -> scenes.RawBackend:
        back = scenes.RawBackend(split=True)
        back.machine.run()
        ring, port = (back.tx_ring, back.port) if name == "tx" else (back.rx_ring, back.rx_port)
        ring.rsp_prod_pvt += 257
        if ring.push_responses_and_check_notify():
            back.host.notify(port)
        return back

    evidence(scene, f"{name} ring", RSP_PROD, 0, lambda back: back.broken)


def test_B2_names_the_rsp_prod_that_was_judged() -> None:
    def scene() -> scenes.RawBackend:
        back = scenes.RawBackend(split=True)
        back.machine.run()
        back.stack.room = 1
        for _ in range(3):
            back.rx(scenes.FRAME)
        scenes.notify_frontend(back)
        back.queue.poll_rx()  # one of the three is taken
        assert len(back.stack.received) == 1
        back.rx_ring.sring.rsp_prod = 2
        return back

    evidence(scene, "rx ring", RSP_PROD, 3, lambda back: back.broken)
