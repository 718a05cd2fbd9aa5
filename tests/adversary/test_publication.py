"""An index is published by one store: what it announces is complete by then, and whether to notify
is decided by the event index as it is after that (RING_PUSH_REQUESTS_AND_CHECK_NOTIFY,
RING_PUSH_RESPONSES_AND_CHECK_NOTIFY)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import control_sites
import pytest
import scenes
from attrs import frozen
from vif_peers import HOST, RawBackend, RawFrontend

from xennet.abi.grant_table import GTF_invalid, GTF_permit_access, GTF_type_mask
from xennet.abi.netif import XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, XEN_NETIF_EXTRA_TYPE_MCAST_ADD
from xennet.abi.words import REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xennet.abi.xen import PAGE_SIZE
from xennet.adversary import LOAD, STORE, Access, Adversary, interleavings
from xennet.engine.choice import using
from xennet.netfront.multicast import MulticastChange
from xennet.ring import MASK32, SharedRing


@frozen
class Publisher:
    """``scene(start)`` sets up a driver that publishes once on the ring that ``ring`` gives, by a
    store to ``word``, when its ``run`` goes on; ``events`` counts what its peer heard."""

    scene: Callable[[int], Callable[[], Any]]
    ring: Callable[[Any], SharedRing]
    memory: str
    word: int
    event_word: int
    starts: tuple[int, ...] = (0,)
    run: Callable[[Any], object] = lambda world: world.machine.run()
    events: Callable[[Any], int] = lambda world: world.events

    def publishes(self, access: Access) -> bool:
        return access.kind == STORE and (access.memory, access.word) == (self.memory, self.word)


AROUND = (0, (1 << 31) - 2, MASK32 - 1)


def _three_requests(start: int) -> Callable[[], RawFrontend]:
    return scenes.guest_tx(lambda front: [front.tx(60, ident=i) for i in range(3)], start)


def _three_frames(start: int) -> Callable[[], RawFrontend]:
    def write(front: RawFrontend) -> None:
        front.stack.to_send += [scenes.FRAME] * 3
        for ident in range(4):
            front.post_rx(ident=ident)

    return scenes.guest_rx(write, start)


def _frontend(prepare: Callable[[RawBackend], object]) -> Callable[[int], Callable[[], RawBackend]]:
    def of_start(_: int) -> Callable[[], RawBackend]:
        def scene() -> RawBackend:
            back = RawBackend(split=True)
            back.machine.run()
            prepare(back)
            return back

        return scene

    return of_start


def _sends(back: RawBackend) -> None:
    back.stack.to_send += [scenes.FRAME, bytes(5000)]
    back.queue.kick()


def _amends(back: RawBackend) -> None:
    back.queue.multicast.add(MulticastChange(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, bytes(6)))
    back.queue.kick()


def _receives(back: RawBackend) -> None:
    for _ in range(3):
        back.rx(scenes.FRAME)
    scenes.notify_frontend(back)


def _control_requests(start: int) -> Callable[[], Any]:
    def scene() -> Any:
        front = control_sites.RawFrontend(start=start)
        front.connect()
        for ident in range(3):
            front.request(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, ident=ident)
        if front.ring.push_requests_and_check_notify():
            front.site.guest.notify(front.port)
        return front

    return scene


def _control_client(_: int) -> Callable[[], Any]:
    def scene() -> Any:
        back = control_sites.RawBackend()
        for _ in range(2):  # both need the page: the second waits for the first one's answer
            back.client.set_hash_key(b"key")
        ((ident, kind, *_),) = back.requests()
        back.events = 0
        back.answer(ident, kind)
        if back.ring.push_responses_and_check_notify():
            back.site.host.notify(back.port)
        return back

    return scene


def _site(world: Any) -> None:
    world.site.run()


PUBLISHERS = {
    "netback answers requests": Publisher(
        _three_requests, lambda w: w.tx_ring.sring, "tx ring", RSP_PROD, RSP_EVENT, AROUND
    ),
    "netback fills buffers": Publisher(
        _three_frames, lambda w: w.rx_ring.sring, "rx ring", RSP_PROD, RSP_EVENT, AROUND
    ),
    "netfront sends": Publisher(
        _frontend(_sends), lambda w: w.tx_ring.sring, "tx ring", REQ_PROD, REQ_EVENT
    ),
    "netfront changes the multicast list": Publisher(
        _frontend(_amends), lambda w: w.tx_ring.sring, "tx ring", REQ_PROD, REQ_EVENT
    ),
    "netfront posts buffers": Publisher(
        _frontend(_receives), lambda w: w.rx_ring.sring, "rx ring", REQ_PROD, REQ_EVENT
    ),
    "the control ring's backend answers": Publisher(
        _control_requests, lambda w: w.ring.sring, "ctrl ring", RSP_PROD, RSP_EVENT, AROUND, _site
    ),
    "the control ring's frontend asks": Publisher(
        _control_client, lambda w: w.ring.sring, "ctrl ring", REQ_PROD, REQ_EVENT, (0,), _site
    ),
}
EACH = pytest.mark.parametrize(
    ("publisher", "start"),
    [
        pytest.param(publisher, start, id=f"{name}, from {start:#x}")
        for name, publisher in PUBLISHERS.items()
        for start in publisher.starts
    ],
)


@EACH
def test_an_event_is_sent_if_the_index_asked_for_is_among_those_published(
    publisher: Publisher, start: int
) -> None:
    scene = publisher.scene(start)
    with using("plain"):
        world = scene()
    old = publisher.ring(world).u32[publisher.word]
    publisher.run(world)
    new = publisher.ring(world).u32[publisher.word]
    published = {(old + i) & MASK32 for i in range(1, ((new - old) & MASK32) + 1)}
    assert 0 < len(published) < 4

    for asked in sorted(published | {(old + i) & MASK32 for i in range(-2, 7)}):
        heard: list[int] = []

        def act(world: Any, access: Access, asked: int = asked, heard: list[int] = heard) -> None:
            heard.append(publisher.events(world))
            publisher.ring(world).u32[publisher.event_word] = asked

        ((_, world),) = interleavings(scene, publisher.run, act, publisher.publishes)
        sent = publisher.events(world) - heard[0]
        assert sent == (asked in published), f"asked for {asked:#x}, published up to {new:#x}"


@EACH
def test_what_an_index_announces_is_complete_by_then(publisher: Publisher, start: int) -> None:
    scene = publisher.scene(start)

    def slots(world: Any, first: int) -> list[bytes]:
        """The slots from index ``first`` to the published one."""
        ring = publisher.ring(world)
        count = (ring.u32[publisher.word] - first) & MASK32
        return [ring.copy_slot(first + i) for i in range(count)]

    with using("plain"):
        done = scene()
    first = publisher.ring(done).u32[publisher.word]
    publisher.run(done)
    finally_there = slots(done, first)

    adversary = Adversary()
    with using(adversary):
        world = scene()
    seen: list[int] = []

    def look(access: Access) -> None:
        found = slots(world, first)
        assert found == finally_there[: len(found)], access
        seen.append(len(found))

    with adversary.watching(look):
        publisher.run(world)
    assert seen[0] == 0
    assert seen[-1] == len(finally_there)


def watched_backend() -> tuple[Adversary, RawBackend]:
    adversary = Adversary()
    with using(adversary):
        back = RawBackend(split=True)
    back.machine.run()
    return adversary, back


def granted(back: RawBackend, gref: int) -> int:
    """The frame to which the entry gives the backend access; AssertionError if to none."""
    grants = back.guest.grants
    entry = grants.words[gref << grants.shift]
    assert (entry & GTF_type_mask, entry >> 16) == (GTF_permit_access, HOST)
    frame: int = grants.words[(gref << grants.shift) + grants.shift]
    return frame


def test_a_request_is_published_when_its_page_is_granted_and_filled() -> None:
    adversary, back = watched_backend()
    long = bytes(range(256)) * 20
    pieces = [scenes.FRAME, long[:PAGE_SIZE], long[PAGE_SIZE:]]
    back.stack.to_send += [scenes.FRAME, long]
    back.queue.kick()
    published: list[int] = []

    def look(_: Access) -> None:
        published.append(back.tx_ring.sring.req_prod)
        for index in range(published[-1]):
            frame = granted(back, scenes.gref_of(back.tx_ring.sring.copy_slot(index)))
            page = back.machine.frames[frame].bytes_of(frame)
            assert page[: len(pieces[index])] == pieces[index]

    with adversary.watching(look):
        back.machine.run()
    assert (published[0], published[-1]) == (0, 3)


def test_a_buffer_is_posted_again_when_it_is_granted_again() -> None:
    adversary, back = watched_backend()
    for _ in range(3):
        back.rx(scenes.FRAME)
    scenes.notify_frontend(back)
    published: list[int] = []

    def look(_: Access) -> None:
        published.append(back.rx_ring.sring.req_prod)
        for index in range(256, published[-1]):
            granted(back, int.from_bytes(back.rx_ring.sring.copy_slot(index)[4:8], "little"))

    with adversary.watching(look):
        back.machine.run()
    assert (published[0], published[-1]) == (256, 259)


def test_a_buffer_is_read_when_access_to_it_has_ended() -> None:
    adversary, back = watched_backend()
    entries = [back.buffer(slot)[1] << back.guest.grants.shift for slot in range(256)]
    for _ in range(3):
        back.rx(scenes.FRAME)
    scenes.notify_frontend(back)
    read: list[int] = []

    def look(access: Access) -> None:
        if (access.memory, access.kind) == ("rx buffers", LOAD):
            slot = access.at // PAGE_SIZE
            assert back.guest.grants.words[entries[slot]] & GTF_type_mask == GTF_invalid
            read.append(slot)

    with adversary.watching(look):
        back.machine.run()
    assert read == [0, 1, 2]
