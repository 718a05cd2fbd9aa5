"""Pages that a frontend shares: a run of its own pages, a grant reference for each.

The frame and the domain of each entry are written once, here; kernels then switch access on and
off by the entry's flags (xen/grant_table.h, "Introducing a valid entry into the grant table").
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from typing import Any

from xennet.abi.grant_table import GTF_permit_access, GTF_reading, GTF_writing
from xennet.engine.choice import Engine, shared
from xennet.interface import GuestGrants, HypercallError, Hypervisor

_IN_USE = GTF_reading | GTF_writing


def kernel_grants(grants: GuestGrants, engine: Engine) -> Any:
    """The grant table as kernels take it (xennet.engine.kernel.Grants)."""
    words = engine.view(shared(grants.words, "grant table"))
    status = engine.view(shared(grants.status, "grant table"))
    return words, grants.shift, status, grants.status_shift


class GrantedPages:
    """``count`` zeroed pages with claimed references: page i belongs to ``grefs[i]``.

    ``pages`` is the run; no access is given yet. Raises HypercallError when references run out,
    OutOfFramesError when pages do; nothing is held then.
    """

    def __init__(self, hv: Hypervisor, count: int) -> None:
        self._hv = hv
        self.pages = hv.alloc_pages(count)
        try:
            self.grefs = array("I", hv.grants.claim(count))
        except Exception:
            hv.free_pages(self.pages)
            raise
        words, shift = hv.grants.words, hv.grants.shift
        for i, gref in enumerate(self.grefs):
            words[(gref << shift) + shift] = self.pages.first + i

    def grant(self, otherend_id: int) -> None:
        """Give ``otherend_id`` access to every page, for reading and writing."""
        words, shift = self._hv.grants.words, self._hv.grants.shift
        for gref in self.grefs:
            words[gref << shift] = GTF_permit_access | otherend_id << 16

    def end(self) -> bool:
        """End all access and give references and pages back.

        False while the other end still uses a page: that page, and with it the run, stays ours
        until a later call succeeds. A page is never freed while a foreign mapping could read the
        next owner's data in it (XSA-396).
        """
        grants = self._hv.grants
        words, shift = grants.words, grants.shift
        status, status_shift = grants.status, grants.status_shift
        held = array("I")
        ended = array("I")
        for gref in self.grefs:
            if status[gref << status_shift] & _IN_USE:
                held.append(gref)
            else:
                words[gref << shift] = 0
                ended.append(gref)
        grants.release(ended)
        self.grefs = held
        if held:
            return False
        self._hv.free_pages(self.pages)
        return True


class Shares:
    """What one ring owner shares with the other end: granted pages and unbound event channels.

    ``ports`` are the channels, in the order in which they were allocated.
    """

    def __init__(self, hv: Hypervisor, otherend_id: int) -> None:
        self._hv = hv
        self._otherend_id = otherend_id
        self._granted: list[GrantedPages] = []
        self.ports: list[int] = []

    def pages(self, count: int) -> GrantedPages:
        """``count`` pages with references, no access given yet; raises as GrantedPages does."""
        granted = GrantedPages(self._hv, count)
        self._granted.append(granted)
        return granted

    def page(self) -> GrantedPages:
        """One page, which the other end may use at once."""
        granted = self.pages(1)
        granted.grant(self._otherend_id)
        return granted

    def channel(self) -> int:
        """A channel that the other end can bind. HypercallError when there is none left."""
        self.ports.append(self._hv.alloc_unbound(self._otherend_id))
        return self.ports[-1]

    def end(self) -> list[GrantedPages]:
        """Close the channels and end all grants; twice is harmless.

        Returns the pages that the other end still holds; the caller tries them again later.
        """
        while self.ports:
            # A suspend takes the ports of a domain: after a resume there is nothing to close.
            with suppress(HypercallError):
                self._hv.close_port(self.ports.pop())
        held = [granted for granted in self._granted if not granted.end()]
        self._granted = []
        return held
