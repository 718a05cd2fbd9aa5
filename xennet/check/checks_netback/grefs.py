"""Grant references by what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from xennet.check.checks_netback.tx_packets import MakeGref, granted
from xennet.check.peers import FrontendPeer

#: A domain that takes no part.
_THIRD_DOMID = 0x7EE0


def _unused(peer: FrontendPeer, content: bytes) -> int:
    return peer.hv.grants.claim(1)[0]


def _reserved(peer: FrontendPeer, content: bytes) -> int:
    return 2  # GNTTAB_NR_RESERVED_ENTRIES are 8, the toolstack fills 0 and 1 of them


def _out_of_table(peer: FrontendPeer, content: bytes) -> int:
    return 1 << 20


def _all_ones(peer: FrontendPeer, content: bytes) -> int:
    return 0xFFFFFFFF


def _foreign(peer: FrontendPeer, content: bytes) -> int:
    run = peer.hv.alloc_pages(1)
    run.u8[: len(content)] = content
    return peer.hv.grants.grant_access(_THIRD_DOMID, run.first)


def _revoked(peer: FrontendPeer, content: bytes) -> int:
    page = peer.page(content)
    gref = page.gref
    peer.end(page)
    peer.hv.grants.claim(1)  # or the next page is granted by the same number
    return -1 if gref is None else gref


def _readonly(peer: FrontendPeer, content: bytes) -> int:
    gref = peer.page(content, readonly=True).gref
    return -1 if gref is None else gref


#: Name -> what makes such a reference.
GREFS: Mapping[str, MakeGref] = MappingProxyType(
    {
        "granted": granted,
        "readonly": _readonly,
        "unused": _unused,
        "reserved": _reserved,
        "out-of-table": _out_of_table,
        "all-ones": _all_ones,
        "foreign": _foreign,
        "revoked": _revoked,
    }
)
#: Those that let nobody read the page.
BAD = ("unused", "reserved", "out-of-table", "all-ones", "foreign", "revoked")
