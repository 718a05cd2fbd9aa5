"""The contract of a port (xennet.port.base.Port), rule by rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from xennet.frames import (
    CSUM_BLANK,
    DATA_VALIDATED,
    EVERYTHING,
    MAX_FRAME,
    MIN_FRAME,
    NOTHING,
    UNBOUNDED,
    FrameBatch,
    HasDescriptors,
    Offload,
    attach,
    lazy_bytes,
)
from xennet.port import Counters, Port, PortError, open_port
from xennet.port.base import flush, is_live
from xennet.pump import Pump, RealClock
from xennet.runloop import RunLoop
from xennet.testing.sample_frames import (
    ETHERNET_FRAME,
    METADATA,
    Frame,
    drain,
    frames_of,
    new_batch,
    numbered,
    of_sizes,
    offloaded,
)

#: Seconds until what was sent outside has to be there.
_PATIENCE = 5.0
#: Most frames that a test pushes to find the end of a port's room.
_MOST = 5000


class Outside:
    """What is at the other end of a port: a file that it writes, another station of a bus ..."""

    def give(self, batch: FrameBatch) -> None:
        """Send all frames of ``batch``, so that the port pulls them."""
        raise NotImplementedError

    def taken(self) -> list[Frame]:
        """The frames that have been pushed to the port, which is closed."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open. The port has been closed before, or not."""


#: Rules for some ports only: the attribute of a contract that says for which.
_ONLY = {
    "test_an_empty_batch_that_is_too_small_is_an_error_and_nothing_is_lost": "gives",
    "test_what_it_takes_gets_outside_unchanged_and_in_order": "outside_takes",
    "test_frames_that_are_sent_outside_come_in_and_are_told": "outside_gives",
    "test_more_frames_than_it_has_room_for_are_refused": "bounded",
    "test_what_comes_back_is_what_was_pushed": "returns",
    "test_a_port_that_returns_frames_is_exhausted_once_it_is_finished_and_empty": "returns",
    "test_room_that_comes_back_is_told": "returns",
}


