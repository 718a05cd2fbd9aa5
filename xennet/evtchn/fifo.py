"""The FIFO ABI: an event word per port, linked to queues of 16 priorities for each vCPU.

The event words lie in pages that the guest gave with EVTCHNOP_expand_array, 1024 words each; the
heads of a vCPU's queues and its ready word in the control block that it gave with
EVTCHNOP_init_control (xen/event_channel.h). The tails are the hypervisor's alone.

    control block: ready (bit p: queue p is not empty), head[p] -> port -> LINK -> port -> 0

All of that is guest memory and can hold anything. The hypervisor reads it only to decide whether to
link a port, follows no link, and uses no number that it reads as an index; the guest's walk ends
at a link to nowhere and takes every link away that it follows, so a loop is walked once.

Both sides change the same event words, so each change is one atomic operation (xen 4.17
common/event_fifo.c, Linux 6.1 events_fifo.c): bits are set and cleared each by itself, and a link
is swapped in only while the word still says LINKED.

What differs from the 2-level ABI in the eyes of drivers: a closed port whose word is still linked
is busy, its number is not handed out before the guest's upcall has taken it off the queue.
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.codec import layout
from xennet.abi.event_channel import (
    EVTCHN_FIFO_BUSY,
    EVTCHN_FIFO_LINK_MASK,
    EVTCHN_FIFO_LINKED,
    EVTCHN_FIFO_MASKED,
    EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_NR_CHANNELS,
    EVTCHN_FIFO_PENDING,
    EVTCHN_FIFO_PRIORITY_DEFAULT,
    EVTCHN_FIFO_WORDS_PER_PAGE,
    evtchn_fifo_control_block,
)
from xennet.abi.xen import PAGE_SIZE, VCPU_INFO
from xennet.engine.choice import shared
from xennet.engine.kernel import alone, always_alone, compare_and_swap, fetch_and, fetch_or
from xennet.memory import PageRun

#: A control block may start here at most, lest it crosses the page's end.
LAST_OFFSET: int = PAGE_SIZE - evtchn_fifo_control_block.sizeof()
#: The number of array pages for all ports.
MAX_ARRAY_PAGES = EVTCHN_FIFO_NR_CHANNELS // EVTCHN_FIFO_WORDS_PER_PAGE

_PENDING = 1 << EVTCHN_FIFO_PENDING
_MASKED = 1 << EVTCHN_FIFO_MASKED
_LINKED = 1 << EVTCHN_FIFO_LINKED
_BUSY = 1 << EVTCHN_FIFO_BUSY
_LINK = EVTCHN_FIFO_LINK_MASK
_DEFAULT = EVTCHN_FIFO_PRIORITY_DEFAULT
_PER_PAGE = EVTCHN_FIFO_WORDS_PER_PAGE
#: A bit for each queue that there is.
_QUEUES = (1 << EVTCHN_FIFO_MAX_QUEUES) - 1

_READY = layout(evtchn_fifo_control_block)["ready"][0] // 4
_HEAD = layout(evtchn_fifo_control_block)["head"][0] // 4
_BLOCK_WORDS = evtchn_fifo_control_block.sizeof() // 4
_UPCALL_PENDING = VCPU_INFO.offsets["evtchn_upcall_pending"]
_VCPU_BYTES = VCPU_INFO.size

#: A port, its event word (an index into the page), and its vCPU's control block.
_Passed: TypeAlias = "tuple[int, memoryview, int, memoryview]"

#: Words of an array page in which every port is masked, as a guest has to hand it over.
ALL_MASKED = _MASKED.to_bytes(4, "little") * _PER_PAGE


class FifoBits:
    """The event words and queues of a domain with ``vcpus`` virtual CPUs.

    ``shared_info`` is the domain's page in which its upcalls are announced. Ports without an event
    word (the guest did not give enough pages yet) count as masked; their events are saved.

    :meth:`set_pending`, :meth:`clear_pending`, :meth:`unmask`, :meth:`is_pending`,
    :meth:`is_masked`, :meth:`is_busy` and the growing are Xen's side (``evtchn_port_ops_fifo``);
    :meth:`mask`, :meth:`mask_all` and :meth:`take` are what the guest does with its own pages, as
    Linux does in events_fifo.c.
    """

    abi = "fifo"
    nr_ports = EVTCHN_FIFO_NR_CHANNELS

    def __init__(self, shared_info: PageRun, vcpus: int) -> None:
        #: Whether a port ever had another priority than the default.
        self.prioritised = False
        #: The guest's pages in use; a page is listed as often as it was given.
        self.frames: list[int] = []
        self._shared_info = shared(shared_info.u8, "shared info")
        self._blocks: list[memoryview | None] = [None] * vcpus
        self._tails = [[0] * EVTCHN_FIFO_MAX_QUEUES for _ in range(vcpus)]
        self._pages: list[memoryview] = []
        self._nr_words = 0
        self._priorities: dict[int, int] = {}
        # Of the event that passed by last, if none was linked since and the domain has one vCPU.
        self._passed: _Passed | None = None
        # Where a port was linked last (Xen's fifo_lastq, all zero at first).
        self._last_queue: dict[int, tuple[int, int]] = {}
        self._saved: set[int] = set()

    def __repr__(self) -> str:
        return f"<FifoBits {self.nr_array_pages} pages of event words>"

    # What the hypercalls give

    @property
    def nr_array_pages(self) -> int:
        """The number of array pages, 0..128."""
        return len(self._pages)

    def has_control_block(self, vcpu: int) -> bool:
        """Whether the guest gave a control block for this vCPU."""
        return self._blocks[vcpu] is not None

    def add_control_block(self, vcpu: int, page: PageRun, offset: int) -> None:
        """Use the control block at byte ``offset`` (8-aligned, at most LAST_OFFSET) of a page."""
        self.frames.append(page.first)
        words = page.u32[offset // 4 : offset // 4 + _BLOCK_WORDS]
        self._blocks[vcpu] = shared(words, "control block")
        self._passed = None

    def add_array_page(self, page: PageRun) -> list[int]:
        """Use a page for the next 1024 ports.

        Returns those of them that became pending while they had no event word; the caller makes
        them pending now.
        """
        self.frames.append(page.first)
        self._pages.append(shared(page.u32, "event array"))
        self._nr_words += _PER_PAGE
        raised = sorted(port for port in self._saved if port < self._nr_words)
        self._saved.difference_update(raised)
        return raised

    def save(self, port: int) -> None:
        """Remember that a port is pending until it has an event word."""
        self._saved.add(port)

    def set_priority(self, port: int, priority: int) -> None:
        """Future events of ``port`` go to the queue ``priority`` (0 first, 15 last)."""
        self._priorities[port] = priority
        self._passed = None
        self.prioritised = self.prioritised or priority != _DEFAULT

    # Xen's side of the words

    def set_pending(self, port: int, vcpu: int) -> bool:
        """Set PENDING. Returns True when the port was linked to a queue (evtchn_fifo_set_pending).

        A port that is masked is linked when it is unmasked; one that is linked already is on its
        way. Without a control block of the vCPU nothing is linked: the guest must not unmask a port
        before it has given one.
        """
        if port >= self._nr_words:
            self._saved.add(port)
            return False
        words, at = self._pages[port // _PER_PAGE], port % _PER_PAGE
        word = fetch_or(words, at, _PENDING)
        block = self._blocks[vcpu]
        if block is None or word & _MASKED or fetch_or(words, at, _LINKED) & _LINKED:
            return False
        # The word says LINKED by now: append the port to its queue.
        self._passed = None
        priority = self._priorities.get(port, _DEFAULT)
        old_vcpu, old_priority = self._last_queue.get(port, (0, 0))
        if self._tails[old_vcpu][old_priority] == port:
            # As the tail of a queue it would look linked there, though that queue is empty: what
            # came next there would be appended to the new queue.
            self._tails[old_vcpu][old_priority] = 0
        self._last_queue[port] = (vcpu, priority)
        tails = self._tails[vcpu]
        tail = tails[priority]
        if not tail or not self._set_link(tail, port):
            block[_HEAD + priority] = port
            if not fetch_or(block, _READY, 1 << priority) >> priority & 1:
                self._shared_info[_UPCALL_PENDING + vcpu * _VCPU_BYTES] = 1
        tails[priority] = port
        return True

    def clear_pending(self, port: int) -> None:
        """Drop the event and the priority of a port that is closed. The port stays linked; the
        guest takes ports off its queues and ignores those that are not pending."""
        self._saved.discard(port)
        self._priorities.pop(port, None)
        if port < self._nr_words:
            fetch_and(self._pages[port // _PER_PAGE], port % _PER_PAGE, ~_PENDING)

    def unmask(self, port: int, vcpu: int) -> bool:
        """Clear MASKED. Returns True when the port was pending and is linked now
        (evtchn_fifo_unmask)."""
        if port >= self._nr_words:
            return False
        fetch_and(self._pages[port // _PER_PAGE], port % _PER_PAGE, ~_MASKED)
        return self.is_pending(port) and self.set_pending(port, vcpu)

    def is_pending(self, port: int) -> bool:
        """Whether PENDING is set."""
        return bool(self._word(port) & _PENDING)

    def is_masked(self, port: int) -> bool:
        """Whether MASKED is set."""
        return bool(self._word(port) & _MASKED)

    def is_busy(self, port: int) -> bool:
        """Whether the port is still linked to a queue, so that its number cannot be given to
        another."""
        return bool(self._word(port) & _LINKED)

    def is_settled(self, port: int, vcpu: int) -> bool:
        """Whether nothing is left of an event of ``port`` that is sent and taken now, but which
        port was the first and which the last of its queue: no queue has any, the port was linked to
        no other one before, and no port ever had a priority."""
        if self.prioritised or self._blocks[vcpu] is None or self._word(port):
            return False
        tail = self._tails[vcpu][_DEFAULT]
        if tail != port and self._word(tail) & _LINKED:
            return False
        if self._shared_info[_UPCALL_PENDING + vcpu * _VCPU_BYTES]:
            return False
        for block in self._blocks:
            if block is not None and block[_READY]:
                return False
        queue = vcpu, _DEFAULT
        return self._last_queue.get(port, queue) == queue

    def pass_by(self, port: int, vcpu: int) -> bool:
        """Leave what an event of ``port`` leaves that is set (:meth:`set_pending`) and taken at
        once. Returns False, with nothing changed, where something is left of another one
        (:meth:`is_settled`), or others than this process could see it come."""
        if self._passed is not None:
            passed, words, at, control = self._passed
            if passed == port:  # only the guest can have changed anything, in its pages
                if words[at] or control[_READY] or self._shared_info[_UPCALL_PENDING]:
                    return False
                control[_HEAD + _DEFAULT] = port
                return True
        block = self._blocks[vcpu]
        if block is None or not alone(block) or not self.is_settled(port, vcpu):
            return False
        block[_HEAD + _DEFAULT] = self._tails[vcpu][_DEFAULT] = port
        self._last_queue[port] = vcpu, _DEFAULT
        self._passed = None
        if always_alone(block) and len(self._blocks) == 1:
            self._passed = port, self._pages[port // _PER_PAGE], port % _PER_PAGE, block
        return True

    def is_behind(self, port: int, other: int) -> bool:
        """Whether ``port`` was linked to a later queue of the same vCPU than ``other``."""
        vcpu, priority = self._last_queue.get(port, (0, 0))
        other_vcpu, other_priority = self._last_queue.get(other, (0, 0))
        return vcpu == other_vcpu and priority > other_priority

    def _word(self, port: int) -> int:
        if port >= self._nr_words:
            return _MASKED
        return self._pages[port // _PER_PAGE][port % _PER_PAGE]

    def _set_link(self, tail: int, port: int) -> bool:
        """Link the word of ``tail`` to ``port``. Returns False when the guest has taken the tail
        off its queue (which is empty then).

        The guest may mask, unmask and take ports meanwhile; BUSY, from the second try on, keeps it
        from unmasking (evtchn_fifo_set_link). A guest that never stops changing the word loses its
        event.
        """
        words, at = self._pages[tail // _PER_PAGE], tail % _PER_PAGE
        word = words[at]
        for busy in (0, _BUSY, _BUSY, _BUSY, _BUSY):
            if not word & _LINKED:
                if busy:
                    fetch_and(words, at, ~_BUSY)
                return False
            seen = compare_and_swap(words, at, word, word & ~(_BUSY | _LINK) | port)
            if seen == word:
                return True
            word = seen if busy else fetch_or(words, at, _BUSY) | _BUSY
        fetch_and(words, at, ~_BUSY)
        return True

    # The guest's side

    def mask(self, port: int) -> None:
        """Hold back the events of one port, for the guest; a port without a word is masked
        already."""
        if port < self._nr_words:
            fetch_or(self._pages[port // _PER_PAGE], port % _PER_PAGE, _MASKED)

    def mask_all(self) -> None:
        """Hold back the events of all ports, for the guest."""
        for words in self._pages:
            for at in range(_PER_PAGE):
                fetch_or(words, at, _MASKED)

    def take(self, port: int, *, masked: bool = False) -> bool:
        """Clear PENDING of ``port`` in the guest's upcall. Returns whether the port was
        deliverable.

        With ``masked`` the MASKED bit does not matter (SCHEDOP_poll). The upcall first takes all
        ports off the queues of its vCPUs, in the order of priority; those that are pending are
        still to be handled.
        """
        for vcpu, block in enumerate(self._blocks):
            if block is not None and block[_READY]:
                self._take_off_queues(vcpu, block)
        if not 0 <= port < self._nr_words:
            return False
        words, at = self._pages[port // _PER_PAGE], port % _PER_PAGE
        held = 0 if masked else _MASKED
        if words[at] & (_PENDING | held) != _PENDING:
            return False
        return bool(fetch_and(words, at, ~_PENDING) & _PENDING)

    def _take_off_queues(self, vcpu: int, block: memoryview) -> None:
        """Empty all ready queues of a vCPU (Linux __evtchn_fifo_handle_events)."""
        # In this order: a queue that becomes ready behind it announces an upcall of its own.
        self._shared_info[_UPCALL_PENDING + vcpu * _VCPU_BYTES] = 0
        ready = fetch_and(block, _READY, 0)
        ready &= _QUEUES
        while ready:
            lowest = ready & -ready
            ready ^= lowest
            port = block[_HEAD + lowest.bit_length() - 1]
            while 0 < port < self._nr_words:
                words, at = self._pages[port // _PER_PAGE], port % _PER_PAGE
                port = fetch_and(words, at, ~(_LINKED | _LINK)) & _LINK
