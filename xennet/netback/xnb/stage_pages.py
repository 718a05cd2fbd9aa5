"""Mbufs in the staging pages of a queue, which are freed with the queue."""

from __future__ import annotations

from attrs import frozen

from xennet.abi.xen import PAGE_SIZE
from xennet.interface import PageRun
from xennet.netback.xnb.mbuf import MbufPool


@frozen(eq=False)
class PageSlice:
    """Some consecutive pages of a run, as a run (xennet.interface.PageRun)."""

    first: int
    count: int
    u8: memoryview
    u16: memoryview
    u32: memoryview
    u64: memoryview


class StagePages:
    """A PageSource that gives out the pages of ``stage`` in order, each once."""

    def __init__(self, stage: PageRun) -> None:
        self._stage = stage
        self._given = 0

    def alloc_pages(self, count: int) -> PageSlice:
        """The next ``count`` pages. Raises MemoryError if there are not as many left."""
        stage, at = self._stage, self._given
        if at + count > stage.count:
            raise MemoryError(f"{count} pages of a stage of {stage.count}, {at} of which are taken")
        self._given = at + count
        begin, end = at * PAGE_SIZE, (at + count) * PAGE_SIZE
        return PageSlice(
            stage.first + at,
            count,
            stage.u8[begin:end],
            stage.u16[begin // 2 : end // 2],
            stage.u32[begin // 4 : end // 4],
            stage.u64[begin // 8 : end // 8],
        )

    def free_pages(self, pages: PageRun) -> None:
        """Do nothing: the pages are freed with the stage."""


def stage_pool(stage: PageRun) -> MbufPool:
    """An mbuf pool in the pages of ``stage``."""
    return MbufPool(StagePages(stage), max_pages=stage.count)
