"""One direction of frames on their way to a receiver: the kernels' memory, and frames that wait."""

from __future__ import annotations

from array import array
from typing import Any

from attrs import frozen

from xennet.engine.choice import current
from xennet.frames import ALL_GSO_TYPES, EVERYTHING, FrameBatch, Offload, large_enough
from xennet.offload import refit, segment
from xennet.offload.headers import PLACES


@frozen
class OffloadCounters:
    """What was done in software, in frames.

    ``completed``: checksums filled in. ``segmented``: GSO frames that were cut, into ``segments``.
    ``refused``: dropped, longer than the receiver allows. ``errors``: dropped, because the headers
    are not those of a TCP or UDP packet as the flags say (hardening rule F17). ``wrong_checksums``:
    passed on with a wrong TCP or UDP checksum, which no flag calls blank, to a receiver that takes
    no blank ones of that IP version.
    """

    completed: int = 0
    segmented: int = 0
    segments: int = 0
    refused: int = 0
    errors: int = 0
    wrong_checksums: int = 0


class Fitter:
    """Makes frames fit for a receiver.

    Frames that fit stay where they are. A frame that does not goes, with all behind it, through
    :meth:`begin` and :meth:`fit`. Frames that find no room in the target wait in one scratch batch,
    no larger than the largest batch that was begun.
    """

    def __init__(self, offload: Offload) -> None:
        engine = current()
        self._view = engine.view
        self._res = array("q", bytes(8 * refit.RESULTS))
        found = array("q", bytes(8 * PLACES))
        self._vectors: tuple[Any, ...] = (engine.view(found), engine.view(self._res))
        self._first_unfit = engine.kernel(refit.first_unfit)
        self._count_wrong = engine.kernel(refit.count_wrong)
        self._in_place = engine.kernel(refit.in_place)
        self._refit = engine.kernel(refit.refit)
        self._source: FrameBatch | None = None
        #: Whether frames that were begun are not all fitted yet.
        self.waiting = False
        self._scratch: FrameBatch | None = None
        self.offload = offload

    @property
    def offload(self) -> Offload:
        """What the receiver takes; may change at any time."""
        return self._offload

    @offload.setter
    def offload(self, offload: Offload) -> None:
        self._offload = offload
        plan = refit.plan_of(offload)
        #: Whether the receiver takes every frame as it is.
        self.idle = plan == refit.plan_of(EVERYTHING)
        self._takes_blank = plan[refit.P_BLANK_TYPES] == ALL_GSO_TYPES
        self._plan = self._view(plan)

    @property
    def counters(self) -> OffloadCounters:
        res = self._res
        return OffloadCounters(
            completed=res[refit.R_COMPLETED],
            segmented=res[refit.R_SEGMENTED],
            segments=res[segment.R_SEGMENTS],
            refused=res[refit.R_REFUSED],
            errors=res[refit.R_ERRORS],
            wrong_checksums=res[refit.R_WRONG],
        )

    def first_unfit(self, batch: FrameBatch, first: int) -> int:
        """The first frame from ``first`` on that may not fit; ``batch.count`` if all fit.

        Must be called once for each frame: it counts wrong checksums.
        """
        count = batch.count
        if self.idle:
            return count
        frames = batch.for_kernels(self._view)
        if not self._takes_blank:
            self._count_wrong(first, count, self._plan, frames, *self._vectors)
        return self._first_unfit(first, count, self._plan, frames)

    def complete(self, batch: FrameBatch, first: int) -> int:
        """Complete checksums in ``batch`` itself, from frame ``first`` on.

        Returns the first frame that has to be segmented or dropped; ``batch.count`` if there is
        none.
        """
        frames = batch.for_kernels(self._view)
        return self._in_place(first, batch.count, self._plan, frames, *self._vectors)

    def begin(self, batch: FrameBatch, first: int) -> None:
        """Begin to make frames ``first`` ... of ``batch`` fit; none may be waiting."""
        self._source, self.waiting = batch, True
        self._res[refit.R_NEXT] = first

    def fit(self, target: FrameBatch, limit: int) -> int:
        """Append frames that were begun until ``target`` has ``limit`` frames. Returns how many
        were appended.

        0 with frames :attr:`waiting` means that there is no room for even one.
        """
        source, res, first = self._source, self._res, target.count
        if source is None:
            return 0
        res[segment.R_COUNT], res[segment.R_USED] = first, target.used
        memory: tuple[Any, ...] = (
            source.for_kernels(self._view),
            self._view(source.timestamp),
            target.for_kernels(self._view),
            self._view(target.timestamp),
            self._plan,
            *self._vectors,
        )
        most = min(limit, target.max_frames)
        if source.remarks:
            self._fit_one_by_one(most, source, target, memory)
        else:
            self._refit(most, source.count, *memory)
        target.count, target.used = res[segment.R_COUNT], res[segment.R_USED]
        if res[refit.R_NEXT] == source.count:
            self._source, self.waiting = None, False
        return target.count - first

    def _fit_one_by_one(
        self, most: int, source: FrameBatch, target: FrameBatch, memory: tuple[Any, ...]
    ) -> None:
        """Fit frames one by one, so that each one's remark goes with its result."""
        res = self._res
        while (index := res[refit.R_NEXT]) < source.count:
            before = res[segment.R_COUNT]
            self._refit(most, index + 1, *memory)
            for i in range(before, res[segment.R_COUNT]):
                target.remark(i, source.remarks.get(index))
            if res[refit.R_NEXT] == index:
                return

    def keep(self) -> None:
        """Copy the frames that wait out of the batch in which they were begun; that one is free
        then."""
        source = self._source
        if source is None or source is self._scratch:
            return
        first, count = self._res[refit.R_NEXT], source.count
        # Frames that were dropped leave holes: ``used`` may be less than where the last one ends.
        base, end = source.offset[first], source.offset[count - 1] + source.length[count - 1]
        scratch = large_enough(self._scratch, len(source.data), source.max_frames)
        self._scratch = scratch
        scratch.data[: end - base] = source.data[base:end]
        left = count - first
        scratch.offset[:left] = array("I", [at - base for at in source.offset[first:count]])
        for kept, column in zip(scratch.all_columns[1:], source.all_columns[1:], strict=True):
            kept[:left] = column[first:count]
        scratch.count, scratch.used = left, end - base
        remarks = {at - first: remark for at, remark in source.remarks.items() if at >= first}
        scratch.remarks = remarks
        self._source = scratch
        self._res[refit.R_NEXT] = 0
