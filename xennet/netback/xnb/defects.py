"""How xnb's defects (the rows in the package's docstring) end: in a panic, or in a damaged packet.

Where xnb's kernel would panic (KASSERT, NULL dereference) or write past its arrays, the emulated
one raises :class:`~xennet.netback.defects.BackendPanic`, so that a fuzzer can go on and a test can
name the place.

Other defects damage a packet unseen: xnb neither counts nor prints anything, and the peer gets
rings that look sound. Observers get :class:`~xennet.netback.defects.DefectStruck` for them. These
are the only defects that a frontend which does nothing wrong can meet; all others are panics.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator

from xennet.abi.grant_table import GNTST_okay
from xennet.abi.netif import NETTXF_csum_blank
from xennet.netback.xnb.copytable import GNTTAB_LEN, GnttabCopyTable
from xennet.netback.xnb.mbuf import Mbuf, chain_bytes
from xennet.netback.xnb.pkt import Pkt
from xennet.offload.checksum import complete
from xennet.offload.headers import FOUND, PLACES

# The places where the kernel ends, named by the defect rows that lead there.
OUT_OF_ORDER = "A3/A4"
MBUF_CHAIN_ENDS = "A1/A2"
TX_TABLE_TOO_SHORT = "A9"
COPY_FAILED = "A12/A13"
NEVER_RETURNS = "A14/A15"
HEADER_LEAVES_MBUF = "A17"
TABLE_WALK_LEAVES = "B2"
RX_TABLE_TOO_SHORT = "B8"
NO_IFNET = "C4"
#: The stack's own mbuf chain holds fewer bytes than its header says; no peer can cause this.
MBUF_CHAIN_LIES = "mbuf"


# -- defects that damage a packet unseen -----------------------------------------------------------

#: Row -> what happens to a packet: first those from the guest, then those for it.
WHAT = {
    "A17": (
        "the checksum code writes where data_validated and the IP header send it, whatever is there"
    ),
    "A19": "a blank checksum is not filled in, and nothing says any more that it is blank",
    "B2": (
        "the last slot of a packet counts bytes that an earlier packet left in the copy table, and "
        "arrives with whatever the buffer held"
    ),
    "B4": (
        "a segmented packet of three data slots or more loses more_data, and its last slot arrives "
        "as a packet of its own"
    ),
    "B5": "a packet whose copy failed is answered once and counts as sent",
}


def from_guest(pkt: Pkt, storage: bytes, mbufc: Mbuf, known: Collection[str] = ()) -> Iterator[str]:
    """The rows that damaged a packet from the tx ring, but for those ``known``.

    ``storage`` is the first mbuf's storage before the checksum code (:func:`storage_of`), which
    writes nowhere else; ``mbufc`` is the chain after it.
    """
    if pkt.gso:
        return
    first = storage[: mbufc.len]
    blank = pkt.flags & NETTXF_csum_blank
    if not blank and first == mbufc.valid():
        return
    after = chain_bytes(mbufc)
    before = first + after[mbufc.len :]
    wanted = rewritten(complete, before) if blank else before
    if after != wanted:
        row = "A19" if after == before and "A19" not in known else "A17"
        if row not in known:
            yield row


def storage_of(mbuf: Mbuf) -> bytes:
    """The bytes of an mbuf's storage from ``data`` on, valid or not."""
    return bytes(mbuf.page.u8[mbuf.data : mbuf.start + mbuf.size])


def to_guest(
    pkt: Pkt,
    gnttab: GnttabCopyTable,
    n_entries: int,
    n_responses: int,
    known: Collection[str] = (),
) -> Iterator[str]:
    """The rows that damaged a packet for the rx ring, but for those ``known``; its responses are
    written already."""
    if any(gnttab[i].status != GNTST_okay for i in range(n_entries)):
        if "B5" not in known:
            yield "B5"
        return
    # Elements behind the packet's own ones were left there by an earlier packet.
    last = n_entries - 1
    if (
        "B2" not in known
        and 0 <= last < GNTTAB_LEN - 1
        and gnttab[last].dest_ref == gnttab[n_entries].dest_ref
    ):
        yield "B2"
    if "B4" not in known and pkt.list_len > 2 and n_responses > pkt.list_len:
        yield "B4"


#: A kernel of xennet.offload.checksum: memory as bytes and as words, where the frame is and how
#: long, what is found in it. Returns FOUND if it has written the checksum.
WriteChecksum = Callable[["memoryview", "memoryview", int, int, "array[int]"], int]


def rewritten(write: WriteChecksum, frame: bytes) -> bytes | None:
    """The frame with its TCP or UDP checksum as ``write`` has it; None if it has no such header."""
    length = len(frame)
    copy = memoryview(bytearray(length + (-length & 3)))
    copy[:length] = frame
    found = array("q", bytes(8 * PLACES))
    if write(copy, copy.cast("I"), 0, length, found) != FOUND:
        return None
    return bytes(copy[:length])
