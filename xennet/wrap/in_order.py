"""Proof that frames arrive as they were sent: each one, unchanged, in order.

An :class:`InOrderCheck` checks one direction of a link. The sending side notes every frame that it
gives, with its time stamp and its remark; the receiving side compares every frame that it gets with
the oldest note. Notes are removed when their frames arrive, so there are no more of them than
frames on the way. Of lost frames that are the last of their flow, notes stay; of more than NOTES
the oldest are given up, so that a run may go on for days. Frames of a batch that keep one order are
noted and compared together (:mod:`xennet.wrap.noted_batch`), and have notes of their own as soon as
one does not come as it was sent.

A frame that is not the oldest is looked for among the younger notes: the frames noted before it
were lost, or arrived damaged as frames that fit no note. So each fault is reported for the frame
that has it, and later frames are not judged by earlier faults.

A link with several queues keeps the order within a flow only. Its check has a queue of notes for
each flow with frames on the way, and still finds every loss, change and duplicate.

A link may fill in a blank checksum on the way, and has to say so (csum_blank is gone). It may not
lose or invent that flag. It may filter frames, and has to report them.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from itertools import islice
from zlib import crc32

from attrs import define, field, frozen

from xennet.flow.dissect import find_flow
from xennet.frames import CSUM_BLANK, Endpoint, FrameBatch
from xennet.offload.checksum import blank, complete
from xennet.offload.headers import FOUND, IPPROTO_TCP, IPPROTO_UDP, PLACES
from xennet.port.base import PortWrapper
from xennet.wrap.noted_batch import NotedBatch, end_to_end

#: Most mismatches that are described; more are only counted.
DESCRIBED = 5
#: Most bytes of a frame in a description.
SHOWN = 32
#: Most bytes of frames on the way that are kept; of further frames only the CRC is.
KEPT = 1 << 20
#: Most notes: more than the frames that any link has on its way.
NOTES = 1 << 17
#: Fewest frames that it is worth while to note together.
TOGETHER = 8
#: Most frames without a note, and most overtaken notes, that are remembered.
_REMEMBERED = 256


#: Bytes up to the end of both ports, the protocols that have them, and the fragment fields of
#: packets that are whole (the reserved bit and "don't fragment" do not matter).
_USUAL = 38
_WITH_PORTS = (IPPROTO_TCP, IPPROTO_UDP)
_WHOLE = (b"\x40\x00", b"\x00\x00")

#: The flow that frame ``index`` of a batch belongs to.
FlowOf = Callable[[FrameBatch, int], bytes]


@frozen
class Mismatch:
    """A frame that did not arrive as it was sent.

    ``frame``: its number among the frames that arrived, from 0. ``problem``: in words. ``offset``:
    the first byte that differs, or the length of the shorter frame if it begins like the longer
    one; None if no frame was sent that it can be compared with, or if that one is not known any
    more. ``sent``, ``received``: up to 32 bytes from there on, or from the beginning, as hex.
    """

    frame: int
    problem: str
    offset: int | None = None
    sent: str = ""
    received: str = ""


class _Digest:
    """Stands for a frame whose bytes are not kept: equal to bytes of the same length and CRC."""

    __slots__ = ("crc", "length")

    def __init__(self, data: memoryview) -> None:
        self.crc, self.length = crc32(data), len(data)

    def __len__(self) -> int:
        return self.length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and len(other) == self.length and crc32(other) == self.crc

    __hash__ = None  # type: ignore[assignment]


#: A frame on its way, its time stamp, CSUM_BLANK or 0, and its remark.
_Note = tuple["bytes | _Digest", int, int, object]
#: The notes of a flow, the oldest first.
_Notes = deque[_Note]


@define(slots=True, eq=False)
class _Overtaken:
    """A note that a younger frame of its flow overtook.

    ``counted``: whether that frame counts as a mismatch already; all notes that one frame overtook
    share this list.
    """

    flow: bytes
    frame: bytes | _Digest
    counted: list[bool]


def one_flow(_batch: FrameBatch, _index: int) -> bytes:
    """A ``flow_of`` for links that keep the order of all frames: there is one flow."""
    return b""


def ip_flow(batch: FrameBatch, index: int) -> bytes:
    """A ``flow_of`` for vifs of several queues.

    A flow is: the addresses and ports of TCP and UDP, the addresses of other IP packets, and
    everything that is not IP.
    """
    data, at, length = batch.data, batch.offset[index], batch.length[index]
    if length >= _USUAL:
        # Nearly all frames: TCP or UDP behind an IPv4 header without options, no fragment. From
        # the Ethernet type on; the IP header begins 2 bytes later.
        head = data[at + 12 : at + _USUAL].tobytes()
        if head[11] in _WITH_PORTS and head[:3] == b"\x08\x00\x45" and head[8:10] in _WHOLE:
            return head[14:] + head[11:12]
    version, addresses, ports, protocol = find_flow(data, at, at + length)
    if version == 0:
        return b""
    where = data[addresses : addresses + (8 if version == 4 else 32)].tobytes()
    return where + data[ports : ports + 4].tobytes() + bytes((protocol,)) if ports else where


def sender(batch: FrameBatch, index: int) -> bytes:
    """A ``flow_of`` for switches, which keep the order of one sender's frames to one port: the
    source address."""
    at = batch.offset[index]
    return batch.data[at + 6 : at + 12].tobytes()


@define(slots=True)
class InOrderCheck:
    """The check of one direction. Counts are frames and bytes; ``evidence`` describes the first
    mismatches.

    The order is checked within each flow (``flow_of``). ``missing`` frames have not arrived in any
    form; ``filtered`` ones need not arrive.
    """

    flow_of: FlowOf = one_flow
    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    mismatches: int = 0
    missing: int = 0
    filtered: int = 0
    evidence: list[Mismatch] = field(factory=list)
    _in_flight: dict[bytes, _Notes] = field(factory=dict)
    #: Frames that were noted together, the oldest first; all of them were sent behind those that
    #: have notes of their own.
    _together: deque[NotedBatch] = field(factory=deque)
    #: Frames of a flow without a note, since the last one that had one.
    _strays: dict[bytes, int] = field(factory=dict)
    _overtaken: deque[_Overtaken] = field(factory=deque)
    _kept: int = 0
    #: Number of frames sent before which there cannot be more than NOTES notes.
    _count_at: int = 0

    def sent(self, batch: FrameBatch, first: int, end: int | None = None) -> None:
        """Note frames ``first`` .. ``end - 1`` (None: all the others) of ``batch``, which have just
        been handed to the link."""
        if end is None:
            end = batch.count
        size = -1
        if self._together or end - first >= TOGETHER:
            size = self._sent_together(batch, first, end)
        if size < 0:
            size = self._sent_each(batch, first, end)
        self.missing += end - first
        self.frames_sent += end - first
        self.bytes_sent += size
        if self.frames_sent >= self._count_at:
            self._limit_notes()

    def received(self, batch: FrameBatch, first: int = 0, end: int | None = None) -> None:
        """Compare frames ``first`` .. ``end - 1`` (None: all the others) of ``batch`` with the
        notes, and give them their time stamps and remarks."""
        if end is None:
            end = batch.count
        while first < end:
            if self._together and not self._in_flight:
                taken, size = self._come_together(batch, first, end)
            else:
                taken, size = self._as_sent(batch, first, end)
            if taken:
                self.missing -= taken
                self.frames_received += taken
                self.bytes_received += size
                first += taken
            elif self._together:
                self._part()
            else:
                self._otherwise(batch, first)
                first += 1

    def _sent_together(self, batch: FrameBatch, first: int, end: int) -> int:
        """Note frames together. Returns the number of their bytes; -1, with nothing changed, where
        that is not possible: they have to keep one order and lie end to end, without remarks."""
        if self.flow_of is not one_flow or batch.remarks or first == end:
            return -1
        size = end_to_end(batch, first, end)
        if size >= 0:
            if self._kept + size > KEPT:
                return -1
            self._together.append(NotedBatch(batch, first, end, size))
            self._kept += size
        return size

    def _sent_each(self, batch: FrameBatch, first: int, end: int) -> int:
        """Give each frame a note. Returns the number of their bytes."""
        if self._together:
            self._part()
        data, offset, length, flags = batch.data, batch.offset, batch.length, batch.flags
        timestamp, remarks = batch.timestamp, batch.remarks
        flow_of, in_flight = self.flow_of, self._in_flight
        several, kept, size = flow_of is not one_flow, self._kept, 0
        flow, notes = b"", None
        for i in range(first, end):
            if several:
                flow = flow_of(batch, i)
            if several or notes is None:
                notes = in_flight.get(flow)
                if notes is None:
                    notes = in_flight[flow] = deque()
            start, n = offset[i], length[i]
            frame: bytes | _Digest
            if kept + n <= KEPT:
                kept += n
                frame = data[start : start + n].tobytes()
            else:
                frame = _Digest(data[start : start + n])
            remark = remarks.get(i) if remarks else None
            notes.append((frame, timestamp[i], flags[i] & CSUM_BLANK, remark))
            size += n
        self._kept = kept
        return size

    def _come_together(self, batch: FrameBatch, first: int, end: int) -> tuple[int, int]:
        """Take frames ``first`` .. ``end - 1``, or fewer, if they come as the oldest of those that
        were noted together. Returns the number of frames and bytes, 0 if one may differ."""
        noted = self._together[0]
        count = min(noted.left, end - first)
        size = -1 if batch.remarks else noted.take(batch, first, count)
        if size < 0:
            return 0, 0
        if not noted.left:
            self._together.popleft()
        self._kept -= size
        return count, size

    def _part(self) -> None:
        """Give each frame that was noted with others a note of its own."""
        while self._together:
            notes = self._in_flight.setdefault(b"", deque())
            for frame, timestamp, is_blank in self._together.popleft().frames():
                notes.append((frame, timestamp, is_blank, None))

    def _as_sent(self, batch: FrameBatch, first: int, end: int) -> tuple[int, int]:
        """Take frames ``first`` .. ``end - 1`` as long as each is the oldest one of its flow,
        unchanged, and no stray has come. Returns the number of frames and of bytes."""
        if self._strays:
            return 0, 0
        data, offset, length, flags = batch.data, batch.offset, batch.length, batch.flags
        flow_of, in_flight = self.flow_of, self._in_flight
        several, kept, size = flow_of is not one_flow, 0, 0
        flow, notes = b"", in_flight.get(b"")
        i = first
        while i < end:
            if several:
                flow = flow_of(batch, i)
                notes = in_flight.get(flow)
            if not notes:
                break
            start, n = offset[i], length[i]
            frame, timestamp, was_blank, remark = notes[0]
            if flags[i] & CSUM_BLANK != was_blank or frame != data[start : start + n].tobytes():
                break
            notes.popleft()
            if not notes:
                del in_flight[flow]
            if type(frame) is bytes:
                kept += n
            batch.timestamp[i] = timestamp
            if remark is not None or batch.remarks:
                batch.remark(i, remark)
            size += n
            i += 1
        self._kept -= kept
        return i - first, size

    def _otherwise(self, batch: FrameBatch, index: int) -> None:
        """Compare a frame that need not be the oldest, or is none that was sent."""
        start, length = batch.offset[index], batch.length[index]
        data = batch.data[start : start + length].tobytes()
        flow = self.flow_of(batch, index)
        notes = self._in_flight.get(flow)
        if notes is None:
            batch.remark(index, None)
            self._stray(flow, data)
        else:
            is_blank = batch.flags[index] & CSUM_BLANK
            _, timestamp, _, remark = self._search(flow, notes, data, is_blank)
            batch.timestamp[index] = timestamp
            batch.remark(index, remark)
        self.frames_received += 1
        self.bytes_received += length

    def filter(self, data: bytes, timestamp: int) -> None:
        """Remove the note of a frame that the link dropped, as it may."""
        self._part()
        flow = self.flow_of(_alone(data), 0)
        notes: _Notes = self._in_flight.get(flow, deque())
        for place, note in enumerate(notes):
            if note[1] == timestamp and note[0] == data:
                before = self._missing_of(flow)
                notes.rotate(-place)
                self._end(flow, notes)
                notes.rotate(place)
                self.missing += self._missing_of(flow) - before
                self.filtered += 1
                return

    @property
    def intact(self) -> bool:
        """Whether every frame sent so far has arrived, unchanged and in order, or was filtered."""
        return not self.mismatches and not self.missing

    # -- notes -------------------------------------------------------------------------------------

    def _end(self, flow: bytes, notes: _Notes) -> None:
        """Remove the oldest note of a flow."""
        self._forget(notes.popleft()[0])
        if not notes:
            # No more memory than frames are on their way.
            del self._in_flight[flow]
            self._strays.pop(flow, None)

    def _limit_notes(self) -> None:
        """Give up the oldest notes if there are more than NOTES, those first of the flow that has
        had some for the longest time. Their frames stay missing."""
        count = sum(map(len, self._in_flight.values()))
        count += sum(noted.left for noted in self._together)
        # A quarter goes at once, or the next frame would have them counted again.
        spare = count - NOTES * 3 // 4 if count > NOTES else 0
        self._count_at = self.frames_sent + NOTES - (count - spare)
        if not spare:
            return
        self._part()
        for flow, notes in list(self._in_flight.items()):
            while notes and spare:
                self._end(flow, notes)
                spare -= 1

    def _forget(self, frame: bytes | _Digest) -> None:
        if type(frame) is bytes:
            self._kept -= len(frame)

    def _missing_of(self, flow: bytes) -> int:
        """Number of frames of a flow of which nothing has come: a stray counts as one of them,
        damaged."""
        return max(0, len(self._in_flight.get(flow, ())) - self._strays.get(flow, 0))

    # -- what goes wrong ---------------------------------------------------------------------------

    def _search(self, flow: bytes, notes: _Notes, data: bytes, is_blank: int) -> _Note:
        """The note of a frame that is not the oldest, or a note that it may belong to."""
        filled, place = _place(notes, data, is_blank)
        if place < 0:
            note = notes[min(self._strays.get(flow, 0), len(notes) - 1)]
            self._stray(flow, data)
            return note
        before = self._missing_of(flow)
        if place:
            self._overtake(flow, notes, place)
        self._strays.pop(flow, None)
        note = notes[0]
        was_blank = note[2]
        self._end(flow, notes)
        self.missing += self._missing_of(flow) - before
        # The sum of the pseudo-header may be the right checksum as it is.
        if is_blank != was_blank and not filled and not (was_blank and _blanked(data) == data):
            change = "lost" if was_blank else "got"
            self._mismatch(f"{len(data)} bytes arrived as sent, but {change} csum_blank")
        return note

    def _overtake(self, flow: bytes, notes: _Notes, count: int) -> None:
        """Mark the ``count`` oldest notes: their frames are lost, or late, or have arrived as
        strays."""
        strays = min(self._strays.get(flow, 0), count)
        self.missing += count - strays
        counted = [False]
        for _ in range(count):
            frame = notes.popleft()[0]
            if strays:
                # Which of them came damaged cannot be known.
                self._forget(frame)
                continue
            self._overtaken.append(_Overtaken(flow, frame, counted))
            if len(self._overtaken) > _REMEMBERED:
                self._forget(self._overtaken.popleft().frame)

    def _stray(self, flow: bytes, data: bytes) -> None:
        """Judge a frame that fits no note: it is late, or damaged, or was not sent."""
        for place, late in enumerate(self._overtaken):
            if late.flow == flow and late.frame == data:
                del self._overtaken[place]
                self._forget(late.frame)
                self.missing -= 1
                # The other one did not come where it was sent either.
                self.mismatches += not late.counted[0]
                late.counted[0] = True
                self._mismatch(f"{len(data)} bytes came behind frames that were sent later")
                return
        notes, strays = self._in_flight.get(flow), self._strays.get(flow, 0)
        if notes is None:
            self._mismatch(f"{len(data)} bytes came that nobody sent", received=data)
            return
        sent = self._meant(notes, data)
        crc = sent.crc if isinstance(sent, _Digest) else crc32(sent)
        self._mismatch(
            f"sent {len(sent)} bytes with CRC {crc:08x}, "
            f"received {len(data)} bytes with CRC {crc32(data):08x}",
            sent if isinstance(sent, bytes) else None,
            data,
        )
        before = self._missing_of(flow)
        if strays < _REMEMBERED:
            self._strays[flow] = strays + 1
        else:
            # Enough: the oldest of them was the oldest frame.
            self._end(flow, notes)
        self.missing += self._missing_of(flow) - before

    def _meant(self, notes: _Notes, data: bytes) -> bytes | _Digest:
        """The sent frame that a stray may be: the one that begins most like it.

        Only as long as mismatches are described.
        """
        if len(self.evidence) >= DESCRIBED:
            return notes[0][0]
        kept = [note[0] for note in islice(notes, _REMEMBERED) if isinstance(note[0], bytes)]
        return max(kept, key=lambda frame: _first_difference(frame, data), default=notes[0][0])

    def _mismatch(self, what: str, sent: bytes | None = None, received: bytes = b"") -> None:
        self.mismatches += 1
        if len(self.evidence) >= DESCRIBED:
            return
        offset = None if sent is None else _first_difference(sent, received)
        start = offset or 0
        shown = [(data or b"")[start : start + SHOWN].hex() for data in (sent, received)]
        self.evidence.append(Mismatch(self.frames_received, what, offset, *shown))


class CheckedEnd(PortWrapper):
    """One end of a checked link.

    ``outgoing`` notes what the endpoint gives; ``incoming`` compares what it gets with what the
    other end gave.
    """

    def __init__(self, endpoint: Endpoint, outgoing: InOrderCheck, incoming: InOrderCheck) -> None:
        super().__init__(endpoint)
        self.outgoing = outgoing
        self.incoming = incoming

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        try:
            return self.endpoint.pull(batch)
        finally:
            if batch.count > first:
                self.outgoing.sent(batch, first)

    def push(self, batch: FrameBatch) -> None:
        self.incoming.received(batch)
        self.endpoint.push(batch)


def check_order(
    guest: Endpoint, host: Endpoint, flow_of: FlowOf = one_flow
) -> tuple[CheckedEnd, CheckedEnd]:
    """Check both directions between two ends of a link.

    Returns the checked ends: ``guest.outgoing`` is ``host.incoming``, and the other way round.
    ``flow_of``: frames of one flow keep their order (:func:`ip_flow` with several queues).
    """
    up, down = InOrderCheck(flow_of), InOrderCheck(flow_of)
    return CheckedEnd(guest, up, down), CheckedEnd(host, down, up)


def _place(notes: _Notes, data: bytes, is_blank: int) -> tuple[bool, int]:
    """(whether a checksum was filled in, the index of a frame's note; -1 if it has none)."""
    if notes[0][0] == data:
        return False, 0
    may_be_filled = not is_blank and any(note[2] for note in notes)
    blanked = _blanked(data) if may_be_filled else b""
    if blanked and notes[0][2] and notes[0][0] == blanked:
        return True, 0
    for place, note in enumerate(notes):
        if note[0] == data:
            return False, place
    if blanked:
        for place, note in enumerate(notes):
            if note[2] and note[0] == blanked:
                return True, place
    return False, -1


def _blanked(data: bytes) -> bytes:
    """A frame with the pseudo-header's sum alone in place of its right checksum; empty without
    one."""
    length = len(data)
    copy = memoryview(bytearray(length + (-length & 3)))
    copy[:length] = data
    words, found = copy.cast("I"), array("q", bytes(8 * PLACES))
    if complete(copy, words, 0, length, found) != FOUND or copy[:length] != data:
        return b""
    blank(copy, words, 0, length, found)
    return bytes(copy[:length])


def _first_difference(sent: bytes, received: bytes) -> int:
    """The index of the first byte that differs; where the shorter one ends if none does."""
    for at, (left, right) in enumerate(zip(sent, received, strict=False)):
        if left != right:
            return at
    return min(len(sent), len(received))


def _alone(data: bytes) -> FrameBatch:
    batch = FrameBatch(memoryview(bytearray(data)), 1)
    batch.append(data)
    return batch
