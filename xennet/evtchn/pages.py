"""Guest pages that the hypervisor keeps mapped for itself (Xen's map_guest_page)."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from xennet.memory import PageRun


@define(eq=False, repr=False)
class GuestPages:
    """Finds guest pages and counts what the hypervisor has mapped.

    ``find(domid, gfn)`` gives the hypervisor's views of one page of the domain's own memory, None
    when it has no such page. A page that is mapped must not get a new owner, even when its domain
    gives it up: ``released(frame)`` is called when the last mapping of a frame is gone.
    """

    find: Callable[[int, int], PageRun | None] = lambda domid, gfn: None
    released: Callable[[int], None] = lambda frame: None
    _mapped: dict[int, int] = field(factory=dict, init=False)

    def map(self, domid: int, gfn: int) -> PageRun | None:
        """Views of the page, to be given back by :meth:`unmap`; None when there is none."""
        page = self.find(domid, gfn)
        if page is not None:
            self._mapped[page.first] = self.mappings(page.first) + 1
        return page

    def unmap(self, frame: int) -> None:
        """One mapping of ``frame`` is over."""
        self._mapped[frame] -= 1
        if not self._mapped[frame]:
            del self._mapped[frame]
            self.released(frame)

    def mappings(self, frame: int) -> int:
        """How often the hypervisor has ``frame`` mapped."""
        return self._mapped.get(frame, 0)
