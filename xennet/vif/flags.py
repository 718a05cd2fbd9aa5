"""The two checksum flags of a packet, as either ring writes them.

BITS 0 AND 1 SWAP THEIR MEANING BETWEEN THE RINGS (xen 4.17 netif.h, NETTXF_* under "Guest
transmit", NETRXF_* under "Guest receive"):

    bit   tx request              rx response             frame (xennet.frames)
    0     NETTXF_csum_blank       NETRXF_data_validated   CSUM_BLANK
    1     NETTXF_data_validated   NETRXF_csum_blank       DATA_VALIDATED

A mask that is right on one ring is wrong on the other, and no packet with both bits set shows it.
So no kernel tests these bits in a slot, or writes them: it looks them up here,
``TABLE[flags & CSUM_BITS]``. The bits above, more_data, extra_info and gso_prefix, are the same on
both rings and stay with the kernels.
"""

from __future__ import annotations

from xennet.abi.netif import (
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETTXF_csum_blank,
    NETTXF_data_validated,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED

#: Both bits, the same on either ring: the index of a table.
CSUM_BITS = CSUM_BLANK | DATA_VALIDATED
if {NETTXF_csum_blank | NETTXF_data_validated, NETRXF_csum_blank | NETRXF_data_validated} != {
    CSUM_BITS
}:
    raise AssertionError("the checksum flags are not bits 0 and 1 of a slot's flags")


def _table(blank: int, validated: int, to_blank: int, to_validated: int) -> tuple[int, ...]:
    """The table from each value of the two bits to other bits; ``blank`` and ``validated`` are the
    masks in that value, ``to_blank`` and ``to_validated`` those in the result."""
    return tuple(
        (to_blank if bits & blank else 0) | (to_validated if bits & validated else 0)
        for bits in range(CSUM_BITS + 1)
    )


#: Flags of a frame -> of its first tx request, as they are.
TX_OF_FRAME = _table(CSUM_BLANK, DATA_VALIDATED, NETTXF_csum_blank, NETTXF_data_validated)
#: Flags of a packet's first tx request -> of the frame, as they are.
FRAME_OF_TX = _table(NETTXF_csum_blank, NETTXF_data_validated, CSUM_BLANK, DATA_VALIDATED)
#: Flags of a frame -> of its first rx response. A blank checksum is said to be validated too, since
#: nothing can have damaged it (Linux 6.1 xen-netback, xenvif_rx_data_slot: CHECKSUM_PARTIAL).
RX_OF_FRAME = _table(
    CSUM_BLANK,
    DATA_VALIDATED,
    NETRXF_csum_blank | NETRXF_data_validated,
    NETRXF_data_validated,
)
#: Flags of a packet's first rx response -> of the frame, as they are.
FRAME_OF_RX = _table(NETRXF_csum_blank, NETRXF_data_validated, CSUM_BLANK, DATA_VALIDATED)
