"""The 2-level ABI: a pending bit and a mask bit per port, and a selector of non-empty words.

Everything lies in the domain's shared-info page (xen/xen.h, struct shared_info), where the guest
can write anything. The hypervisor keeps none of its own state in these bits, so no value of them
can harm another domain.

Both sides change the same words, so each change is one atomic operation, and their order is what
keeps events from getting lost (xen 4.17 common/event_2l.c, Linux 6.1 events_2l.c): Xen sets the
pending bit, then the selector, then the upcall flag; the guest clears them the other way round and
looks again at what Xen may have set meanwhile.
"""

from __future__ import annotations

from xennet.abi.codec import layout
from xennet.abi.event_channel import EVTCHN_2L_NR_CHANNELS
from xennet.abi.xen import VCPU_INFO, XEN_LEGACY_MAX_VCPUS, shared_info
from xennet.engine.choice import shared
from xennet.engine.kernel import alone, fetch_and, fetch_or
from xennet.memory import PageRun

_WORD_BITS = 64
_SHARED_INFO = layout(shared_info)
_PENDING = _SHARED_INFO["evtchn_pending"][0] // 8
_MASK = _SHARED_INFO["evtchn_mask"][0] // 8
_NR_WORDS = _SHARED_INFO["evtchn_pending"][1] // 8
_UPCALL_PENDING = VCPU_INFO.offsets["evtchn_upcall_pending"]
_SELECTOR = VCPU_INFO.offsets["evtchn_pending_sel"] // 8
_VCPU_BYTES = VCPU_INFO.size
_VCPU_WORDS = VCPU_INFO.size // 8


