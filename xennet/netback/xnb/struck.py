"""Defects of xnb that damage a packet unseen: it neither counts nor prints anything, and the
peer gets rings that look sound. Observers hear of them (xennet.netback.defects.DefectStruck).

Of all rows these are the ones that a frontend which does nothing wrong can meet; what else it could
meet ends in a BackendPanic, which names its row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from xennet.abi.grant_table import GNTST_okay
from xennet.abi.netif import NETTXF_csum_blank
from xennet.netback.xnb.copytable import GNTTAB_LEN, GnttabCopyTable
from xennet.netback.xnb.mbuf import Mbuf, chain_bytes
from xennet.netback.xnb.pkt import Pkt
from xennet.offload.checksum import complete
from xennet.offload.headers import FOUND, PLACES

#: What happens to a packet, by row; those from the guest, then those for it.
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


def from_guest(pkt: Pkt, storage: bytes, mbufc: Mbuf) -> Iterator[str]:
    """The rows that damaged a packet off the tx ring.

    ``storage``: the first mbuf's bytes before the checksum code, which writes nowhere else, saw
    them (:func:`storage_of`); ``mbufc``: the chain after it.
    """
    after = chain_bytes(mbufc)
    before = storage[: mbufc.len] + after[mbufc.len :]
    wanted = _completed(before) if pkt.flags & NETTXF_csum_blank else before
    if after != wanted:
        yield "A19" if after == before else "A17"


def storage_of(mbuf: Mbuf) -> bytes:
    """All that fits into an mbuf, valid or not yet."""
    return bytes(mbuf.page.u8[mbuf.data : mbuf.start + mbuf.size])


def to_guest(pkt: Pkt, gnttab: GnttabCopyTable, n_entries: int, n_responses: int) -> Iterator[str]:
    """The rows that damaged a packet for the rx ring, of which the responses are written."""
    if any(gnttab[i].status != GNTST_okay for i in range(n_entries)):
        yield "B5"
        return
    # What is behind the packet's own elements was left there by an earlier one.
    last = n_entries - 1
    if 0 <= last < GNTTAB_LEN - 1 and gnttab[last].dest_ref == gnttab[n_entries].dest_ref:
        yield "B2"
    if pkt.list_len > 2 and n_responses > pkt.list_len:
        yield "B4"


def _completed(frame: bytes) -> bytes | None:
    """The frame with its TCP or UDP checksum filled in; None if it has none."""
    length = len(frame)
    copy = memoryview(bytearray(length + (-length & 3)))
    copy[:length] = frame
    found = array("q", bytes(8 * PLACES))
    if complete(copy, copy.cast("I"), 0, length, found) != FOUND:
        return None
    return bytes(copy[:length])
