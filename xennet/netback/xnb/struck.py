"""Defects of xnb that damage a packet unseen: it neither counts nor prints anything, and the
peer gets rings that look sound. Observers hear of them (xennet.netback.defects.DefectStruck)."""

from __future__ import annotations

from xennet.netback.xnb.pkt import Pkt

#: What B4 does.
MORE_DATA_LOST = (
    "a segmented packet of three data slots or more loses more_data, and its last slot arrives as "
    "a packet of its own"
)


def loses_more_data(pkt: Pkt, n_responses: int) -> bool:
    """Whether the responses to ``pkt`` show defect B4; a failed copy (one response) does not."""
    return pkt.list_len > 2 and n_responses > pkt.list_len
