"""The staging pages into which packets from guests are copied, shared by a backend domain's queues.

A queue uses them only within a pass, which ends when the host has taken the packets, and passes do
not overlap. So one set of TX_SLOTS pages (1 MiB) is enough for any number of vifs.
"""

from __future__ import annotations

from xennet.abi.words import TX_SLOTS
from xennet.interface import Hypervisor, PageRun


class TxStage:
    """Allocates the pages when the first queue takes them, and frees them when the last gives them
    back."""

    def __init__(self, hv: Hypervisor) -> None:
        self._hv = hv
        self._users = 0
        self._pages: PageRun | None = None

    def __repr__(self) -> str:
        return f"<TxStage {self._users} users>"

    def take(self) -> PageRun:
        """The TX_SLOTS pages. Raises OutOfFramesError if they cannot be allocated."""
        if self._pages is None:
            self._pages = self._hv.alloc_pages(TX_SLOTS)
        self._users += 1
        return self._pages

    def give_back(self) -> None:
        """Count one user less."""
        self._users -= 1
        if not self._users and self._pages is not None:
            pages, self._pages = self._pages, None
            self._hv.free_pages(pages)
