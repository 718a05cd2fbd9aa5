"""A model of the ring contract: which slots each side owns, as lists of indices.

It shares no code with the device.
"""

from __future__ import annotations

from attrs import define, field


def stretch(first: int, last: int, n: int) -> list[int]:
    """The slots from ``first`` to ``last`` in ring order, both included."""
    found = [first]
    while found[-1] != last:
        found.append((found[-1] + 1) % n)
    return found


def allowed(first: int, last: int, head: int, cur: int, n: int) -> bool:
    """Whether a client that may use ``first`` to ``last`` may write this."""
    mine = stretch(first, last, n)
    if head not in mine:
        return False
    if cur in mine[mine.index(head) :]:
        return True
    # A quirk of the real module: where the window wraps, a cur beyond the ring is not noticed
    # while head is in the upper part.
    return cur >= n and last < first <= head


@define
class Side:
    """One direction of one end: what the client sees, and what the kernel has accepted."""

    tx: bool
    n: int
    shown: list[int]
    rhead: int = 0
    rcur: int = 0
    rtail: int = 0
    hwcur: int = 0
    hwtail: int = 0
    published: int = 0
    slots: list[list[int]] = field(factory=list)

    @classmethod
    def fresh(cls, tx: bool, buffers: list[int]) -> Side:
        n = len(buffers)
        tail = n - 1 if tx else 0
        slots = [[buffer, 2048, 0] for buffer in buffers]
        return cls(tx, n, [0, 0, tail], 0, 0, tail, 0, tail, tail, slots)

    @property
    def pending(self) -> int:
        """Slots from hwcur to hwtail."""
        return (self.hwtail - self.hwcur) % self.n

    def prologue(self) -> bool:
        head, cur, _ = self.shown
        if self.tx:
            good = allowed(self.rhead, self.rtail, head, cur, self.n)
            if good:
                self.rhead, self.rcur = head, cur
        else:
            good = allowed(self.hwcur, self.hwtail, head, cur, self.n)
            self.rhead, self.rcur = head, cur
        if good:
            self.shown[2] = self.rtail
        else:
            self.reinit()
        return good

    def reinit(self) -> None:
        if max(self.shown) >= self.n:
            self.shown = [self.hwcur, self.hwcur, self.hwtail]
        self.rhead, self.rcur, self.rtail = self.shown

    def finish(self) -> None:
        self.rtail = self.shown[2] = self.hwtail


def steps(first: int, last: int, n: int) -> list[int]:
    """The slots from ``first`` up to, not including ``last``."""
    return stretch(first, last, n)[:-1]
