"""The harness entry: arbitrary bytes as a tx ring page, one whole backend pass over them.

For fuzzers and conformance tests. Everything that a pass of the hardened backend does is done, by
the same kernels: requests are read and checked, payload is copied through the grant table with all
of the hypervisor's checks, responses are written and published, the next event is asked for. The
ring page, the guest's grant table and the guest's pages may hold any bytes at all; no exception
leaves a pass, whatever they are.

    poller = PagePoller()
    poller.ring_page[:] = fuzzed            # 4096 bytes
    poller.grant_table[:512] = fuzzed_too   # grant entries (version 1), if one likes
    poller.poll()                           # the verdict: 0, or why the frontend was given up
    poller.packets()                        # what the host would have got

This file is no driver: it stands outside the machine and knows the hypervisor's copy kernel.
"""

from __future__ import annotations

from array import array

from attrs import frozen

from xennet.abi.grant_table import GTF_permit_access
from xennet.abi.words import COPY_STRIDE, TX_SLOTS
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine import current
from xennet.frames import CSUM_BLANK
from xennet.gnttab.copy import grant_copy
from xennet.hypervisor import Machine
from xennet.kernel import Bytes, U32Words, Vector
from xennet.netback.guest_tx import (
    MAX_OPS,
    R_CREDIT,
    R_FLAGS_SEEN,
    R_OPS,
    R_PACKETS,
    R_VERDICT,
    RESULTS,
    UNLIMITED,
    gather,
    rearm,
    settle,
)
from xennet.netback.tx_checksum import judge_checksums
from xennet.netback.verdict import FrontendError, tx_error
from xennet.netback.vif_words import new_vif_words
from xennet.ring import BACK_REQ_CONS, BACK_RSP_PROD_PVT
from xennet.trace import silent_log

GUEST = 1
HOST = 0

#: Frames of a machine that has two domains of one table frame each, a ring, pages and a stage.
_FRAMES = 1024
#: Payload pages of the guest, and the first of the references that grant them at the start.
PAGES = 64
FIRST_GREF = 8

# Where each private array lies in the scratch words.
_OPS = 0
_OP_SLOT = _OPS + MAX_OPS * COPY_STRIDE
_OP_PACKET = _OP_SLOT + MAX_OPS
_RSP = _OP_PACKET + MAX_OPS
_GREFS = _RSP + TX_SLOTS
_SPANS = _GREFS + TX_SLOTS
_OFFSET = _SPANS + TX_SLOTS
_LENGTH = _OFFSET + TX_SLOTS
_FLAGS = _LENGTH + TX_SLOTS
_GSO_SIZE = _FLAGS + TX_SLOTS
_GSO_TYPE = _GSO_SIZE + TX_SLOTS
_HASH_INFO = _GSO_TYPE + TX_SLOTS
_HASH_VALUE = _HASH_INFO + TX_SLOTS
_PVT = _HASH_VALUE + TX_SLOTS
_SCRATCH = _PVT + 2


def poll_ring(
    start: int,
    max_packets: int,
    log: Vector,
    ring: U32Words,
    stage_frame: int,
    scratch: U32Words,
    words: Vector,
    res: Vector,
    dom_rows: U32Words,
    owner: U32Words,
    u8: Bytes,
    u16: U32Words,
    u32: U32Words,
) -> int:
    """A kernel: one pass over ``ring`` by a backend whose indices are both ``start``.

    ``scratch``: _SCRATCH private words; ``words``: of the vif; ``dom_rows`` ... ``u32``: as
    grant_copy takes them. Returns gather's verdict.
    """
    ops = scratch[_OPS:_OP_SLOT]
    op_slot = scratch[_OP_SLOT:_OP_PACKET]
    op_packet = scratch[_OP_PACKET:_RSP]
    rsp = scratch[_RSP:_GREFS]
    offset = scratch[_OFFSET:_LENGTH]
    length = scratch[_LENGTH:_FLAGS]
    flags = scratch[_FLAGS:_GSO_SIZE]
    gso_size = scratch[_GSO_SIZE:_GSO_TYPE]
    gso_type = scratch[_GSO_TYPE:_HASH_INFO]
    hash_info = scratch[_HASH_INFO:_HASH_VALUE]
    hash_value = scratch[_HASH_VALUE:_PVT]
    pvt = scratch[_PVT:_SCRATCH]
    pvt[BACK_REQ_CONS] = start
    pvt[BACK_RSP_PROD_PVT] = start
    verdict = gather(
        max_packets,
        log,
        ring,
        pvt,
        GUEST,
        ops,
        op_slot,
        op_packet,
        stage_frame,
        rsp,
        scratch[_GREFS:_SPANS],
        scratch[_SPANS:_OFFSET],
        words,
        offset,
        length,
        flags,
        gso_size,
        gso_type,
        hash_info,
        hash_value,
        res,
    )
    grant_copy(ops, res[R_OPS], HOST, dom_rows, owner, u8, u16, u32)
    settle(
        log,
        ring,
        pvt,
        ops,
        op_slot,
        op_packet,
        rsp,
        offset,
        length,
        flags,
        gso_size,
        gso_type,
        hash_info,
        hash_value,
        res,
    )
    if res[R_FLAGS_SEEN] & CSUM_BLANK:
        judge_checksums(
            u8[stage_frame << PAGE_SHIFT :],
            u32[stage_frame << PAGE_SHIFT >> 2 :],
            offset,
            length,
            flags,
            gso_size,
            gso_type,
            hash_info,
            hash_value,
            res,
        )
    rearm(ring, pvt)
    return verdict


