"""Pages in which packets from guests are put together, shared by the queues of a backend domain.

They are used only within a pass, which ends when the host has taken the packets, and passes do not
overlap. One set of TX_SLOTS pages (1 MiB) is therefore enough for any number of vifs.
"""

from __future__ import annotations

from xennet.abi.words import TX_SLOTS
from xennet.interface import Hypervisor, PageRun


class TxStage:
    """Allocated when the first queue takes it, freed when the last one gives it back."""

    def __init__(self, hv: Hypervisor) -> None:
        self._hv = hv
        self._users = 0
        self._pages: PageRun | None = None

    def take(self) -> PageRun:
        """TX_SLOTS pages. OutOfFramesError if the machine has none."""
        if self._pages is None:
            self._pages = self._hv.alloc_pages(TX_SLOTS)
        self._users += 1
        return self._pages

    def give_back(self) -> None:
        """One user less."""
        self._users -= 1
        if not self._users and self._pages is not None:
            pages, self._pages = self._pages, None
            self._hv.free_pages(pages)
