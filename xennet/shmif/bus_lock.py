"""The lock of a bus between processes: a spin lock that finds out whether its holder is dead.

As upstream's shmif_lockbus (if_shmem.c 1.89) does, the lock word of the bus is swapped from 0 to
1. Upstream swaps 1001 times in a row and then sleeps a millisecond; here a process that finds the
lock held only looks at it until it is free, for a swap takes the word from the holder's cache, with
the ends of the data beside it. Then it lets others have the processor, and then it sleeps, longer
and longer, up to upstream's millisecond. Where the holder has a mark (xennet.shmif.owner) it also
sets a bit that says that somebody waits: the holder then lets go of the processor before it takes
the lock again, or it would nearly always be the first.

Upstream waits for ever; here the holder is examined after :data:`SUSPICION` seconds. If it is
proven dead, the lock is taken over in one swap; if it may have been writing, the bus is emptied as
well, and every reader counts an overrun. Both are reported. The lock is never taken from a holder
that lives or that leaves no mark: the wait ends after :data:`PATIENCE` seconds in an error that
names the holder.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial

from xennet.abi.shmifvar import (
    BUSMEM_DATASIZE,
    LOCK_LOCKED,
    LOCK_UNLOCKED,
    SHMIF_MEM,
    MEM_W_first,
    MEM_W_gen,
    MEM_W_last,
    MEM_W_lock,
)
from xennet.engine import atomics
from xennet.engine.choice import current
from xennet.engine.kernel import U32Words, compare_and_swap
from xennet.ring import MASK32
from xennet.shmif import owner
from xennet.shmif.errors import BusError

#: Seconds of waiting after which the holder is examined, and after which the wait is an error.
SUSPICION = 0.02
PATIENCE = 10.0
#: Looks at a lock that is held, in a row; how often a process that waits lets others have the
#: processor after them before it sleeps; seconds of its first and its longest sleep.
_LOOKS = 100
_YIELDS = 20
_FIRST_NAP, _NAP = 0.00005, 0.001
#: How often a holder that has freed the lock for somebody lets others have the processor, within a
#: nap, before it takes the lock again, unless it has been taken.
_COURTESY = 20
#: Index of the 64-bit word made of the lock and the spare word behind it.
WORD = MEM_W_lock // 2

_log = logging.getLogger("xennet.shmif")
#: Lets another process have the processor, if one waits for it.
_yield: Callable[[], None] = getattr(os, "sched_yield", partial(time.sleep, 0))


class _Forks:
    """Counts how often this process is the child of a fork since this module was imported."""

    seen = 0

    @classmethod
    def count(cls) -> None:
        cls.seen += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Forks.count)


def take_lock(words: U32Words, word: int, looks: int) -> int:
    """Swap the lock from free to the 64-bit number ``word``; if it is held, look at it up to
    ``looks`` times, and swap once more if it is free.

    Returns the value found last: 0 if the lock is taken.
    """
    seen = compare_and_swap(words, WORD, LOCK_UNLOCKED, word)
    while seen != LOCK_UNLOCKED and looks > 0:
        looks -= 1
        if words[WORD] == LOCK_UNLOCKED:
            seen = compare_and_swap(words, WORD, LOCK_UNLOCKED, word)
    return seen


def empty(mem: memoryview, data: memoryview, header_size: int) -> None:
    """Empty a bus whose lock is held: its head as of a new bus, its generation two later. Any
    reader, whatever its position, has fallen behind then and finds no frame."""
    words = mem.cast("B").cast("I")
    data[:header_size] = bytes(header_size)
    words[MEM_W_first] = BUSMEM_DATASIZE
    words[MEM_W_last] = 0
    gen = words[MEM_W_gen] | words[MEM_W_gen + 1] << 32
    gen += 2
    words[MEM_W_gen] = gen & MASK32
    words[MEM_W_gen + 1] = gen >> 32 & MASK32


class BusLock:
    """The lock of the bus file ``fd``. ``mem`` is its struct shmif_mem (64-bit words of the map),
    ``data`` the data behind it. ``name`` begins every message. ``tell`` is called with each message
    about a dead holder; None logs it as a warning of "xennet.shmif".

    Raises BusError where there are no atomic operations between processes.
    """

    def __init__(
        self,
        name: str,
        fd: int,
        mem: memoryview,
        data: memoryview,
        header_size: int,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._name = name
        self._fd = fd
        self._mem, self._data, self._header_size = mem, data, header_size
        self._tell = tell or _log.warning
        try:
            atomics.of(mem)
        except atomics.AtomicsError as e:
            raise BusError(f"{name}: cannot be locked: {e}") from e
        engine = current()
        self._words = engine.view(mem)
        self._take = engine.kernel(take_lock)
        self._free = engine.kernel(compare_and_swap)
        self._forks = _Forks.seen
        #: The mark of this opening of the file; 0 where the system has no marks.
        self.mark = owner.claim(fd)
        self._held = 0
        self._asked = False
        #: Number of dead holders that the lock was taken from.
        self.dead_holders = 0
        #: How often the lock was held by another when it was wanted, and the seconds of all waits.
        self.waits, self.waited = 0, 0.0

    def acquire(self, writing: bool, patience: float = PATIENCE) -> None:
        """Take the lock; ``writing``: the bus may be changed while it is held.

        Raises BusError, which names the holder, if the lock cannot be had for ``patience`` seconds.
        """
        if self._forks != _Forks.seen:
            raise BusError(f"{self._name}: was opened before a fork: the child opens it itself")
        if self._asked:
            self._give_way()
        word = owner.held_by(self.mark, writing)
        if self._take(self._words, word, 0) == LOCK_UNLOCKED:
            self._held = word
        else:
            self._wait(word, patience)

    @property
    def held(self) -> bool:
        """Whether this opening of the bus holds the lock."""
        return bool(self._held)

    def release(self) -> None:
        """Free the lock. Raises BusError if it was not held any more: another process has broken
        it."""
        held, self._held = self._held, 0
        seen = self._free(self._words, WORD, held, LOCK_UNLOCKED)
        if seen == held:
            return
        self._asked = seen == owner.asked_for(held)
        if not self._asked or self._free(self._words, WORD, seen, LOCK_UNLOCKED) != seen:
            raise BusError(
                f"{self._name}: the lock was broken by another process while it was held"
            )

    def give_up(self) -> None:
        """Free the lock of a write that was interrupted; the bus is emptied, as after a writer that
        died. Raises BusError as :meth:`release` does."""
        empty(self._mem, self._data, self._header_size)
        self._tell(
            f"{self._name}: interrupted while it was written to, so the bus is emptied; readers "
            "lose what they had not read"
        )
        self.release()

    def close(self) -> None:
        """Give the mark back. A lock that is still held counts as a dead holder's from then on.
        Closing the descriptor would not be enough, since the map keeps the file open."""
        owner.release(self._fd, self.mark)

    def _give_way(self) -> None:
        """Let the processes that waited when the lock was freed have a chance to take it."""
        self._asked = False
        until = time.monotonic() + _NAP  # on a busy machine one time may be long enough
        for _ in range(_COURTESY):
            if self._mem[WORD] != LOCK_UNLOCKED:
                return
            _yield()
            if time.monotonic() >= until:
                return

    def _wait(self, word: int, patience: float) -> None:
        started = time.monotonic()
        asked = started + min(SUSPICION, patience)
        yields, nap = _YIELDS, _FIRST_NAP
        self.waits += 1
        try:
            while (seen := self._take(self._words, word, _LOOKS)) != LOCK_UNLOCKED:
                now = time.monotonic()
                if now >= asked:
                    if self._took_over(seen, word):
                        return
                    asked = now + SUSPICION
                if now >= started + patience:
                    raise BusError(f"{self._name}: locked for {patience:g} s: {self._holder(seen)}")
                if owner.mark_of(seen):
                    self._free(self._words, WORD, seen, owner.asked_for(seen))
                if yields:
                    yields -= 1
                    _yield()
                else:
                    time.sleep(nap)
                    nap = min(2 * nap, _NAP)
            self._held = word
        finally:
            self.waited += time.monotonic() - started

    def _took_over(self, seen: int, word: int) -> bool:
        """Take the lock over if the holder in ``seen`` is proven dead. Returns whether it was
        taken."""
        mark = owner.mark_of(seen)
        if not mark or mark == self.mark or not owner.died(self._fd, mark):
            return False
        try:
            # We have its mark now, so no new owner begins to use it: the word is the dead one's.
            what = f"process {owner.process_of(mark)} died while it held the lock"
            return self._swapped(seen, word, what)
        finally:
            owner.release(self._fd, mark)

    def _swapped(self, seen: int, word: int, what: str) -> bool:
        """Swap the lock from the dead holder of ``seen`` to ``word``, and empty the bus if that
        holder may have been writing. Returns False if the lock has changed hands meanwhile."""
        wrote = owner.is_writing(seen)
        if wrote:
            word |= owner.WRITING << 32  # we write as well now, should we die too
        if self._free(self._words, WORD, seen, word) != seen:
            return False
        self._held = word
        self.dead_holders += 1
        if wrote:
            empty(self._mem, self._data, self._header_size)
            self._tell(
                f"{self._name}: {what}, and may have been writing: the lock is taken over, the bus "
                "emptied; readers lose what they had not read"
            )
        else:
            self._tell(f"{self._name}: {what}, for reading; the lock is taken over")
        return True

    def _holder(self, seen: int) -> str:
        mark = owner.mark_of(seen)
        if not mark:
            return (
                "by a process that leaves no mark, as NetBSD's rump kernels, so nobody can tell "
                "whether it lives; if it is dead, say so: xennet shmif unlock --dead"
            )
        if mark == self.mark:
            return "by this process itself"
        return f"by process {owner.process_of(mark)}, which lives"

    def declare_dead(self, patience: float = 1.0) -> str:
        """Free a lock that is held without a mark, because the user says that its holder is dead.

        Returns a phrase that says what was done. Raises BusError if the holder is one whose mark
        shows that it lives, or if the bus is in use: any change within ``patience`` seconds proves
        life.
        """
        before = self._moves()
        until = time.monotonic() + patience
        word = owner.held_by(self.mark, True)
        over = False
        while not over:
            over = time.monotonic() >= until  # the last look comes after the time, not before
            seen = self._take(self._words, word, 0)
            if seen == LOCK_UNLOCKED:
                self._held = word
                self.release()
                return "is free"
            if self._took_over(seen, word):
                self.release()
                return "was taken from a dead process"
            if owner.mark_of(seen):
                raise BusError(f"{self._name}: not unlocked: it is held {self._holder(seen)}")
            if self._moves() != before:
                raise BusError(f"{self._name}: not unlocked: the bus is in use, it moves")
            if not over:
                time.sleep(_NAP)
        what = "a process without a mark was declared dead while it held the lock"
        if not self._swapped(LOCK_LOCKED, word, what):
            raise BusError(f"{self._name}: not unlocked: its holder has changed")
        self.release()
        return "was taken from a process declared dead"

    def _moves(self) -> tuple[int, ...]:
        """The words of struct shmif_mem that change when frames are written."""
        return tuple(self._mem[1 : SHMIF_MEM.size // 8 - 1])