class TwoLevelBits:
    """The event bits of a domain with ``vcpus`` (1..32) virtual CPUs.

    :meth:`set_pending`, :meth:`clear_pending`, :meth:`unmask`, :meth:`is_pending` and
    :meth:`is_masked` are Xen's side (``evtchn_port_ops_2l``); :meth:`mask`, :meth:`mask_all` and
    :meth:`take` are what the guest does with its own page, before and in its upcall. A port is
    *deliverable* while it is pending and not masked. Ports have no priorities here, and a closed
    one is free at once.
    """

    abi = "2l"
    nr_ports = EVTCHN_2L_NR_CHANNELS
    prioritised = False

    def __init__(self, page: PageRun, vcpus: int) -> None:
        if not 1 <= vcpus <= XEN_LEGACY_MAX_VCPUS:
            raise ValueError(f"a shared-info page describes 1..32 vCPUs, not {vcpus}")
        #: The domain's shared-info page.
        self.page = page
        self._vcpus = vcpus
        self._u8 = shared(page.u8, "shared info")
        self._u64 = shared(page.u64, "shared info")

    def __repr__(self) -> str:
        return f"<TwoLevelBits {self._vcpus} vCPUs>"

    def set_pending(self, port: int, vcpu: int) -> bool:
        """Set the pending bit. Returns True when that made the port deliverable
        (evtchn_2l_set_pending)."""
        u64, word, bit = self._u64, port // _WORD_BITS, 1 << port % _WORD_BITS
        if fetch_or(u64, _PENDING + word, bit) & bit:
            return False
        if u64[_MASK + word] & bit:
            return False
        self._select(word, vcpu)
        return True

    def clear_pending(self, port: int) -> None:
        """Drop an event of a port that is closed before the guest has taken it."""
        word = port // _WORD_BITS
        fetch_and(self._u64, _PENDING + word, ~(1 << port % _WORD_BITS))

    def unmask(self, port: int, vcpu: int) -> bool:
        """Clear the mask bit. Returns True when that made the port deliverable
        (evtchn_2l_unmask)."""
        u64, word, bit = self._u64, port // _WORD_BITS, 1 << port % _WORD_BITS
        if not fetch_and(u64, _MASK + word, ~bit) & bit:
            return False
        if not u64[_PENDING + word] & bit:
            return False
        self._select(word, vcpu)
        return True

    def is_pending(self, port: int) -> bool:
        """Whether the pending bit is set."""
        return bool(self._u64[_PENDING + port // _WORD_BITS] >> port % _WORD_BITS & 1)

    def is_masked(self, port: int) -> bool:
        """Whether the mask bit is set."""
        return bool(self._u64[_MASK + port // _WORD_BITS] >> port % _WORD_BITS & 1)

    def is_busy(self, port: int) -> bool:
        """False: nothing of a closed port is left."""
        return False

    def is_settled(self, port: int, vcpu: int) -> bool:
        """Whether nothing is left of an event of ``port`` that is sent and taken now: it is not
        masked, no port of its word is pending, and no upcall."""
        word = port // _WORD_BITS
        return not (
            self.is_masked(port)
            or self._deliverable(word)
            or self._u64[_PENDING + word] >> port % _WORD_BITS & 1
            or any(self._u64[_SELECTOR + each * _VCPU_WORDS] for each in range(self._vcpus))
            or any(self._u8[_UPCALL_PENDING + each * _VCPU_BYTES] for each in range(self._vcpus))
        )

    def pass_by(self, port: int, vcpu: int) -> bool:
        """Whether an event of ``port`` that is set and taken at once leaves nothing
        (:meth:`is_settled`), and only this process could see it come."""
        return alone(self._u64) and self.is_settled(port, vcpu)

    def is_behind(self, port: int, other: int) -> bool:
        """False: all ports are equal."""
        return False

    def mask(self, port: int) -> None:
        """Hold back the events of one port, for the guest."""
        fetch_or(self._u64, _MASK + port // _WORD_BITS, 1 << port % _WORD_BITS)

    def mask_all(self) -> None:
        """Hold back the events of all ports, as a guest does first of all (Linux xen_init_IRQ)."""
        for word in range(_MASK, _MASK + _NR_WORDS):
            self._u64[word] = (1 << _WORD_BITS) - 1

    def take(self, port: int, *, masked: bool = False) -> bool:
        """Clear the pending bit of ``port`` in the guest's upcall. Returns whether the port was
        deliverable; False for a number that has no bits.

        With ``masked`` the mask bit does not matter (SCHEDOP_poll). A word in which no port is
        deliverable any more leaves the selectors, and a vCPU with an empty selector has no upcall
        pending.
        """
        if not 0 <= port < self.nr_ports:
            return False
        u64, word, bit = self._u64, port // _WORD_BITS, 1 << port % _WORD_BITS
        held = 0 if masked else u64[_MASK + word]
        taken = bool(u64[_PENDING + word] & ~held & bit)
        if taken:
            taken = bool(fetch_and(u64, _PENDING + word, ~bit) & bit)
        if not self._deliverable(word):
            self._deselect(word)
        return taken

    def _deliverable(self, word: int) -> bool:
        """Whether any port of a word is deliverable."""
        return bool(self._u64[_PENDING + word] & ~self._u64[_MASK + word])

    def _deselect(self, word: int) -> None:
        """Take ``word``, in which the guest found no port deliverable, out of the selectors."""
        u64 = self._u64
        for vcpu in range(self._vcpus):
            selector = _SELECTOR + vcpu * _VCPU_WORDS
            if not fetch_and(u64, selector, ~(1 << word)) & ~(1 << word):
                upcall = _UPCALL_PENDING + vcpu * _VCPU_BYTES
                fetch_and(self._u8, upcall, 0)
                if u64[selector]:
                    self._u8[upcall] = 1
        if self._deliverable(word):
            # It came between the look and this: its selector bit may be one of those cleared.
            for vcpu in range(self._vcpus):
                self._select(word, vcpu)

    def _select(self, word: int, vcpu: int) -> None:
        fetch_or(self._u64, _SELECTOR + vcpu * _VCPU_WORDS, 1 << word)
        self._u8[_UPCALL_PENDING + vcpu * _VCPU_BYTES] = 1
