"""Pages that a frontend shares: a run of its own pages, and a grant reference for each.

A domain that can write its grant table writes the frames of its buffers' entries once, here;
kernels then switch access on and off by the flags (xen/grant_table.h, "Introducing a valid entry
into the grant table"). Where another program writes the table (xennet.interface.GuestGrants, shift
0), every page is granted for life.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from typing import Any

from xennet.abi.grant_table import GTF_permit_access, GTF_readonly
from xennet.engine.choice import Engine, shared
from xennet.engine.kernel import alone
from xennet.granter import consecutive, in_a_row, words_of
from xennet.interface import HypercallError, Hypervisor


class GrantedPages:
    """``count`` zeroed pages, page i with reference ``grefs[i]``.

    ``pages`` is the run. With ``lasting``, ``otherend_id`` has access until :meth:`end`, read-only
    if ``readonly``; otherwise kernels switch access on and off. Where the domain cannot write its
    table, access lasts in either case. Raises HypercallError when references run out,
    OutOfFramesError when pages do; nothing is held then.
    """

    def __init__(
        self,
        hv: Hypervisor,
        count: int,
        otherend_id: int,
        *,
        readonly: bool = False,
        lasting: bool = True,
    ) -> None:
        self._hv = hv
        self.lasting = lasting or not hv.grants.shift
        self._access = GTF_permit_access | (GTF_readonly if readonly else 0) | otherend_id << 16
        self.pages = hv.alloc_pages(count)
        self.grefs = array("I")
        grants, frames = hv.grants, range(self.pages.first, self.pages.first + count)
        try:
            if self.lasting:
                for frame in frames:
                    self.grefs.append(grants.grant_access(otherend_id, frame, readonly))
            else:
                self.grefs = array("I", grants.claim(count))
                words, shift = grants.words, grants.shift
                row = in_a_row(self.grefs) if alone(words) else None
                if row is not None:
                    words[words_of(row, shift, shift)] = consecutive(frames)
                else:
                    for gref, frame in zip(self.grefs, frames, strict=True):
                        words[(gref << shift) + shift] = frame
        except Exception:
            self.end()
            raise

    def for_kernels(self, engine: Engine) -> Any:
        """The entries as kernels take them (xennet.engine.kernel.Grants)."""
        grants = self._hv.grants
        if not grants.shift:
            nothing = engine.view(array("I", (0,)))
            return nothing, 0, nothing, 0, 0, 0
        words, status = (shared(part, "grant table") for part in (grants.words, grants.status))
        one_thread = int(grants.shift == 1 and alone(words))
        words, status = engine.view(words), engine.view(status)
        return words, grants.shift, status, grants.status_shift, self._access, one_thread

    def end(self) -> bool:
        """End all access, and give references and pages back.

        Returns False while the other end still uses a page: that page, and with it the run, stays
        allocated until a later call succeeds. A page is never freed while a foreign mapping could
        read the next owner's data in it (XSA-396).
        """
        self.grefs = array("I", self._hv.grants.end_all(self.grefs))
        if self.grefs:
            return False
        self._hv.free_pages(self.pages)
        return True


class Shares:
    """The granted pages and unbound event channels that one queue shares with the other end.

    ``ports`` are the channels, in the order in which they were allocated.
    """

    def __init__(self, hv: Hypervisor, otherend_id: int) -> None:
        self._hv = hv
        self._otherend_id = otherend_id
        self._granted: list[GrantedPages] = []
        self.ports: list[int] = []

    def buffers(self, count: int, *, readonly: bool = False) -> GrantedPages:
        """Allocate ``count`` pages to which kernels give access. Raises as GrantedPages does."""
        granted = GrantedPages(self._hv, count, self._otherend_id, readonly=readonly, lasting=False)
        self._granted.append(granted)
        return granted

    def page(self) -> GrantedPages:
        """Allocate one page, which the other end may read and write at once. Raises as GrantedPages
        does."""
        granted = GrantedPages(self._hv, 1, self._otherend_id)
        self._granted.append(granted)
        return granted

    def channel(self) -> int:
        """Allocate a channel that the other end can bind. Raises HypercallError when there is none
        left."""
        self.ports.append(self._hv.alloc_unbound(self._otherend_id))
        return self.ports[-1]

    def end(self) -> list[GrantedPages]:
        """Close the channels and end all grants. May be repeated.

        Returns the pages that the other end still holds; the caller tries them again later.
        """
        while self.ports:
            # A suspend takes the ports of a domain: after a resume there is nothing to close.
            with suppress(HypercallError):
                self._hv.close_port(self.ports.pop())
        held = [granted for granted in self._granted if not granted.end()]
        self._granted = []
        return held
