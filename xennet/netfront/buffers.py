"""Pages that a frontend shares: a run of its own pages, a grant reference for each.

The frame and the domain of each entry are written once, here; kernels then switch access on and
off by the entry's flags (xen/grant_table.h, "Introducing a valid entry into the grant table").
"""

from __future__ import annotations

from array import array

from xennet.abi.grant_table import GTF_permit_access, GTF_reading, GTF_writing
from xennet.interface import Hypervisor

_IN_USE = GTF_reading | GTF_writing


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
