"""Guest pages that the hypervisor keeps mapped for itself (Xen's map_guest_page)."""

from __future__ import annotations

from collections.abc import Callable, KeysView

from attrs import define, field

from xennet.memory import PageRun


@define(eq=False, repr=False)
class GuestPages:
    """Maps guest pages and counts the hypervisor's mappings.

    ``find(domid, gfn)`` returns the hypervisor's views of one page of the domain's own memory, None
    if it has no such page. A mapped page must not get a new owner, even if its domain gives it up:
    ``released(frame)`` is called when the last mapping of a frame is gone.
    """

    find: Callable[[int, int], PageRun | None] = lambda domid, gfn: None
    released: Callable[[int], None] = lambda frame: None
    _mapped: dict[int, int] = field(factory=dict, init=False)

    def __repr__(self) -> str:
        return f"<GuestPages {len(self._mapped)} mapped>"

    def map(self, domid: int, gfn: int) -> PageRun | None:
        """Map a page. Returns its views, to be given back by :meth:`unmap`; None if there is no
        such page."""
        page = self.find(domid, gfn)
        if page is not None:
            self._mapped[page.first] = self.mappings(page.first) + 1
        return page

    def unmap(self, frame: int) -> None:
        """End one mapping of ``frame``."""
        self._mapped[frame] -= 1
        if not self._mapped[frame]:
            del self._mapped[frame]
            self.released(frame)

    @property
    def mapped_frames(self) -> KeysView[int]:
        """The frames that the hypervisor has mapped."""
        return self._mapped.keys()

    def mappings(self, frame: int) -> int:
        """Number of the hypervisor's mappings of ``frame``."""
        return self._mapped.get(frame, 0)
