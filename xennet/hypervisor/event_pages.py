"""The pages of a domain that receives events by the FIFO ABI (Linux events_fifo.c)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from attrs import define, field

from xennet.abi.event_channel import EVTCHN_FIFO_WORDS_PER_PAGE
from xennet.evtchn.fifo import ALL_MASKED
from xennet.memory import PageRun


class FifoHypercalls(Protocol):
    """The hypercalls of the FIFO ABI."""

    def init_control(self, control_gfn: int, offset: int, vcpu: int) -> int: ...
    def expand_array(self, array_gfn: int) -> None: ...


@define(eq=False, repr=False)
class EventPages:
    """The pages of the FIFO ABI; the domain has all of them for life.

    ``control`` has a control block for each vCPU, ``array`` the event words. The hypervisor knows
    the first ``given`` pages of ``array``. An OutOfFramesError of ``alloc`` is passed on.
    """

    control: list[PageRun] = field(factory=list)
    array: list[PageRun] = field(factory=list)
    given: int = 0

    def __iter__(self) -> Iterator[PageRun]:
        yield from self.control
        yield from self.array

    def start(self, xen: FifoHypercalls, vcpus: int, alloc: Callable[[], PageRun]) -> None:
        """Change to the FIFO ABI, with empty queues and no event words."""
        while len(self.control) < vcpus:
            self.control.append(alloc())
        for vcpu, page in enumerate(self.control):
            xen.init_control(page.first, 0, vcpu)
            # After the call: if it is refused the page may be in use. No port is linked yet.
            page.u8[:] = bytes(len(page.u8))
        self.given = 0

    def reach(self, xen: FifoHypercalls, port: int, alloc: Callable[[], PageRun]) -> None:
        """Give the hypervisor pages until ``port`` has an event word. All ports of a new page are
        masked."""
        while self.given * EVTCHN_FIFO_WORDS_PER_PAGE <= port:
            if self.given == len(self.array):
                self.array.append(alloc())
            page = self.array[self.given]
            page.u8[:] = ALL_MASKED
            xen.expand_array(page.first)
            self.given += 1