@frozen
class PolledPacket:
    """A packet that the host would have got; ``flags`` as in xennet.frames."""

    data: bytes
    flags: int
    gso_size: int
    gso_type: int


class PagePoller:
    """A guest's memory for anybody to write, and a backend that looks at it.

    ``ring_page``: 4096 writable bytes, the tx ring. ``grant_table``: the guest's table, 4096 bytes
    of struct grant_entry_v1. ``pages``: PAGES payload pages, which references FIRST_GREF and up
    grant to the backend at the start. All of it belongs to domain 1; a canary domain 2 exists, and
    nothing may ever change its memory.
    """

    def __init__(self) -> None:
        self._machine = machine = Machine(_FRAMES, max_grant_frames=1)
        host, guest = machine.create_domain(HOST), machine.create_domain(GUEST)
        machine.create_domain(2)
        table = guest.table_pages(guest.setup_table(GUEST, 1)[1][0], 1)
        ring, payload = guest.alloc_pages(1), guest.alloc_pages(PAGES)
        self._stage = host.alloc_pages(TX_SLOTS)
        self.ring_page, self.grant_table, self.pages = ring.u8, table.u8, payload.u8
        for i in range(PAGES):
            table.u32[2 * (FIRST_GREF + i) + 1] = payload.first + i
            table.u32[2 * (FIRST_GREF + i)] = GTF_permit_access | HOST << 16

        engine = current()
        view = engine.view
        self.res = array("q", bytes(8 * RESULTS))
        self.res[R_CREDIT] = UNLIMITED
        self.words = new_vif_words()
        self._scratch = memoryview(bytearray(4 * _SCRATCH)).cast("I")
        self._kernel = engine.kernel(poll_ring)
        self._args = (
            *(view(silent_log()), view(ring.u32), self._stage.first),
            *(view(self._scratch), view(self.words), view(self.res)),
            *machine.grant_tables.copy_args,
        )

    def poll(self, start: int = 0, max_packets: int = TX_SLOTS) -> int:
        """One pass with req_cons = rsp_prod_pvt = ``start``; the verdict (guest_tx, 0 is fine)."""
        return self._kernel(start, max_packets, *self._args)

    def error(self) -> FrontendError | None:
        """What the last pass gave the frontend up for, with its evidence; None if it did not."""
        return tx_error(self.res) if self.res[R_VERDICT] else None

    def packets(self) -> list[PolledPacket]:
        """The packets of the last pass."""
        words, found = self._scratch, []
        for i in range(self.res[R_PACKETS]):
            at, size = words[_OFFSET + i], words[_LENGTH + i]
            data = bytes(self._stage.u8[at : at + size])
            more = (words[_FLAGS + i], words[_GSO_SIZE + i], words[_GSO_TYPE + i])
            found.append(PolledPacket(data, *more))
        return found

    def close(self) -> None:
        """Give the memory back."""
        self._machine.close()


def poll_page(ring_page: bytes, grant_table: bytes = b"", *, start: int = 0) -> list[PolledPacket]:
    """One pass over ``ring_page`` (up to 4096 bytes) in a machine of its own; its packets.

    ``grant_table``, if given, overwrites the beginning of the guest's table. For many pages make
    one :class:`PagePoller` and reuse it.
    """
    poller = PagePoller()
    try:
        poller.ring_page[: len(ring_page)] = ring_page[:PAGE_SIZE]
        poller.grant_table[: len(grant_table)] = grant_table[:PAGE_SIZE]
        poller.poll(start)
        return poller.packets()
    finally:
        poller.close()
