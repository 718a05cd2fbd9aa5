"""The processes that run in served domains, and the pages that they have mapped."""

from __future__ import annotations

import os
import signal
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress

from xennet.exec.client_memory import ClientMemory
from xennet.exec.devices import Mapping, OpenFile, Pages
from xennet.exec.served_domain import ServedDomain

_PAGE = 4096
#: PF_EXITING (linux/sched.h), in the ninth field of /proc/PID/stat.
_EXITING = 0x4


class _View:
    """Pages ``first`` to ``first + count - 1`` of a mapping, from address ``lo`` on."""

    __slots__ = ("count", "first", "lo", "mapping")

    def __init__(self, mapping: Mapping, lo: int, first: int, count: int) -> None:
        self.mapping, self.lo, self.first, self.count = mapping, lo, first, count

    @property
    def hi(self) -> int:
        """The address behind the last page."""
        return self.lo + self.count * _PAGE


class Program:
    """A process of ``domain``. ``memory`` is its memory, ``pidfd`` tells its end, after which
    nothing of it is left here.

    ``unmapped(file)`` is called when a mapping is gone. With ``crashes`` its end is the crash of
    the domain.
    """

    def __init__(
        self, domain: ServedDomain, pid: int, pidfd: int, unmapped: Callable[[OpenFile], None]
    ) -> None:
        self.domain, self.pid, self.pidfd = domain, pid, pidfd
        self.memory = ClientMemory(pid)
        self.crashes = False
        self._unmapped = unmapped
        #: Files that it opened; some may be closed by now.
        self.opened: list[OpenFile] = []
        #: Views of mappings, in the order of their addresses, which do not overlap.
        self.views: list[_View] = []

    @property
    def mappings(self) -> int:
        """Number of pages of the machine that it has mapped."""
        return sum(view.count for view in self.views)

    def end(self) -> None:
        """The process has ended: nothing of it is reached any more, nor of one that gets its
        number."""
        self.memory.end()
        os.close(self.pidfd)
        self.pidfd = -1

    def kill(self) -> None:
        """SIGKILL, unless it is the machine's own process."""
        if self.pid != os.getpid():
            with suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def gone(self) -> bool:
        """Whether the process has ended and somebody has waited for it, so that its number may be
        another's."""
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def exiting(self) -> bool:
        """Whether the process is at its end: its descriptors go because of that."""
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                with open(f"/proc/{self.pid}/task/{thread}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
                if not int(fields[6]) & _EXITING:
                    return False
        except (OSError, ValueError, IndexError):
            return True
        return True

    # -- pages -------------------------------------------------------------------------------------

    def mapping_at(self, address: int) -> tuple[Mapping, int] | None:
        """The mapping of a page of the machine at ``address``, and which of its pages that is."""
        place = bisect_right(self.views, address, key=lambda view: view.lo) - 1
        if place < 0 or address >= self.views[place].hi:
            return None
        view = self.views[place]
        return view.mapping, view.first + (address - view.lo) // _PAGE

    def add(self, file: OpenFile, address: int, count: int, pages: Pages) -> None:
        """Note that ``count`` pages are being mapped."""
        self.unmap(address, count * _PAGE)
        frames = None if pages.frames is None else list(pages.frames)
        mapping = Mapping(file, address, count, count, frames, pages.tag)
        file.mappings += 1
        if frames is not None:
            self.domain.machine.show_frames(frames)
        view = _View(mapping, address, 0, count)
        place = bisect_right(self.views, address, key=lambda other: other.lo)
        self.views.insert(place, view)

    def fill(self, address: int, frames: list[int]) -> None:
        """Note that frames are being mapped into holes of a mapping."""
        found = self.mapping_at(address)
        shown = None if found is None else found[0].frames
        if found is not None and shown is not None:
            self.domain.machine.show_frames(frames)
            shown[found[1] : found[1] + len(frames)] = frames

    def unmap(self, address: int, size: int) -> None:
        """Note that the pages in ``size`` bytes from ``address`` on are there no more."""
        end = address + size
        hit = [view for view in self.views if view.lo < end and address < view.hi]
        for view in hit:
            first = max(0, (address - view.lo) // _PAGE)
            last = min(view.count, -(-(end - view.lo) // _PAGE))
            self.views.remove(view)
            rest = [
                _View(view.mapping, view.lo, view.first, first),
                _View(
                    view.mapping,
                    view.lo + last * _PAGE,
                    view.first + last,
                    view.count - last,
                ),
            ]
            self.views += [part for part in rest if part.count]
            self.views.sort(key=lambda part: part.lo)
            self._end(view.mapping, view.first + first, last - first)

    def unmap_all(self) -> None:
        """Note that nothing is mapped: the process is gone, or runs another program."""
        views, self.views = self.views, []
        for view in views:
            self._end(view.mapping, view.first, view.count)

    def compare(self) -> None:
        """Note what is not mapped any more, as /proc/PID/maps shows it."""
        if not self.views:
            return
        try:
            with open(f"/proc/{self.pid}/maps", "rb") as maps:
                lines = maps.read().splitlines()
        except OSError:
            return
        shared = []
        for line in lines:
            range_, protection, *_ = line.split(None, 2)
            if protection[3:4] == b"s":
                shared.append(tuple(int(end, 16) for end in range_.split(b"-")))
        for view in list(self.views):
            if view.mapping.frames is not None and max(view.mapping.frames) < 0:
                continue  # holes are no shared memory
            at = view.lo
            for lo, hi in shared:
                if lo <= at < view.hi:
                    at = max(at, hi)
                elif at < lo < view.hi:
                    self.unmap(at, lo - at)
                    at = hi
            if at < view.hi:
                self.unmap(at, view.hi - at)

    def _end(self, mapping: Mapping, first: int, count: int) -> None:
        file = mapping.file
        mapping.left -= count
        if not mapping.left:
            file.mappings -= 1
        device = file.device
        device.munmap(mapping, first, count)
        if mapping.frames is not None:
            self.domain.machine.hide_frames(mapping.frames[first : first + count])
        if not mapping.left:
            self._unmapped(file)
