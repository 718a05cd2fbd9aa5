"""Mbuf chains over real pages: the scatter/gather storage between the ring and the host's stack.

A chain is a list of segments. Each has ``size`` bytes of storage inside a page run of the driver
domain, of which ``len`` bytes from ``data`` on are valid. Storage comes in five sizes, as in
FreeBSD's sys/mbuf.h on a 64-bit machine: inside the mbuf itself (MLEN, or MHLEN when it carries
the packet header), or a cluster of 2048, 4096, 9216 or 16384 bytes. Which one is chosen decides
where grant copies are split.

Not modelled: the mbuf that heads a cluster takes no memory of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from attrs import define, field

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.interface import PageRun

#: Bytes of an mbuf, and of its storage without and with a packet header.
MSIZE = 256
MLEN = 224
MHLEN = 168
#: Cluster sizes in bytes.
MCLBYTES = 2048
MJUMPAGESIZE = PAGE_SIZE
MJUM9BYTES = 9 * 1024
MJUM16BYTES = 16 * 1024
CLUSTERS = (MCLBYTES, MJUMPAGESIZE, MJUM9BYTES, MJUM16BYTES)
#: From this length on m_getm takes a cluster.
MINCLSIZE = MHLEN + 1

# m_pkthdr.csum_flags towards the wire (what the hardware shall do) ...
CSUM_UDP = 0x2
CSUM_TCP = 0x4
CSUM_IP_TSO = 0x10
CSUM_IP6_TSO = 0x1000
CSUM_TSO = CSUM_IP_TSO | CSUM_IP6_TSO
CSUM_DELAY_DATA = CSUM_TCP | CSUM_UDP
# ... and from the wire (what the hardware has done).
CSUM_IP_CHECKED = 0x0100_0000
CSUM_IP_VALID = 0x0200_0000
CSUM_PSEUDO_HDR = 0x0400_0000
CSUM_DATA_VALID = 0x0800_0000


@define(eq=False)
class PktHdr:
    """m_pkthdr of the first mbuf of a packet.

    ``len`` bytes in the whole chain; ``csum_flags`` CSUM_*; ``tso_segsz`` bytes of one TCP
    segment; ``rcvif`` the interface the packet came in by.
    """

    len: int = 0
    csum_flags: int = 0
    csum_data: int = 0
    tso_segsz: int = 0
    flowid: int = 0
    rcvif: Ifnet | None = None


@define(eq=False)
class Mbuf:
    """One segment. ``start`` and ``data`` are byte offsets into ``page``.

    ``start``..``start + size`` is the storage, ``data``..``data + len`` what is valid (m_data,
    m_len); ``next`` the rest of the chain; ``pkthdr`` is None except on a packet's first mbuf
    (M_PKTHDR).
    """

    page: PageRun
    start: int
    size: int
    data: int
    len: int = 0
    next: Mbuf | None = None
    pkthdr: PktHdr | None = None
    #: Bytes of its storage in the pool; 0 when it is free.
    item: int = field(default=0, repr=False)

    @property
    def trailing_space(self) -> int:
        """M_TRAILINGSPACE: bytes of storage behind the valid ones."""
        return self.start + self.size - (self.data + self.len)

    def frame_at(self, offset: int) -> int:
        """The frame number of byte ``offset`` from m_data (virt_to_mfn)."""
        return self.page.first + ((self.data + offset) >> PAGE_SHIFT)

    def offset_at(self, offset: int) -> int:
        """Where in its frame byte ``offset`` from m_data lies (virt_to_offset)."""
        return (self.data + offset) & (PAGE_SIZE - 1)

    def valid(self) -> memoryview:
        """The valid bytes."""
        return self.page.u8[self.data : self.data + self.len]


def chain(mbuf: Mbuf | None) -> Iterator[Mbuf]:
    """The segments of a chain, in order."""
    while mbuf is not None:
        yield mbuf
        mbuf = mbuf.next


def chain_bytes(mbuf: Mbuf | None) -> bytes:
    """The valid bytes of a whole chain (m_copydata of all of it)."""
    return b"".join(segment.valid() for segment in chain(mbuf))


def offload_of(mbufc: Mbuf) -> tuple[int, int, int]:
    """What the packet header says about a received chain, as a frame has it (xennet.frames): flags,
    GSO size and GSO type."""
    header = mbufc.pkthdr
    assert header is not None
    if header.csum_flags & CSUM_TSO:
        v4 = header.csum_flags & CSUM_IP_TSO
        kind = XEN_NETIF_GSO_TYPE_TCPV4 if v4 else XEN_NETIF_GSO_TYPE_TCPV6
        return CSUM_BLANK | DATA_VALIDATED, header.tso_segsz, kind
    return DATA_VALIDATED if header.csum_flags & CSUM_DATA_VALID else 0, 0, 0


class PageSource(Protocol):
    """Where a pool allocates its pages: a Hypervisor, or an object that has some."""

    def alloc_pages(self, count: int) -> PageRun: ...
    def free_pages(self, pages: PageRun) -> None: ...


class MbufPool:
    """Allocates mbufs: pages of the driver domain, carved into items of one size each.

    ``jumbo`` is the cluster size that :meth:`m_getm` takes for more than 2048 bytes; FreeBSD takes
    MJUMPAGESIZE there, so that no cluster crosses a page. ``max_pages`` bounds the pool: beyond it
    allocation returns None, as M_NOWAIT does. Freed storage is reused with the bytes that are in
    it.
    """

    def __init__(
        self, hv: PageSource, *, jumbo: int = MJUMPAGESIZE, max_pages: int | None = None
    ) -> None:
        if jumbo not in CLUSTERS:
            raise ValueError(f"no clusters of {jumbo} bytes, only of {CLUSTERS}")
        self.hv = hv
        self.jumbo = jumbo
        self.max_pages = max_pages
        self.in_use = 0
        self._pages: list[PageRun] = []
        self._nr_pages = 0
        self._free: dict[int, list[tuple[PageRun, int]]] = {size: [] for size in (MSIZE, *CLUSTERS)}

    def m_get(self, pkthdr: bool = False) -> Mbuf | None:
        """An mbuf with its storage inside: MHLEN bytes with a packet header, else MLEN."""
        size = MHLEN if pkthdr else MLEN
        return self._mbuf(MSIZE, MSIZE - size, size, pkthdr)

    def m_getjcl(self, size: int, pkthdr: bool = False) -> Mbuf | None:
        """An mbuf with a cluster of ``size`` bytes, one of CLUSTERS."""
        return self._mbuf(size, 0, size, pkthdr)

    def m_getm(self, length: int) -> Mbuf | None:
        """A chain with room for ``length`` bytes, the first mbuf with a packet header.

        Each mbuf is the largest that what remains deserves: a ``jumbo`` cluster above MCLBYTES, a
        2048-byte cluster from MINCLSIZE on, else a plain mbuf. None if the pool is exhausted and
        also for length 0, which asks for no mbuf at all (FreeBSD m_getm2).
        """
        first: Mbuf | None = None
        last: Mbuf | None = None
        while length > 0:
            if length > MCLBYTES:
                mbuf = self.m_getjcl(self.jumbo, first is None)
            elif length >= MINCLSIZE:
                mbuf = self.m_getjcl(MCLBYTES, first is None)
            else:
                mbuf = self.m_get(first is None)
            if mbuf is None:
                self.m_freem(first)
                return None
            if last is None:
                first = mbuf
            else:
                last.next = mbuf
            last = mbuf
            length -= mbuf.size
        return first

    def build(
        self,
        payload: bytes,
        *,
        segments: Sequence[int] | None = None,
        cluster: int = MCLBYTES,
        lead: int = 0,
    ) -> Mbuf:
        """A packet as a network card's driver would hand it to the stack.

        ``segments`` are the lengths of the mbufs (default: full clusters); each lies in a cluster
        of ``cluster`` bytes, ``lead`` bytes after its start. MemoryError when the pool is empty,
        ValueError when the lengths do not fit.
        """
        if segments is None:
            room = cluster - lead
            segments = [min(room, len(payload) - at) for at in range(0, max(len(payload), 1), room)]
        if sum(segments) != len(payload) or max(segments) > cluster - lead:
            raise ValueError(
                f"segments {list(segments)} do not hold {len(payload)} bytes in clusters of "
                f"{cluster} with {lead} bytes before the data"
            )
        first: Mbuf | None = None
        last: Mbuf | None = None
        at = 0
        for length in segments:
            mbuf = self.m_getjcl(cluster, first is None)
            if mbuf is None:
                self.m_freem(first)
                raise MemoryError(f"the mbuf pool holds no more than {self.max_pages} pages")
            mbuf.data += lead
            mbuf.len = length
            mbuf.valid()[:] = payload[at : at + length]
            at += length
            if last is None:
                first = mbuf
            else:
                last.next = mbuf
            last = mbuf
        assert first is not None
        assert first.pkthdr is not None
        first.pkthdr.len = len(payload)
        return first

    def m_freem(self, mbuf: Mbuf | None) -> None:
        """Free a whole chain. Raises ValueError if part of it is free already."""
        for segment in chain(mbuf):
            if segment.item == 0:
                raise ValueError("mbuf freed twice")
            base = segment.start + segment.size - segment.item
            self._free[segment.item].append((segment.page, base))
            segment.item = 0
            self.in_use -= 1

    def close(self) -> None:
        """Free all pages; every mbuf of the pool is gone with them."""
        for pages in self._pages:
            self.hv.free_pages(pages)
        self._pages.clear()
        self._nr_pages = 0
        for items in self._free.values():
            items.clear()
        self.in_use = 0

    def _mbuf(self, item: int, header: int, size: int, pkthdr: bool) -> Mbuf | None:
        free = self._free[item]
        if not free and not self._grow(item):
            return None
        page, base = free.pop()
        self.in_use += 1
        start = base + header
        return Mbuf(page, start, size, start, pkthdr=PktHdr() if pkthdr else None, item=item)

    def _grow(self, item: int) -> bool:
        """Carve new pages into items of ``item`` bytes."""
        count = -(-item // PAGE_SIZE)
        if self.max_pages is not None and self._nr_pages + count > self.max_pages:
            return False
        pages = self.hv.alloc_pages(count)
        self._pages.append(pages)
        self._nr_pages += count
        fitting = range(0, count * PAGE_SIZE - item + 1, item)
        self._free[item].extend((pages, base) for base in reversed(fitting))
        return True


def _drop(mbuf: Mbuf) -> None:
    """Drop a chain: the stack takes no packets."""


@define(eq=False)
class Ifnet:
    """The host's side of the vif: struct ifnet, as far as the driver touches it.

    ``if_input(chain)`` takes a received chain (and frees it); ``if_snd`` holds the chains to send
    to the guest. The counters are IFCOUNTER_*.
    """

    name: str = "xnb1.0"
    if_input: Callable[[Mbuf], None] = _drop
    if_snd: deque[Mbuf] = field(factory=deque, repr=False)
    ipackets: int = 0
    ierrors: int = 0
    iqdrops: int = 0
    opackets: int = 0
    oerrors: int = 0
