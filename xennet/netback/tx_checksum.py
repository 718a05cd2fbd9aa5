"""Packets from the guest with a blank checksum: the search for the header that it belongs to.

This is xen-netback's checksum_setup, done after a packet has been copied and answered. It is a
kernel of its own, so that a pass without such packets does not run it.
"""

from __future__ import annotations

from xennet.engine.kernel import LOG_HEADER, Frames, Vector, note
from xennet.frames import CSUM_BLANK
from xennet.netback.guest_tx import (
    CSUM_FIXUP,
    R_BAD_CSUM,
    R_BYTES,
    R_CSUM_FIXUP,
    R_PACKETS,
    R_START,
    TxSlots,
)
from xennet.netback.packets import keep_packets
from xennet.offload.checksum_setup import set_up
from xennet.vif.refusals import NO_HEADERS
from xennet.vif.ring_events import TX_BAD_CSUM


def judge_checksums(
    log: Vector,
    slots: TxSlots,
    frames: Frames,
    res: Vector,
) -> int:
    """Judge every packet with CSUM_BLANK that put_responses left. Returns the number of good
    packets.

    ``slots`` has the slot in which each begins, for ``log`` (xennet.vif.ring_events). A packet with
    CSUM_FIXUP gets the sum of its pseudo-header (F16; ``res[R_CSUM_FIXUP]`` counts them as Linux
    does, before it is known whether that works). A packet without a TCP or UDP header, or with a
    VLAN tag, is removed from the columns (F17).
    """
    _rsp, _grefs, _spans, begins, _extras = slots
    data, data32, offset, length, flags, _gso_size, _gso_type, _hash_info, _hash_value = frames
    packets = res[R_PACKETS]
    bad = 0
    fixups = 0
    for i in range(packets):
        if flags[i] & CSUM_BLANK:
            fixup = flags[i] & CSUM_FIXUP
            if fixup:
                flags[i] ^= CSUM_FIXUP
                fixups += 1
            if not set_up(data, data32, offset[i], length[i], fixup):
                bad += 1
                if len(log) > LOG_HEADER:
                    note(log, TX_BAD_CSUM, res[R_START] + begins[i], length[i], 0, NO_HEADERS)
                res[R_BYTES] -= length[i]
                length[i] = 0
    res[R_CSUM_FIXUP] = fixups
    res[R_BAD_CSUM] = bad
    if bad:
        packets = keep_packets(0, packets, frames)
        res[R_PACKETS] = packets
    return packets
