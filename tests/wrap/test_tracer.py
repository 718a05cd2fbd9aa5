"""What a tracer tells and records is what passes, and nothing of it is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Frame, Scripted, batch_of, frames_in, new_batch, numbered

from xennet import VifLink, open_port
from xennet.frames import EVERYTHING, NOTHING
from xennet.port.base import PortWrapper
from xennet.wrap import FaultInjector, Faults, OffloadEdge, Passed, Tracer, check_order


def of(direction: str, number: int, frame: Frame) -> Passed:
    data, stamp, flags, gso_size, gso_type, *_ = frame
    return Passed(direction, number, data, flags, gso_size, gso_type, stamp)


@given(
    batches=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 5)), max_size=9),
    rooms=st.lists(st.integers(0, 4), min_size=9, max_size=9),
)
def test_every_frame_is_told_once_and_copied_where_there_is_room(
    batches: list[tuple[bool, int, int]], rooms: list[int]
) -> None:
    inner, copies = Scripted(), {"pulled": Scripted(), "pushed": Scripted()}
    told: list[Passed] = []
    tracer = Tracer(inner, told.append, **copies)
    expected: list[Passed] = []
    kept: dict[str, list[Frame]] = {"pulled": [], "pushed": []}
    counts = {"pulled": 0, "pushed": 0}
    missed = stamp = 0
    for (pull, before, count), room in zip(batches, rooms, strict=False):
        direction = "pulled" if pull else "pushed"
        frames = [numbered(stamp + i) for i in range(count)]
        stamp += count
        copies[direction].room = room
        if pull:
            inner.to_give = list(frames)
            batch = batch_of(*[numbered(10**6 + i) for i in range(before)])
            batch = new_batch(before + count)
            for i in range(before):
                batch.append(b"mine", timestamp=i)
            assert tracer.pull(batch) == count
            assert frames_in(batch, before) == frames
        else:
            inner.taken.clear()
            tracer.push(batch_of(*frames))
            assert inner.taken == frames
        expected += [of(direction, counts[direction] + i, f) for i, f in enumerate(frames)]
        counts[direction] += count
        kept[direction] += frames[:room]
        missed += max(0, count - room)
    assert told == expected
    assert {name: copy.taken for name, copy in copies.items()} == kept
    assert tracer.missed == missed


def test_a_capture_of_what_passes_is_complete_when_the_port_is_closed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("guest.pcapng", "host.pcap", "both.pcapng")]
    guest_sent, host_got, both = (open_port(f"record:{path}") for path in paths)
    up = "gen:60x20"
    guest = Tracer(Tracer(open_port(up), pulled=guest_sent), pulled=both, pushed=both)
    host = Tracer(open_port("gen:1000x3"), pushed=host_got)
    link = VifLink(guest, host)
    link.open()
    link.carry()
    link.close()
    link.destroy()
    for port in (guest, host):
        port.finish()
        port.close()
    captured = []
    for path in paths:
        played, batch = open_port(f"pcap:{path}"), new_batch()
        while played.pull(batch):
            pass
        captured.append(sorted(bytes(frame) for frame in batch))
        played.close()
    whole = new_batch()
    assert open_port(up).pull(whole) == 20
    sent = sorted(bytes(frame) for frame in whole)
    assert captured[:2] == [sent, sent]
    assert len(captured[2]) == 23


def test_wrappers_stand_in_front_of_any_endpoint_in_any_order() -> None:
    inner = Scripted([numbered(1), numbered(2)])
    stack = FaultInjector(Tracer(OffloadEdge(PortWrapper(inner))), pulled=Faults(limit=1))
    assert (stack.room, stack.carries) == (inner.room, EVERYTHING)
    stack.negotiated(EVERYTHING)
    kicks = []
    stack.listen(lambda: kicks.append(1))
    inner.wake()
    assert kicks == [1]
    assert stack.pull(new_batch()) == 1
    stack.push(batch_of(numbered(3)))
    assert inner.taken == [numbered(3)]
    with pytest.raises(AttributeError, match="'Scripted' object has no attribute 'name'"):
        _ = stack.name


def test_what_carries_little_is_told_through_wrappers() -> None:
    inner = Scripted()
    inner.carries = NOTHING
    assert Tracer(FaultInjector(inner)).carries == NOTHING
    assert OffloadEdge(Tracer(inner)).carries == EVERYTHING


class Narrow(PortWrapper):
    """Takes two frames at a time."""

    @property
    def room(self) -> int:
        return min(2, self.endpoint.room)


def test_room_is_that_of_the_innermost_that_limits_it() -> None:
    inner = Scripted(room=7)
    assert Tracer(PortWrapper(inner)).room == 7
    assert Tracer(PortWrapper(Narrow(PortWrapper(inner)))).room == 2
    inner.room = 1
    assert Tracer(PortWrapper(Narrow(PortWrapper(inner)))).room == 1


def test_both_ends_of_a_link_are_checked_against_each_other() -> None:
    guest, host = check_order(Scripted([numbered(i) for i in range(9)]), Scripted())
    assert guest.outgoing is host.incoming
    assert host.outgoing is guest.incoming
    batch = new_batch()
    assert guest.pull(batch) == 9
    assert guest.outgoing.missing == 9
    batch.cut(8)
    batch.data[batch.offset[3]] ^= 1
    host.push(batch)
    check = guest.outgoing
    assert (check.missing, check.mismatches, check.intact) == (1, 1, False)
    assert check.evidence[0].frame == 3
