"""The target ``ctrl``: the backend answers the requests of a control ring page."""

from __future__ import annotations

from array import array
from functools import cache

from xennet.abi.netif import GREF
from xennet.abi.words import REQ_PROD, RSP_PROD
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.counted_plain import CountedCode
from xennet.flow import hash_config
from xennet.flow.hash_config import HashConfig
from xennet.fuzz.compiled_loop import HALVES_PER_PAGE, apply_pokes, size_class, undo_pokes
from xennet.fuzz.record_target import PlainTarget
from xennet.fuzz.ring_mutations import CTRL_REQUESTS, NR_POKES, SLOTS, START
from xennet.fuzz.target import Finding
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.netback import control_messages, control_ring, gref_mappings
from xennet.netback.control_ring import ControlRing
from xennet.netback.poll_page import FIRST_GREF, GUEST, HOST, PAGES, PolledGuest
from xennet.netback.verdict import FrontendError
from xennet.ring import MASK32
from xennet.vif.counters import BackendCounters
from xennet.xenstored.service import XenStoreService

_CLASSES = 10
_STATES = 2 + 2 * _CLASSES
#: Static grants that a queue may map.
_STATIC_GREFS = 8
_QUEUES = 2
#: The reference of the ring page, behind those of the guest's pages.
_RING_REF = FIRST_GREF + PAGES
#: What is in the guest's pages: queues of a hash mapping; entries of lists of static grants.
_MAPPING = b"".join((i % _QUEUES).to_bytes(4, "little") for i in range(PAGE_SIZE // 4))
_LISTS = b"".join(GREF.pack(FIRST_GREF + i % 8, i & 1, 0) for i in range(PAGE_SIZE // GREF.size))


@cache
def _counted() -> CountedCode:
    return CountedCode([control_ring, control_messages, gref_mappings, hash_config], _STATES)


class CtrlGuest(PolledGuest):
    """A guest with a control ring, and a host that serves it."""

    def __init__(self) -> None:
        super().__init__(1024)
        words = self.table.u32
        words[2 * _RING_REF + 1] = self._ring.first
        words[2 * _RING_REF] = words[2 * FIRST_GREF]
        store = XenStoreService(self.machine).connect(self._host, "ctrl")
        self.kernel = GuestKernel(self._host, store)
        self.port = self._guest.alloc_unbound(GUEST, HOST)


class CtrlTarget(PlainTarget):
    """Any page, start index, grant entries, contents of pages; hash messages and static grants."""

    name = "ctrl"
    page = "ctrl page"
    kind = CTRL_REQUESTS
    unit_executions = 2000

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(_counted())
        self._guest = guest = CtrlGuest()
        pages = guest.pages
        for page in range(PAGES):
            begin = page * PAGE_SIZE
            pages[begin : begin + PAGE_SIZE] = _LISTS if page & 1 else _MAPPING
        self._filled = bytes(pages)
        self._ring = ControlRing(
            guest.kernel,
            GUEST,
            _RING_REF,
            guest.port,
            HashConfig(),
            on_fatal=lambda _: None,
            counters=BackendCounters(),
            queues=_QUEUES,
            static_grefs=_STATIC_GREFS,
            late_eoi=False,
        )
        # The ring stays mapped, and with it its entry marked as in use.
        self._marked = bytes(guest.table.u8)
        self._places = (
            guest.table.first * HALVES_PER_PAGE,
            guest.payload.first * HALVES_PER_PAGE,
            array("q", bytes(16 * NR_POKES)),
        )
        self._finding: Finding | None = None

    def execute_record(self) -> None:
        guest, loop, ring = self._guest, self.loop, self._ring.ring
        guest.pages[:] = self._filled
        guest.ring_page[:] = loop.record8[:PAGE_SIZE]
        start = loop.record[START]
        ring.req_cons = ring.rsp_prod_pvt = start
        self._ring.config.reset()
        loop.hits[:] = bytes(len(loop.hits))
        ahead = (loop.record[REQ_PROD] - start) & MASK32
        apply_pokes(loop.record, guest.memory.u16, *self._places)
        fatal = 0
        self._finding = None
        try:
            self._ring.poll()
        except FrontendError:
            fatal = 1
        except Exception as error:
            self._finding = Finding("exception", f"{type(error).__name__}: {error}")
        for mapping in self._ring.mappings:
            mapping.clear()
        undo_pokes(guest.memory.u16, self._places[2])
        answered = (ring.rsp_prod_pvt - start) & MASK32
        self.packets = answered
        hits = loop.hits
        hits[self.states + fatal] = 1
        hits[self.states + 2 + size_class(answered, _CLASSES - 1)] = 1
        hits[self.states + 2 + _CLASSES + size_class(ahead, _CLASSES - 1)] = 1
        if self._finding is None:
            self._finding = self._seen(fatal, answered, ahead)

    def judge(self) -> Finding | None:
        return self._finding

    def _seen(self, fatal: int, answered: int, ahead: int) -> Finding | None:
        """What is wrong with what the pass left behind."""
        guest, ring = self._guest, self._ring.ring
        slots = SLOTS[CTRL_REQUESTS]
        if bool(fatal) != (ahead > ring.nr_ents) or answered != (0 if fatal else ahead):
            return Finding(
                "responses", f"{answered} responses to {ahead} requests in a ring of {slots} slots"
            )
        if not fatal and ahead and guest.ring_page.cast("I")[RSP_PROD] != ring.rsp_prod_pvt:
            return Finding("responses", "rsp_prod is not what was answered")
        if guest.table.u8 != self._marked:
            at = next(i for i, old in enumerate(self._marked) if guest.table.u8[i] != old)
            guest.table.u8[:] = self._marked
            return Finding("leak", f"the entry of reference {at // 8} was changed or stays in use")
        return None

    def close(self) -> None:
        super().close()
        self._ring.disconnect()
        self._guest.close()
