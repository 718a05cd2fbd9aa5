"""The harness entry: arbitrary bytes as a tx ring page, one whole backend pass over them.

For fuzzers and conformance tests. Everything that a pass of the hardened backend does is done, by
the same kernels: requests are read and checked, payload is copied through the grant table with all
of the hypervisor's checks, responses are written and published, the next event is asked for. The
ring page, the guest's grant table and the guest's pages may hold any bytes at all; no exception
leaves a pass, whatever they are.

    poller = PagePoller()
    poller.load(fuzzed)                     # up to 4096 bytes: the tx ring
    poller.grant_table[:512] = fuzzed_too   # grant entries (version 1), optional
    poller.poll()                           # the verdict: 0, or why the frontend was given up
    poller.packets()                        # the packets that the host would have received
    poller.reset()                          # all memory as at the start

This file is no driver: it stands outside the machine and knows the hypervisor's copy kernel.
"""

from __future__ import annotations

from array import array
from typing import TypeAlias

from attrs import frozen

from xennet.abi.grant_table import GTF_permit_access
from xennet.abi.words import COPY_STRIDE, TX_SLOTS
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine.choice import current, shared
from xennet.engine.kernel import Bytes, U32Array, U32Words, Vector
from xennet.frames import CSUM_BLANK
from xennet.gnttab.copy import grant_copy
from xennet.hypervisor import Machine
from xennet.netback.guest_tx import (
    EXTRA_WORDS,
    MAX_OPS,
    R_ERRORS,
    R_FLAGS_SEEN,
    R_OPS,
    R_PACKETS,
    R_VERDICT,
    RESULTS,
    S_CREDIT,
    S_GSO,
    S_HASHES,
    STATES,
    UNLIMITED,
    await_requests,
    put_responses,
    take_requests,
)
from xennet.netback.tx_checksum import judge_checksums
from xennet.netback.verdict import FrontendError, tx_error
from xennet.netback.vif_config import new_vif_config
from xennet.ring import BACK_REQ_CONS, BACK_RSP_PROD_PVT
from xennet.vif.ring_events import silent_log

GUEST = 1
HOST = 0

#: Frames of a machine that has two domains of one table frame each, a ring, pages and a stage.
_FRAMES = 1024
#: Payload pages of the guest, and the first of the references that grant them at the start.
PAGES = 64
FIRST_GREF = 8
#: Bytes of a packet in its repr: the Ethernet header.
_SHOWN = 14

# Where each private array lies in the scratch words.
_OPS = 0
_RSP = _OPS + MAX_OPS * COPY_STRIDE
_GREFS = _RSP + TX_SLOTS
_SPANS = _GREFS + TX_SLOTS
_BEGINS = _SPANS + TX_SLOTS
_EXTRAS = _BEGINS + TX_SLOTS
_OFFSET = _EXTRAS + EXTRA_WORDS
_LENGTH = _OFFSET + TX_SLOTS
_FLAGS = _LENGTH + TX_SLOTS
_GSO_SIZE = _FLAGS + TX_SLOTS
_GSO_TYPE = _GSO_SIZE + TX_SLOTS
_HASH_INFO = _GSO_TYPE + TX_SLOTS
_HASH_VALUE = _HASH_INFO + TX_SLOTS
_PVT = _HASH_VALUE + TX_SLOTS
_SCRATCH = _PVT + 2

#: What grant_copy takes beside its table: the directory, who owns each frame, the arena as bytes,
#: halves and words, and whether only this process has the arena.
Machinery: TypeAlias = "tuple[U32Array, U32Array, Bytes, U32Words, U32Words, int]"


