"""A peer that writes anything anywhere, at points that follow from a seed: a driver comes to an end
with frames, responses and the verdicts that are documented; no exception leaves it, and when it is
torn down nothing is held."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import control_sites
import pytest
import scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import RawBackend, RawFrontend, Stack

from xennet.adversary import Adversary, RandomWrites
from xennet.engine.choice import shared, using
from xennet.host.host import Host

SEEDS = st.integers(0, (1 << 32) - 1)
EVERY = st.sampled_from([2, 5, 20, 60])


def disturbed(
    scene: Callable[[], Any], names: set[str], seed: int, every: int, steps: Callable[[Any], object]
) -> tuple[Any, int]:
    """The world after ``steps`` with a peer that writes into the memories called ``names``, and how
    much it wrote."""
    adversary = Adversary()
    with using(adversary):
        world = scene()
    writes = RandomWrites(adversary, names, Random(seed), every=every)
    with adversary.watching(writes):
        steps(world)
    return world, writes.writes


@settings(max_examples=60)
@given(SEEDS, EVERY, st.sampled_from(list(scenes.GUEST_TX)))
def test_a_backend_under_a_guest_that_writes_anything(seed: int, every: int, name: str) -> None:
    def scene() -> RawFrontend:
        front = scenes.guest_tx(scenes.GUEST_TX[name])()
        # All that is the guest's: rings, grant table, pages.
        shared(front.guest.grants.words, "grant table")
        shared(front.page.u8, "a page of the guest")
        for ident in range(60):
            front.post_rx(ident=ident)
        scenes.notify_backend(front)
        return front

    def steps(front: RawFrontend) -> None:
        for size in (60, 9000, 200):
            front.stack.to_send += [bytes(size)] * 4
            front.queue.kick()  # the host's frames
            front.machine.run()

    names = {"tx ring", "rx ring", "grant table", "a page of the guest"}
    front, writes = disturbed(scene, names, seed, every, steps)
    assert {error.rule for error in front.fatal} <= scenes.FRONTEND_RULES
    assert len(front.fatal) <= 1
    assert all(14 <= len(frame) <= 65535 for frame in front.stack.received)
    assert writes or every > 2
    front.queue.disconnect()
    assert scenes.held_by(front.machine, 0) == []


@settings(max_examples=60)
@given(SEEDS, EVERY, st.sampled_from([*scenes.TX_RESPONSES, *scenes.RX_RESPONSES]))
def test_a_frontend_under_a_backend_that_writes_anything(seed: int, every: int, name: str) -> None:
    write = scenes.TX_RESPONSES.get(name) or scenes.RX_RESPONSES[name]
    before: list[int] = []

    def scene() -> RawBackend:
        back = scenes.rx_responses(write)()
        before.append(len(back.guest.grants.free))
        return back

    def steps(back: RawBackend) -> None:
        for size in (60, 9000, 200):
            back.stack.to_send += [bytes(size)] * 4
            back.queue.kick()  # the guest's frames
            back.machine.run()

    names = {"tx ring", "rx ring", "rx buffers", "tx buffers"}
    back, _ = disturbed(scene, names, seed, every, steps)
    assert {error.rule for error in back.broken} <= scenes.BACKEND_RULES
    assert len(back.broken) <= 1
    assert all(14 <= len(frame) <= 65535 for frame in back.stack.received)
    for mapping in list(back.host.mappings):
        back.host.unmap_grant(mapping)
    assert back.queue.disconnect() == []
    assert scenes.held_by(back.machine, 1) == []
    assert len(back.guest.grants.free) == 2048 - 8
    assert before[0] < len(back.guest.grants.free)


@settings(max_examples=40)
@given(SEEDS, EVERY)
def test_the_control_rings_backend_under_a_guest_that_writes_anything(
    seed: int, every: int
) -> None:
    def scene() -> control_sites.RawFrontend:
        front = control_sites.RawFrontend(static_grefs=4)
        front.connect()
        return front

    def steps(front: control_sites.RawFrontend) -> None:
        random = Random(seed)
        for ident in range(40):
            numbers = [random.choice((0, 1, 8, 40, front.ring_ref, 1 << 31)) for _ in range(3)]
            front.request(random.randrange(13), *numbers, ident=ident)
            if front.ring.push_requests_and_check_notify():
                front.site.guest.notify(front.port)
            front.site.run()
            front.ring.rsp_cons = front.ring.req_prod_pvt

    front, _ = disturbed(scene, {"ctrl ring"}, seed, every, steps)
    assert {error.rule for error in front.fatal} <= {"F1"}
    front.back.disconnect()
    assert scenes.held_by(front.site.machine, 0) == []


@settings(max_examples=40)
@given(SEEDS, EVERY)
def test_the_control_rings_frontend_under_a_backend_that_writes_anything(
    seed: int, every: int
) -> None:
    def scene() -> Any:
        back: Any = control_sites.RawBackend()
        back.replies = []
        return back

    def steps(back: Any) -> None:
        for size in range(15):
            back.client.set_hash_mapping_size(size, done=back.replies.append)
            back.client.set_hash_key(bytes(size), done=back.replies.append)
            for ident, kind, *_ in back.requests():
                back.answer(ident, kind)
            if back.ring.push_responses_and_check_notify():
                back.site.host.notify(back.port)
            back.site.run()

    back, _ = disturbed(scene, {"ctrl ring", "ctrl page"}, seed, every, steps)
    assert {error.rule for error in back.broken} <= {"B1", "B4"}
    assert len(back.replies) <= 30
    back.site.host.unmap_grant(back.mapping)
    assert back.client.disconnect() == []
    assert scenes.held_by(back.site.machine, 1) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_comes_to_the_same_end(seed: int) -> None:
    def end() -> tuple[list[str], list[bytes], int]:
        scene = scenes.guest_tx(scenes.GUEST_TX["packets of every kind"])
        front, writes = disturbed(scene, {"tx ring"}, seed, 3, lambda front: front.machine.run())
        return [str(error) for error in front.fatal], front.stack.received, writes

    assert end() == end()


@pytest.mark.parametrize("evtchn", ["2l", "fifo"])
@pytest.mark.parametrize("seed", range(6))
def test_both_drivers_on_the_emulator_while_anything_happens_to_their_rings(
    seed: int, evtchn: str
) -> None:
    def scene() -> Any:
        host: Any = Host(backend_evtchn=evtchn)
        guest = host.add_guest(evtchn_abi=evtchn)
        host.boot()
        host.ends = Stack(), Stack()
        host.vif = host.plug(guest, 0, *host.ends)
        host.settle()
        assert host.vif.connected
        return host

    def steps(host: Any) -> None:
        for size in (60, 9000, 200) * 3:
            for end in host.ends:
                end.to_send += [bytes(size)] * 4
            host.vif.kick_guest()
            host.vif.kick_host()
            host.settle()

    names = {"tx ring", "rx ring", "rx buffers", "tx buffers"}
    host, writes = disturbed(scene, names, seed, 40, steps)
    assert writes
    host.unplug(host.vif)
    host.settle()
    assert not host.leaks(), str(host.leaks())
    host.destroy()