class PortContract:
    """The rules that every port obeys.

    A class that inherits this tells of its port:

    * ``spec``: its specification, in which ``{folder}`` is a folder of the test; or :meth:`open`;
    * ``gives``: how many frames it gives by itself, the same ones each time;
    * ``returns``: frames that are pushed are pulled again, with all metadata;
    * ``bounded``: its room has an end if nothing is pulled;
    * ``outside_gives``, ``outside_takes``: what :meth:`outside` makes can send to the port, and
      knows what the port has sent; ``keeps``: names of the metadata that stay with these frames;
    * ``bad_specs``: specifications that are refused; ``failing_specs``: those of ports that can be
      opened and then fail when frames are pushed, or when they are closed.

    What it does not say, no rule asks about. :meth:`prepare` makes what the port needs.
    """

    spec: ClassVar[str] = ""
    gives: ClassVar[int] = 0
    returns: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    outside_gives: ClassVar[bool] = False
    outside_takes: ClassVar[bool] = False
    keeps: ClassVar[tuple[str, ...]] = ()
    bad_specs: ClassVar[tuple[str, ...]] = ()
    failing_specs: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for rule, attribute in _ONLY.items():
            if rule not in vars(cls):  # pytest leaves out what cannot be called
                setattr(cls, rule, getattr(PortContract, rule) if getattr(cls, attribute) else None)

    def prepare(self, folder: Path) -> None:
        """Make in ``folder`` what the port needs."""

    def open(self, folder: Path) -> Port:
        """A new port."""
        return open_port(self.spec.format(folder=folder))

    def outside(self, folder: Path, port: Port) -> Outside:
        """The other end of ``port``, which has just been opened."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The folder of a test, prepared."""
        self.prepare(tmp_path)
        return tmp_path

    @pytest.fixture
    def port(self, folder: Path) -> Iterator[Port]:
        """A port, which is closed after the test."""
        port = self.open(folder)
        yield port
        port.close()

    @contextmanager
    def _both(self, folder: Path) -> Iterator[tuple[Port, Outside]]:
        """A port, and what is at its other end."""
        port = self.open(folder)
        try:
            outside = self.outside(folder, port)
            try:
                yield port, outside
            finally:
                outside.close()
        finally:
            port.close()

    def _all_frames(self, folder: Path, most: int = 256) -> list[Frame]:
        """The frames that a new port gives by itself."""
        port = self.open(folder)
        try:
            return drain(port, most=most)
        finally:
            port.close()

    # -- what it says of itself --------------------------------------------------------------------

    def test_it_has_what_a_port_has(self, port: Port) -> None:
        assert isinstance(port.name, str)
        assert port.name
        assert "\n" not in port.name
        assert isinstance(port.carries, Offload)
        assert isinstance(port.counters, Counters)
        assert port.expected is None or port.expected >= 0
        assert isinstance(port.exhausted, bool)
        for name in ("pull", "push", "negotiated", "listen", "finish", "close"):
            assert callable(getattr(port, name)), name

    def test_what_it_carries_makes_sense(self, port: Port) -> None:
        carries = port.carries
        assert 0 <= carries.max_frame <= MAX_FRAME
        if carries.max_frame:
            assert carries.max_frame >= MIN_FRAME
        if carries.gso_types:
            assert carries.sg, "a segmented frame does not fit into one page"
        assert port.carries == carries, "it never changes"

    def test_a_live_port_has_descriptors_and_no_end(self, port: Port) -> None:
        if is_live(port):
            assert isinstance(port, HasDescriptors)
            assert port.expected is None
            assert not port.exhausted

    def test_to_ask_for_its_room_changes_nothing(self, port: Port) -> None:
        room = port.room
        assert 0 <= room <= UNBOUNDED
        assert [port.room for _ in range(3)] == [room] * 3

    def test_before_a_frame_its_counters_are_zero(self, port: Port) -> None:
        counters = port.counters
        assert (counters.frames_in, counters.frames_out) == (0, 0)
        assert (counters.bytes_in, counters.bytes_out) == (0, 0)
        assert counters.faults == ()

    # -- what it gives -----------------------------------------------------------------------------

    def test_it_gives_what_it_has_and_counts_it(self, port: Port) -> None:
        if port.expected is not None:
            assert port.expected == self.gives
        found = drain(port)
        assert len(found) == self.gives
        assert port.counters.frames_in == len(found)
        assert port.counters.bytes_in == sum(len(frame.data) for frame in found)
        assert port.pull(new_batch()) == 0

    def test_its_frames_are_frames(self, folder: Path) -> None:
        for frame in self._all_frames(folder):
            assert MIN_FRAME <= len(frame.data) <= MAX_FRAME
            assert not frame.flags & ~(CSUM_BLANK | DATA_VALIDATED)
            assert bool(frame.gso_size) == bool(frame.gso_type)
            assert frame.gso_type in (0, 1, 2), "XEN_NETIF_GSO_TYPE_*"

    def test_a_batch_that_was_used_before_leaves_no_trace(self, folder: Path) -> None:
        port = self.open(folder)
        try:
            fresh = FrameBatch(lazy_bytes(1 << 22))
            port.pull(fresh)
        finally:
            port.close()
        assert frames_of(fresh) == self._all_frames(folder)[: fresh.count]

    def test_batches_of_any_size_hold_the_same_frames_in_the_same_order(self, folder: Path) -> None:
        found = self._all_frames(folder)
        for most in (1, 2, 3, 64):
            assert self._all_frames(folder, most) == found

    def test_a_pull_appends(self, port: Port) -> None:
        before = numbered(2, 100)
        batch = new_batch(before)
        pulled = port.pull(batch)
        assert batch.count == 2 + pulled
        assert frames_of(batch)[:2] == before
        ends = [at + length for at, length in zip(batch.offset, batch.length, strict=True)]
        assert list(batch.offset[: batch.count]) == [0, *ends][: batch.count]
        assert batch.used == ends[batch.count - 1]

    def test_a_full_batch_takes_nothing_and_nothing_is_lost(self, folder: Path) -> None:
        found = self._all_frames(folder)
        port = self.open(folder)
        try:
            for batch in (new_batch(numbered(1), most=1), new_batch(numbered(1), size=61)):
                assert port.pull(batch) == 0
                assert frames_of(batch) == numbered(1)
            assert drain(port) == found
        finally:
            port.close()

    def test_an_empty_batch_that_is_too_small_is_an_error_and_nothing_is_lost(
        self, folder: Path
    ) -> None:
        port = self.open(folder)
        try:
            with pytest.raises(IndexError):
                port.pull(new_batch(size=MIN_FRAME - 1))
            assert drain(port) == self._all_frames(folder)
        finally:
            port.close()

    def test_it_is_exhausted_when_it_has_given_everything_and_stays_so(self, port: Port) -> None:
        if port.exhausted:
            assert drain(port) == []
        elif self.gives:
            drain(port)
            if port.expected is not None:
                assert port.exhausted
        if port.exhausted:
            assert port.pull(new_batch()) == 0
            port.finish()
            assert port.exhausted

    def test_a_port_that_is_opened_again_gives_the_same(self, folder: Path) -> None:
        assert self._all_frames(folder) == self._all_frames(folder)

    def test_what_the_other_end_takes_may_be_told_again_and_again(self, port: Port) -> None:
        for offload in (EVERYTHING, NOTHING, NOTHING.with_mtu(1500), EVERYTHING):
            port.negotiated(offload)
        assert len(drain(port)) == self.gives

    # -- what it takes -----------------------------------------------------------------------------

    def _pushed(self, port: Port, frames: list[Frame]) -> None:
        """Push frames as room permits; what comes back is dropped to make room."""
        left = list(frames)
        while left:
            room = min(port.room, 100)
            assert room, "no room"
            port.push(new_batch(left[:room]))
            del left[:room]

    def _fitting(self, port: Port) -> list[Frame]:
        """Frames that a port takes as it is: of several lengths, up to the longest."""
        longest = port.carries.max_frame or (MAX_FRAME if port.carries.sg else ETHERNET_FRAME)
        sizes = [60, 61, 62, 63, 590, ETHERNET_FRAME, longest]
        plain = of_sizes(size for size in sizes if size <= longest)
        return plain + [frame for some in offloaded(port.carries) for frame in some]

    def test_it_takes_what_it_carries_counts_it_and_leaves_the_batch_as_it_is(
        self, port: Port
    ) -> None:
        frames = self._fitting(port)
        batch = new_batch(frames)
        batch.remarks[1] = "a remark"
        port.push(batch)
        assert frames_of(batch) == frames
        assert batch.remarks == {1: "a remark"}
        assert batch.count == len(frames)
        assert port.counters.frames_out == len(frames)
        assert port.counters.bytes_out == batch.used

    def test_what_it_keeps_back_can_be_flushed_at_any_time(self, port: Port) -> None:
        flush(port)
        port.push(new_batch(numbered(1)))
        for _ in range(2):
            flush(port)

    def test_it_takes_a_batch_without_frames(self, port: Port) -> None:
        room = port.room
        port.push(new_batch())
        assert port.room == room
        assert port.counters.frames_out == 0

    def test_what_it_takes_gets_outside_unchanged_and_in_order(self, folder: Path) -> None:
        with self._both(folder) as (port, outside):
            frames = [*self._fitting(port), *numbered(300, 200)]
            self._pushed(port, frames)
            port.finish()
            port.close()
            taken = outside.taken()
        assert [frame.data for frame in taken] == [frame.data for frame in frames]
        for name in self.keeps:
            assert name in METADATA
            found = [getattr(frame, name) for frame in taken]
            assert found == [getattr(frame, name) for frame in frames], name

    def test_more_frames_than_it_has_room_for_are_refused(self, port: Port) -> None:
        for _ in range(_MOST):
            if not port.room:
                break
            port.push(new_batch(numbered(1)))
        assert not port.room, f"its room has no end after {_MOST} frames"
        with pytest.raises(IndexError):
            port.push(new_batch(numbered(1)))
        assert port.room == 0

    def test_what_comes_back_is_what_was_pushed(self, port: Port) -> None:
        frames = [
            *self._fitting(port),
            Frame(bytes(60), timestamp=-5, flags=DATA_VALIDATED, hash_info=0x102, hash_value=77),
        ]
        port.push(new_batch(frames))
        back = drain(port, most=2)
        assert len(back) == len(frames)
        for got, pushed in zip(back, frames, strict=True):
            assert got == pushed

    def test_room_that_comes_back_is_told(self, port: Port) -> None:
        woken: list[int] = []
        port.listen(lambda: woken.append(1))
        while port.room:
            port.push(new_batch(numbered(1)))
        assert not woken, "frames that a push brings call nobody"
        assert port.pull(new_batch(most=1)) == 1
        assert woken
        assert port.room

    # -- frames that come by themselves ------------------------------------------------------------

    def test_frames_that_are_sent_outside_come_in_and_are_told(self, folder: Path) -> None:
        with self._both(folder) as (port, outside):
            pump, woken = Pump(RunLoop(), RealClock()), list[int]()
            attach(port, lambda: woken.append(1), pump.watch)
            try:
                assert drain(port) == []
                frames = numbered(5, 100)
                outside.give(new_batch(frames))
                if pump.watching:
                    pump.hold(_PATIENCE, lambda: bool(woken))
                    assert woken, f"no listener was called within {_PATIENCE:g} s"
                found = drain(port, most=2)
                assert [frame.data for frame in found] == [frame.data for frame in frames]
                port.close()
                assert not pump.watching, "it ends its watches before it closes its descriptors"
            finally:
                pump.close()

    def test_only_the_last_listener_is_called(self, port: Port) -> None:
        port.listen(lambda: pytest.fail("an earlier listener"))
        port.listen(lambda: None)
        if self.bounded:
            while port.room:
                port.push(new_batch(numbered(1)))
        drain(port)

    # -- its end -----------------------------------------------------------------------------------

    def test_finish_and_close_may_be_repeated(self, port: Port) -> None:
        for _ in range(2):
            port.finish()
        for _ in range(2):
            port.close()

    def test_a_port_that_returns_frames_is_exhausted_once_it_is_finished_and_empty(
        self, port: Port
    ) -> None:
        port.push(new_batch(numbered(1)))
        assert not port.exhausted
        port.finish()
        assert not port.exhausted
        assert len(drain(port)) == 1
        assert port.exhausted

    def test_it_can_be_closed_before_it_did_anything_and_opened_again(self, folder: Path) -> None:
        for _ in range(3):
            self.open(folder).close()

    def test_what_it_cannot_use_is_refused_in_one_line(self, folder: Path) -> None:
        for spec in self.bad_specs:
            with pytest.raises(PortError) as caught:
                open_port(spec.format(folder=folder)).close()
            _one_line(caught.value)

    def test_what_fails_later_is_told_in_one_line_and_it_can_be_closed(self, folder: Path) -> None:
        for spec in self.failing_specs:
            port = open_port(spec.format(folder=folder))
            with pytest.raises(PortError) as caught:
                _push_and_close(port)
            _one_line(caught.value)
            with suppress(PortError):
                port.close()
            port.close()


def _push_and_close(port: Port) -> None:
    batch = new_batch(numbered(100, ETHERNET_FRAME))
    for _ in range(_MOST // batch.count):
        port.push(batch)
    port.close()


def _one_line(error: PortError) -> None:
    text = str(error)
    assert text.strip()
    assert "\n" not in text