def poll_ring(
    start: int,
    max_packets: int,
    log: Vector,
    page: U32Words,
    stage_frame: int,
    scratch: U32Array,
    vif_config: Vector,
    state: Vector,
    res: Vector,
    machine: Machinery,
) -> int:
    """A kernel: one pass over ``page`` by a backend whose indices are both ``start``.

    ``scratch``: _SCRATCH private words; ``vif_config`` and ``state``: those of take_requests.
    Returns its verdict.
    """
    dom_rows, owner, u8, u16, u32, alone = machine
    ring = (page, scratch[_PVT:_SCRATCH])
    ops = scratch[_OPS:_RSP]
    slots = (
        scratch[_RSP:_GREFS],
        scratch[_GREFS:_SPANS],
        scratch[_SPANS:_BEGINS],
        scratch[_BEGINS:_EXTRAS],
        scratch[_EXTRAS:_OFFSET],
    )
    frames = (
        u8[stage_frame << PAGE_SHIFT :],
        u32[stage_frame << PAGE_SHIFT >> 2 :],
        scratch[_OFFSET:_LENGTH],
        scratch[_LENGTH:_FLAGS],
        scratch[_FLAGS:_GSO_SIZE],
        scratch[_GSO_SIZE:_GSO_TYPE],
        scratch[_GSO_TYPE:_HASH_INFO],
        scratch[_HASH_INFO:_HASH_VALUE],
        scratch[_HASH_VALUE:_PVT],
    )
    scratch[_PVT + BACK_REQ_CONS] = start
    scratch[_PVT + BACK_RSP_PROD_PVT] = start
    verdict = take_requests(
        max_packets, log, ring, GUEST, vif_config, slots, ops, stage_frame, frames, state, res
    )
    grant_copy(ops, res[R_OPS], HOST, dom_rows, owner, u8, u16, u32, alone)
    put_responses(log, ring, slots, ops, frames, res)
    if res[R_FLAGS_SEEN] & CSUM_BLANK:
        judge_checksums(log, slots, frames, res)
    await_requests(ring)
    return verdict


def packet_at(scratch: U32Array, packet: int) -> tuple[int, int]:
    """A kernel: where a packet of the last pass lies in the staging pages, and its length."""
    return scratch[_OFFSET + packet], scratch[_LENGTH + packet]


def forget_pass(scratch: U32Array, state: Vector) -> None:
    """A kernel: take back what the last pass left for the next one, the extra infos of packets."""
    for packet in range(state[S_GSO]):
        scratch[_GSO_SIZE + packet] = scratch[_GSO_TYPE + packet] = 0
    for packet in range(state[S_HASHES]):
        scratch[_HASH_INFO + packet] = 0
    state[S_GSO] = state[S_HASHES] = 0


@frozen
class PolledPacket:
    """A packet that the host would have received; ``flags`` as in xennet.frames."""

    data: bytes
    flags: int
    gso_size: int
    gso_type: int

    def __repr__(self) -> str:
        gso = f", gso_size={self.gso_size}, gso_type={self.gso_type}" if self.gso_size else ""
        start = self.data[:_SHOWN].hex()
        return f"<PolledPacket {len(self.data)} bytes {start}..., flags={self.flags}{gso}>"


class PolledGuest:
    """The memory of a guest, writable from outside, and a host that will read it.

    ``ring_page``: 4096 writable bytes, the tx ring. ``grant_table``: the guest's table, 4096 bytes
    of struct grant_entry_v1. ``pages``: PAGES payload pages, which references FIRST_GREF and up
    grant to the backend at the start; ``table`` and ``payload`` are the same two as runs of pages,
    ``memory`` is the whole ``machine``'s. All of it belongs to domain 1; a canary domain 2 exists,
    and nothing may ever change its memory.
    """

    def __init__(self, nr_frames: int) -> None:
        self.machine = machine = Machine(nr_frames, max_grant_frames=1)
        self.memory = machine.memory
        self._host, self._guest = machine.create_domain(HOST), machine.create_domain(GUEST)
        machine.create_domain(2)
        frames = self._guest.setup_table(GUEST, 1)[1]
        self.table = self._guest.table_pages(frames[0], 1)
        self._ring, self.payload = self._guest.alloc_pages(1), self._guest.alloc_pages(PAGES)
        self.ring_page, self.grant_table = self._ring.u8, self.table.u8
        self.pages = self.payload.u8
        self._grant_pages()

    def load(self, ring_page: bytes, grant_table: bytes | None = None) -> None:
        """Write the tx ring page, and the grant table if one is given.

        Both have up to 4096 bytes; the rest becomes zero. Raises ValueError, with nothing written,
        for more.
        """
        wanted = [(self.ring_page, ring_page, "ring page")]
        if grant_table is not None:
            wanted.append((self.grant_table, grant_table, "grant table"))
        for _, content, what in wanted:
            if len(content) > PAGE_SIZE:
                raise ValueError(f"a {what} has {PAGE_SIZE} bytes, not {len(content)}")
        for view, content, _ in wanted:
            view[:] = bytes(content).ljust(PAGE_SIZE, b"\0")

    def reset(self) -> None:
        """Set all writable memory as at the start: an empty ring, references that grant PAGES
        zeroed pages."""
        self.ring_page[:] = bytes(PAGE_SIZE)
        self.grant_table[:] = bytes(PAGE_SIZE)
        self.pages[:] = bytes(PAGES * PAGE_SIZE)
        self._grant_pages()

    def close(self) -> None:
        """Give the memory back."""
        self.machine.close()

    def _grant_pages(self) -> None:
        words = self.table.u32
        for i in range(PAGES):
            words[2 * (FIRST_GREF + i) + 1] = self.payload.first + i
            words[2 * (FIRST_GREF + i)] = GTF_permit_access | HOST << 16


