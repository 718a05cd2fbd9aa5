"""Frames that wait in a driver when its vif disconnects are lost, and counted as such."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netfront_world import FrontendWorld
from vif_peers import RawBackend, RawFrontend

from xennet.engine.choice import using
from xennet.frames import FrameBatch, pull_at_most
from xennet.host.setup import Setup
from xennet.link.vifs import Vifs
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netback.xnb.policy import XNB
from xennet.netfront.options import NetfrontOptions
from xennet.netfront.tx_pass import TxPass
from xennet.observe import FramePassed
from xennet.port.gen import GenPort
from xennet.port.null import NullPort


def flow(number: int) -> bytes:
    """A frame of an IPv4 flow of its own."""
    address = bytes([10, 0, number >> 8, number & 0xFF])
    header = bytes([0x45, 0, 0, 46]) + bytes(5) + bytes([17, 0, 0]) + address + bytes([10, 1, 0, 1])
    return (bytes(12) + b"\x08\x00" + header).ljust(60, b"\0")


@pytest.mark.parametrize("policy", [LINUX, XNB], ids=["linux", "xnb"])
def test_what_waits_for_buffers_of_the_guest_is_lost_at_a_disconnect(policy: BackendPolicy) -> None:
    front = RawFrontend(rx_buffers=3, policy=policy)
    front.stack.to_send = [bytes(60)] * 10
    front.run()
    assert (len(front.rx_responses()), front.counters.lost) == (3, 0)
    front.queue.disconnect()
    assert front.counters.lost == 7
    front.queue.disconnect()
    assert front.counters.lost == 7


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(14, 9000), max_size=300),
    buffers=st.integers(0, 256),
    can_sg=st.booleans(),
)
def test_every_frame_for_the_guest_is_in_one_counter_or_still_with_the_host(
    lengths: list[int], buffers: int, can_sg: bool
) -> None:
    front = RawFrontend(rx_buffers=buffers, can_sg=can_sg)
    front.stack.to_send = [bytes(length) for length in lengths]
    front.run()
    front.queue.disconnect()
    counters = front.counters
    gone = counters.rx.packets + counters.rx.errors + counters.lost
    assert gone + len(front.stack.to_send) == len(lengths)


def test_what_waits_for_room_on_the_ring_is_lost_at_a_disconnect() -> None:
    back = RawBackend()
    back.stack.to_send = [bytes(60)] * 500
    back.run()
    assert len(back.requests()) == 256  # nobody answers
    waiting = 500 - 256 - len(back.stack.to_send)
    assert waiting == 0
    for request in range(100):
        back.answer(request)
    back.push_tx()
    taken = 500 - len(back.stack.to_send)
    assert taken > 256 + 100
    back.queue.disconnect()
    assert back.counters.lost == taken - 256 - 100
    assert back.counters.tx.packets == 256 + 100


def many_queues() -> FrontendWorld:
    features = {"multi-queue-max-queues": 3}
    world = FrontendWorld(options=NetfrontOptions(queues=3), features=features).connect()
    assert len(world.netfront.queues) == 3
    world.stack.to_send = [flow(number).ljust(9000) for number in range(600)]
    world.netfront.kick()
    world.machine.run()
    return world


def taken(world: FrontendWorld) -> int:
    """Frames that the driver has and the rings have not."""
    counters = world.netfront.counters
    return 600 - len(world.stack.to_send) - counters.tx.packets - counters.tx.errors


def test_what_waits_for_its_queue_is_lost_as_well() -> None:
    world = many_queues()
    waiting = taken(world)
    in_batches = sum(queue.tx.batch.count - queue.tx.next for queue in world.netfront.queues)
    assert 0 < in_batches < waiting  # and the rest lies between the queues
    world.set_state(6)
    assert world.netfront.counters.lost == waiting


def test_a_guest_that_goes_on_elsewhere_leaves_what_waits_behind() -> None:
    world = many_queues()
    waiting = taken(world)
    world.netfront.moved(world.guest)
    assert world.netfront.counters.lost == waiting > 0


class Numbered(GenPort):
    """Frames of many flows, each with bytes of its own."""

    def pull(self, batch: FrameBatch) -> int:
        first = self.given
        pulled = super().pull(batch)
        for i in range(batch.count - pulled, batch.count):
            number = first + i - (batch.count - pulled)
            frame = batch.frame(i)
            frame[: len(flow(0))] = flow(number % 11)
            frame[60:64] = number.to_bytes(4, "big")
            frame[-4:] = number.to_bytes(4, "big")
        return pulled


class FewAtOnce(Numbered):
    def pull(self, batch: FrameBatch) -> int:
        return pull_at_most(super(), batch, 40)


class Kept(NullPort):
    def __init__(self) -> None:
        super().__init__()
        self.frames: list[bytes] = []

    def push(self, batch: FrameBatch) -> None:
        self.frames += map(bytes, batch)


def test_what_finds_no_room_on_the_ring_is_sent_later_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = list[int]()

    def keep(self: TxPass) -> None:
        kept.append(self.batch.count - self.next)
        real(self)

    real = TxPass._keep
    monkeypatch.setattr(TxPass, "_keep", keep)
    with using("plain"):
        vifs = Vifs(Setup(front=NetfrontOptions(queues=3), back=VifOptions(max_queues=3)))
        source, sink = Numbered("9000x700"), Kept()
        vifs.join(source, sink)
        try:
            vifs.open()
            vifs.carry()
            vifs.close()
        finally:
            vifs.destroy()
    assert sum(kept) > 0
    numbers = [int.from_bytes(frame[60:64], "big") for frame in sink.frames]
    assert sorted(numbers) == list(range(700))
    for frame, number in zip(sink.frames, numbers, strict=True):
        assert frame[:60] == flow(number % 11)
        assert int.from_bytes(frame[-4:], "big") == number
    for each in range(11):
        of_flow = [number for number in numbers if number % 11 == each]
        assert of_flow == sorted(of_flow)


def test_what_an_observer_stopped_is_sent_later_as_it_was() -> None:
    """The other queues have sent more frames meanwhile."""
    raised = list[FramePassed]()

    def observe(event: FramePassed) -> None:
        if event.direction == "in" and event.data[:60] == flow(1) and not raised:
            raised.append(event)
            raise InterruptedError

    with using("plain"):
        vifs = Vifs(Setup(front=NetfrontOptions(queues=3), back=VifOptions(max_queues=3)))
        sink = Kept()
        vifs.join(FewAtOnce("64x600"), sink)
        try:
            vifs.open()
            vifs.host.machine.observers.subscribe(observe, FramePassed)
            with pytest.raises(InterruptedError):
                vifs.carry()
            vifs.host.machine.run_loop.deliver(100)  # without another kick of that queue
            vifs.carry()
        finally:
            vifs.destroy()
    numbers = [int.from_bytes(frame[60:64], "big") for frame in sink.frames]
    assert sorted(numbers) == list(range(600))


def test_frames_behind_one_without_a_byte_are_sent() -> None:
    with using("plain"):
        world = FrontendWorld(
            options=NetfrontOptions(queues=3), features={"multi-queue-max-queues": 3}
        ).connect()
        for frame in (b"", flow(1), b"", b"", flow(2), flow(3)):
            world.stack.to_send = [frame]
            world.netfront.kick()
            world.machine.run()
        assert world.netfront.counters.tx.packets == 6
