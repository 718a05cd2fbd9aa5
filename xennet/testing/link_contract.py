"""The contract of a link (xennet.link.protocol.Link), rule by rule."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
from attrs import evolve

from xennet.errors import LinkError
from xennet.frames import (
    CSUM_BLANK,
    MAX_FRAME,
    MIN_FRAME,
    UNBOUNDED,
    BaseEndpoint,
    FrameBatch,
    Offload,
    Watch,
)
from xennet.link.protocol import Link, Pair
from xennet.link.report import LinkReport, LinkStatus
from xennet.port import open_ports
from xennet.run.links import parse, run_ports
from xennet.run.options import RunOptions
from xennet.testing.sample_frames import (
    ETHERNET_FRAME,
    Frame,
    completed,
    frames_of,
    numbered,
    of_sizes,
    offloaded,
)

#: Seconds until what comes by a descriptor has to be there.
_PATIENCE = 5.0


class Stack(BaseEndpoint):
    """An end that gives what it is told to and keeps what it gets, at most ``limit`` frames."""

    def __init__(self, limit: int = UNBOUNDED) -> None:
        self.limit = limit
        self.sending: list[Frame] = []
        self.got: list[Frame] = []
        self.offloads: list[Offload] = []
        self.listeners: list[Callable[[], None]] = []
        self.watch: Watch | None = None

    @property
    def room(self) -> int:
        return self.limit - len(self.got)

    def send(self, frames: list[Frame]) -> None:
        """Give these frames from now on."""
        self.sending += frames
        self.wake()

    def widen(self, limit: int) -> None:
        """Have room for ``limit`` frames in all from now on."""
        self.limit = limit
        self.wake()

    def pull(self, batch: FrameBatch, /) -> int:
        first = batch.count
        while self.sending and batch.has_room(len(self.sending[0].data)):
            frame, index = self.sending.pop(0), batch.count
            batch.append(
                frame.data,
                timestamp=frame.timestamp,
                flags=frame.flags,
                gso_size=frame.gso_size,
                gso_type=frame.gso_type,
            )
            batch.hash_info[index], batch.hash_value[index] = frame.hash_info, frame.hash_value
        if self.sending and not batch.count:
            raise IndexError(f"a batch of {len(batch.data)} bytes holds no next frame")
        return batch.count - first

    def push(self, batch: FrameBatch, /) -> None:
        assert batch.count <= self.room, "a link pushes at most as many frames as there is room"
        self.got += frames_of(batch)

    def negotiated(self, offload: Offload, /) -> None:
        self.offloads.append(offload)

    def listen(self, wake: Callable[[], None], /) -> None:
        self.listeners.append(wake)
        super().listen(wake)

    def watch_descriptors(self, watch: Watch, /) -> None:
        self.watch = watch

    def send_when_read(self, fd: int, frames: list[Frame]) -> None:
        """Give these frames once ``fd`` can be read."""
        watch = self.watch
        assert watch is not None, "a link has the descriptors of its ends watched"

        def readable() -> None:
            watch(fd, None, None)
            self.send(frames)

        watch(fd, readable, None)


class LinkContract:
    """The rules that every link obeys.

    A class that inherits this tells of its link: ``spec``, its specification, in which ``{folder}``
    is a folder of the test; ``bad_specs``, specifications that are refused; ``options`` of a run.
    :meth:`prepare` makes what the link needs before it is made, :meth:`make` makes one for
    ``pairs`` pairs.
    """

    spec: str = ""
    bad_specs: tuple[str, ...] = ()
    options = RunOptions()

    def prepare(self, folder: Path) -> None:
        """Make in ``folder`` what the link needs."""

    def make(self, folder: Path, pairs: int = 1, *, live: bool = False) -> Link:
        """A new link for so many pairs, in real time if ``live``."""
        kind, argument = parse(self.spec.format(folder=folder))
        return kind.make(argument, kind.settled(evolve(self.options, guests=pairs, live=live)))

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The folder of a test, prepared."""
        self.prepare(tmp_path)
        return tmp_path

    @pytest.fixture
    def link(self, folder: Path) -> Iterator[Link]:
        """A link for one pair, which is destroyed after the test."""
        link = self.make(folder)
        yield link
        link.destroy()

    @pytest.fixture
    def ends(self) -> tuple[Stack, Stack]:
        """The ends of a pair, the guest's and the host's."""
        return Stack(), Stack()

    @pytest.fixture
    def up(self, link: Link, ends: tuple[Stack, Stack]) -> Link:
        """A link that is open between ``ends``."""
        link.join(*ends)
        link.open()
        return link

    # -- what it says of itself --------------------------------------------------------------------

    def test_a_pair_has_a_name_and_is_up_once_the_link_is_open(
        self, link: Link, ends: tuple[Stack, Stack]
    ) -> None:
        pair: Pair = link.join(*ends)
        assert pair.name
        assert "\n" not in pair.name
        assert not pair.was_up
        link.open()
        assert pair.was_up
        assert pair.queues >= 1
        assert isinstance(pair.split_channels, bool)

    def test_each_guest_has_an_address_of_its_own(self, folder: Path) -> None:
        link = self.make(folder, pairs=3)
        try:
            macs = [link.address(number) for number in range(3)]
        finally:
            link.destroy()
        assert len(set(macs)) == 3
        for mac in macs:
            assert len(mac) == 6
            assert not mac[0] & 1, "not an address of a group"

    def test_it_has_a_time_at_the_hosts_ends(self, link: Link) -> None:
        assert isinstance(link.host_clock.now, int)

    def test_an_exception_that_it_does_not_know_is_not_explained(self, link: Link) -> None:
        assert link.explain(KeyError("none of its own")) is None

    # -- coming up ---------------------------------------------------------------------------------

    @pytest.mark.usefixtures("up")
    def test_both_ends_are_told_what_is_taken_and_get_a_listener(
        self, ends: tuple[Stack, Stack]
    ) -> None:
        for end in ends:
            assert end.offloads
            assert isinstance(end.offloads[-1], Offload)
            assert end.listeners

    def test_it_carries_nothing_before_it_is_open(
        self, link: Link, ends: tuple[Stack, Stack]
    ) -> None:
        link.join(*ends)
        for call in (link.carry, link.trickle):
            with pytest.raises(LinkError) as caught:
                call()
            assert "\n" not in str(caught.value)

    def test_what_joins_late_is_refused(self, up: Link) -> None:
        with pytest.raises(LinkError):
            up.join(Stack(), Stack())

    def test_what_is_no_end_is_refused(self, link: Link) -> None:
        with pytest.raises(TypeError):
            link.join("null:", Stack())  # type: ignore[arg-type]

    # -- carrying ----------------------------------------------------------------------------------

    def _longest(self, end: Stack) -> int:
        """Bytes of the longest frame that ``end`` was told of."""
        offload = end.offloads[-1]
        return offload.max_frame or (MAX_FRAME if offload.sg else ETHERNET_FRAME)

    def test_frames_cross_it_unchanged_and_in_order_both_ways(
        self, up: Link, ends: tuple[Stack, Stack]
    ) -> None:
        sent = []
        for end in ends:
            sizes = [MIN_FRAME + 4, 60, 61, 62, 63, 590, ETHERNET_FRAME, self._longest(end)]
            frames = of_sizes(size for size in sizes if size <= self._longest(end))
            end.send(frames)
            sent.append([frame.data for frame in frames])
        up.carry()
        guest, host = ends
        assert [frame.data for frame in host.got] == sent[0]
        assert [frame.data for frame in guest.got] == sent[1]

    def test_what_needs_an_offload_crosses_it_if_that_was_negotiated(
        self, up: Link, ends: tuple[Stack, Stack]
    ) -> None:
        for giver, taker in (ends, ends[::-1]):
            for frames in offloaded(giver.offloads[-1]):
                giver.send(list(frames))
                up.carry()
                assert len(taker.got) == len(frames)
                for frame, came in zip(frames, taker.got, strict=True):
                    sent = frame if came.flags & CSUM_BLANK else completed(frame)
                    assert came.data == sent.data
                    assert came.flags & CSUM_BLANK == sent.flags & CSUM_BLANK
                    assert (came.gso_size, came.gso_type) == (frame.gso_size, frame.gso_type)
                taker.got.clear()

    def test_any_number_of_frames_crosses_it_and_more_come_later(
        self, up: Link, ends: tuple[Stack, Stack]
    ) -> None:
        guest, host = ends
        for first in range(0, 6000, 2000):
            guest.send(numbered(2000, first=first))
            host.send(numbered(1000, 100, first=first))
            up.carry()
            assert _bytes(host.got) == _bytes(numbered(2000, first=first))
            assert _bytes(guest.got) == _bytes(numbered(1000, 100, first=first))
            host.got.clear()
            guest.got.clear()

    def test_what_finds_no_room_waits(self, up: Link, ends: tuple[Stack, Stack]) -> None:
        for giver, taker in (ends, ends[::-1]):
            frames = numbered(200)
            giver.send(list(frames))
            for limit in (0, 3, 3, 100, 2000):
                taker.widen(limit)
                up.carry()
                assert len(taker.got) == min(limit, len(frames))
            assert _bytes(taker.got) == _bytes(frames)
            taker.widen(UNBOUNDED)
            taker.got.clear()

    def test_pairs_do_not_mix(self, folder: Path) -> None:
        link = self.make(folder, pairs=3)
        ends = [(Stack(), Stack()) for _ in range(3)]
        try:
            pairs = [link.join(*both) for both in ends]
            assert len({pair.name for pair in pairs}) == 3
            link.open()
            for number, (guest, host) in enumerate(ends):
                guest.send(numbered(50, first=1000 * number))
                host.send(numbered(50, 100, first=1000 * number))
            link.carry()
            for number, (guest, host) in enumerate(ends):
                assert _bytes(host.got) == _bytes(numbered(50, first=1000 * number))
                assert _bytes(guest.got) == _bytes(numbered(50, 100, first=1000 * number))
        finally:
            link.destroy()

    def test_a_trickle_is_a_frame_of_each_guest(self, up: Link, ends: tuple[Stack, Stack]) -> None:
        guest, host = ends
        guest.send(numbered(10))
        up.trickle()
        assert _bytes(host.got) == _bytes(numbered(1))
        up.carry()
        assert _bytes(host.got) == _bytes(numbered(10))

    def test_who_listens_at_an_interface_sees_what_is_sent_and_what_arrives(
        self, link: Link, ends: tuple[Stack, Stack]
    ) -> None:
        pair = link.join(*ends)
        link.open()
        seen: tuple[list[Frame], list[Frame]] = ([], [])
        for interface, frames in zip(pair.interfaces, seen, strict=True):
            assert interface.name
            assert len(interface.mac) == 6
            assert interface.mtu > 0
            assert interface.usable
            assert interface.link_state.name == "UP"
            interface.taps.append(partial(_note_frames, frames))
        assert pair.interfaces[0].name != pair.interfaces[1].name
        assert pair.interfaces[0].mac == link.address(0)
        ends[0].send(numbered(7))
        ends[1].send(numbered(5, 100))
        link.carry()
        for frames in seen:
            of_guest = [frame for frame in frames if len(frame.data) != 100]
            of_host = [frame for frame in frames if len(frame.data) == 100]
            assert _bytes(of_guest) == _bytes(numbered(7))
            assert _bytes(of_host) == _bytes(numbered(5, 100))
        guest, host = (interface.counters for interface in pair.interfaces)
        assert (guest.opackets, guest.ipackets) == (7, 5)
        assert (host.opackets, host.ipackets) == (5, 7)
        link.close()
        assert not any(interface.usable for interface in pair.interfaces)

    def test_to_hold_it_loses_nothing(self, up: Link, ends: tuple[Stack, Stack]) -> None:
        up.hold(0.0)
        up.hold(60.0, lambda: True)
        ends[0].send(numbered(1))
        up.carry()
        assert len(ends[1].got) == 1

    # -- in real time ------------------------------------------------------------------------------

    def test_a_live_link_sleeps_until_a_descriptor_has_frames(
        self, folder: Path, ends: tuple[Stack, Stack]
    ) -> None:
        link = self.make(folder, live=True)
        read, write = os.pipe()
        try:
            link.join(*ends)
            link.open()
            for giver, taker in (ends, ends[::-1]):
                giver.send(numbered(3))
                giver.send_when_read(read, numbered(5, first=3))
                os.write(write, b"x")
                link.carry_live(_PATIENCE, partial(_has, taker, 8))
                assert _bytes(taker.got) == _bytes(numbered(8))
            link.close()
            assert link.left_behind() == []
        finally:
            link.destroy()
            os.close(read)
            os.close(write)

    def test_a_live_link_ends_in_time(self, folder: Path, ends: tuple[Stack, Stack]) -> None:
        link = self.make(folder, live=True)
        try:
            link.join(*ends)
            link.open()
            started = monotonic()
            link.carry_live(0.02, lambda: False)
            assert monotonic() - started >= 0.02
            link.carry_live(None, lambda: True)
            ends[0].send(numbered(1))
            link.carry()
            assert len(ends[1].got) == 1
        finally:
            link.destroy()

    # -- going down --------------------------------------------------------------------------------

    def test_it_leaves_nothing_behind_and_close_may_be_repeated(
        self, up: Link, ends: tuple[Stack, Stack]
    ) -> None:
        ends[0].send(numbered(10))
        up.carry()
        for _ in range(2):
            up.close()
        assert up.left_behind() == []
        with pytest.raises(LinkError):
            up.carry()

    def test_it_reports_before_and_after_it_is_closed(self, up: Link) -> None:
        assert isinstance(up.report(), LinkReport)
        up.close()
        assert isinstance(up.report(), LinkReport)

    def test_it_says_how_full_its_queues_are(self, up: Link, ends: tuple[Stack, Stack]) -> None:
        ends[0].send(numbered(10))
        for _ in range(2):
            status = up.status()
            assert isinstance(status, LinkStatus)
            assert all(0 <= queue.used <= queue.size for queue in status.queues)
            up.carry()
        assert status.dropped == 0

    def test_it_can_be_destroyed_in_any_state_and_again(self, folder: Path) -> None:
        for steps in range(4):
            link = self.make(folder)
            if steps > 0:
                link.join(Stack(), Stack())
            if steps > 1:
                link.open()
            if steps > 2:
                link.close()
            for _ in range(2):
                link.destroy()

    def test_what_an_end_raises_comes_out_and_it_can_still_be_destroyed(
        self, up: Link, ends: tuple[Stack, Stack], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(batch: FrameBatch) -> None:
            raise ZeroDivisionError("an end's own")

        monkeypatch.setattr(ends[1], "push", fail)
        ends[0].send(numbered(1))
        with pytest.raises(ZeroDivisionError):
            up.carry()
        up.destroy()

    # -- as --link ---------------------------------------------------------------------------------

    def test_a_run_over_it_is_good(self, folder: Path) -> None:
        options = evolve(self.options, link=self.spec.format(folder=folder))
        ports = open_ports(["gen:60x500+null:", "tcp:1514x300+null:"])
        report = run_ports(ports[:1], ports[1:], options, lambda direction, frames: None)
        assert report.verdict.good, report.verdict
        assert [way.frames_received for way in report.directions] == [500, 300]
        assert report.vifs

    def test_a_specification_that_will_not_do_is_refused_in_one_line(self, folder: Path) -> None:
        for spec in self.bad_specs:
            options = evolve(self.options, link=spec.format(folder=folder))
            with pytest.raises((ValueError, LinkError)) as caught:
                run_ports([], [], options, lambda direction, frames: None)
            assert "\n" not in str(caught.value)


def _has(end: Stack, frames: int) -> bool:
    """Whether ``end`` has got so many frames."""
    return len(end.got) >= frames


def _note_frames(frames: list[Frame], batch: FrameBatch) -> None:
    frames += frames_of(batch)


def _bytes(frames: list[Frame]) -> list[bytes]:
    return [frame.data for frame in frames]