class PagePoller(PolledGuest):
    """One pass of the hardened backend at a time, over the guest's memory as it is."""

    def __init__(self) -> None:
        super().__init__(_FRAMES)
        self._stage = self._host.alloc_pages(TX_SLOTS)
        engine = current()
        view = engine.view
        self.res = array("q", bytes(8 * RESULTS))
        self._state = array("q", bytes(8 * STATES))
        self._state[S_CREDIT] = UNLIMITED
        self.config = new_vif_config()
        self._scratch = memoryview(bytearray(4 * _SCRATCH)).cast("I")
        self._kernel = engine.kernel(poll_ring)
        #: What :func:`poll_ring` takes behind ``max_packets``.
        self.pass_args = (
            view(silent_log()),
            view(shared(self._ring.u32, "tx ring")),
            self._stage.first,
            view(self._scratch),
            view(self.config),
            view(self._state),
            view(self.res),
            self.machine.grant_tables.copy_args,
        )

    def __repr__(self) -> str:
        return f"<PagePoller {self.res[R_PACKETS]} packets, {self.errors} errors>"

    def poll(self, start: int = 0, max_packets: int = TX_SLOTS) -> int:
        """Make one pass. Returns the verdict: 0, or why the frontend was given up
        (xennet.netback.guest_tx).

        The backend begins at index ``start`` (its req_cons and rsp_prod_pvt): 0 for a new ring, the
        ring's rsp_prod for one that was in use, such as a recorded page. A req_prod that is more
        than 256 slots ahead of it is rule F1, and nothing else is read. ``max_packets``: 0..256.
        """
        return self._kernel(start, max_packets, *self.pass_args)

    def error(self) -> FrontendError | None:
        """The error for which the last pass gave the frontend up, with its evidence; None without
        one."""
        return tx_error(self.res) if self.res[R_VERDICT] else None

    @property
    def errors(self) -> int:
        """Packets of the last pass that were answered ERROR, and so are not among :meth:`packets`.

        A reference that grants nothing is an example.
        """
        return self.res[R_ERRORS]

    def packets(self) -> list[PolledPacket]:
        """The packets of the last pass."""
        words, found = self._scratch, []
        for i in range(self.res[R_PACKETS]):
            at, size = words[_OFFSET + i], words[_LENGTH + i]
            data = bytes(self._stage.u8[at : at + size])
            more = (words[_FLAGS + i], words[_GSO_SIZE + i], words[_GSO_TYPE + i])
            found.append(PolledPacket(data, *more))
        return found

    def reset(self) -> None:
        super().reset()
        self.config[:] = new_vif_config()


def poll_page(ring_page: bytes, grant_table: bytes = b"", *, start: int = 0) -> list[PolledPacket]:
    """Make one pass over ``ring_page`` in a machine of its own. Returns the packets.

    ``ring_page`` and ``grant_table`` (empty: the one that grants PAGES pages) as for
    :meth:`PolledGuest.load`, ``start`` as for :meth:`PagePoller.poll`. For many pages make one
    :class:`PagePoller` and reuse it.
    """
    poller = PagePoller()
    try:
        poller.load(ring_page, grant_table or None)
        poller.poll(start)
        return poller.packets()
    finally:
        poller.close()
