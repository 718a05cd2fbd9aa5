"""What an observer of the machine sees when a defect of the seed damages a packet unseen.

The seed neither counts nor prints anything then, and the peer gets rings that look sound. Where it
ends instead there is a BackendPanic.
"""

from __future__ import annotations

from attrs import frozen

from xennet.netback.xnb.pkt import Pkt


@frozen
class DefectStruck:
    """In domain ``domid`` defect ``row`` (xennet.netback.xnb) damaged a packet for or from domain
    ``otherend_id``; ``what`` happens to such a packet, in words."""

    domid: int
    otherend_id: int
    row: str
    what: str


#: What B4 does.
MORE_DATA_LOST = (
    "a segmented packet of three data slots or more loses more_data, and its last slot arrives as "
    "a packet of its own"
)


def loses_more_data(pkt: Pkt, n_responses: int) -> bool:
    """Whether the responses to ``pkt`` show defect B4; a failed copy (one response) does not."""
    return pkt.list_len > 2 and n_responses > pkt.list_len
