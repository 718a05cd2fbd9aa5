"""An endpoint whose frames are a list, for the tests of wrappers."""

from __future__ import annotations

from attrs import define, field

from xennet.frames import BaseEndpoint, FrameBatch

#: Bytes, time stamp, flags, gso_size, gso_type, hash_info, hash_value, remark.
Frame = tuple[bytes, int, int, int, int, int, int, object]


def numbered(stamp: int, length: int = 60) -> Frame:
    """A frame that knows its number, and so does all that travels with it."""
    data = (stamp.to_bytes(4) * (length // 4 + 1))[:length]
    return data, stamp, stamp & 3, stamp % 5, stamp % 3, stamp % 7, stamp * 3, f"remark {stamp}"


def add(batch: FrameBatch, frame: Frame) -> None:
    data, stamp, flags, gso_size, gso_type, hash_info, hash_value, remark = frame
    batch.append(
        data, timestamp=stamp, flags=flags, gso_size=gso_size, gso_type=gso_type, remark=remark
    )
    batch.hash_info[batch.count - 1] = hash_info
    batch.hash_value[batch.count - 1] = hash_value


def frames_in(batch: FrameBatch, first: int = 0) -> list[Frame]:
    rest = batch.all_columns[2:]  # the time stamp is the last
    return [
        (
            bytes(batch.frame(i)),
            batch.timestamp[i],
            *(column[i] for column in rest[:-1]),
            batch.remarks.get(i),
        )
        for i in range(first, batch.count)
    ]


def new_batch(frames: int = 256, size: int = 1 << 20) -> FrameBatch:
    return FrameBatch(memoryview(bytearray(size)), frames)


def batch_of(*frames: Frame) -> FrameBatch:
    batch = new_batch(max(1, len(frames)))
    for frame in frames:
        add(batch, frame)
    return batch


@define(eq=False)
class Scripted(BaseEndpoint):
    """Gives ``to_give``, and takes ``room`` frames more."""

    to_give: list[Frame] = field(factory=list)
    room: int = 10**6
    taken: list[Frame] = field(factory=list)

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        while self.to_give and batch.has_room(len(self.to_give[0][0])):
            add(batch, self.to_give.pop(0))
        if self.to_give and not batch.count:
            raise IndexError("too small for a frame")
        return batch.count - first

    def push(self, batch: FrameBatch) -> None:
        if batch.count > self.room:
            raise IndexError(f"{batch.count} frames pushed, room for {self.room}")
        self.room -= batch.count
        self.taken += frames_in(batch)
