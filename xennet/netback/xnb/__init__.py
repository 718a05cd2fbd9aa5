"""The data path of FreeBSD's xnb driver (sys/dev/xen/netback/netback.c), function by function.

This is not the project's own backend: it is that driver's behaviour, in its own words, with its
defects, to hold other implementations against, to fuzz, and to learn from. Names that begin with
``xnb_`` are those of netback.c. Each function here has the name of the driver's own without that,
takes its arguments in the same order (then what a kernel has at hand anyway: hypervisor, mbuf pool,
console) and tells its contract.
Where the kernel would panic or damage its memory, :class:`BackendPanic` is raised with the rows
below that lead there.

Guest transmit (:mod:`~xennet.netback.xnb.tx`), ``[size,flags]`` with M more_data, E extra_info:

==== ==========================================================================================
A1   ``[100,M] [200,0]``: size of the first slot wraps to 65436, the copy runs off the mbuf chain
A2   ``[60,M] [40000,M] [25576,0]``: the sum of the later slots wraps to 40, then as A1
A3   ``[0,0]``: no mbuf for 0 bytes is taken for lack of memory: answered but not consumed
A4   ``[60,E]`` and no slot behind: one slot consumed, two responses
A5   a second extra info is parsed as the next packet's first request
A6   extra_info on a later slot: printed about, its extra becomes the next packet
A7   any extra info but GSO: packet dropped
A8   256 slots of more_data: nothing is ever consumed or answered
A9   more than 64 copies: the table is too short
A10  the pass ends at the first garbage packet; what was pushed behind it is not announced again
A11  a half-pushed packet is not announced again either
A12  offset + size beyond the page, bad or revoked grant: the failed copy is only asserted against
A13  a single slot of up to 65535 bytes: as A12
A14  req_prod moved backwards: stale slots for up to 2^32 packets
A15  no bound on one interrupt
A16  a slot is read several times, also after it was looked at
A17  no shortest frame; the checksum code believes the IP header and knows no options
A18  console messages without limit
A19  csum_blank alone: no checksum is filled in
A20  GSO of size 0 or of unknown type: accepted and ignored
A21  a packet in error keeps list_len; a receive flag's name is tested on transmit
A22  a NULL response keeps the extra's first two bytes as its id
==== ==========================================================================================

Guest receive (:mod:`~xennet.netback.xnb.rx`):

==== ==========================================================================================
B1   buffers posted with the same gref: responses are counted by changes of the gref
B2   the search for a gref walks into what earlier packets left in the table, and past its end
B3   an error response keeps the gref's low half as its flags
B4   TSO packets of three data slots or more lose more_data
B5   one response for a packet whose copy failed, counted as sent
B6   req_prod - req_cons is believed, whatever it is
B7   the gref is read again for the response: rewritten, the status is 0
B8   mbuf chain of more than 64 fragments: the table is too short
B9   lengths above 65535 are cut to 16 bits
B10  features of the frontend are not consulted
==== ==========================================================================================

Life (:mod:`~xennet.netback.xnb.keys`, :mod:`~xennet.netback.xnb.policy`, rules XNB_BACKEND):

==== ==========================================================================================
C1   without feature-no-csum-offload a byte of the stack decides what ip_csum is
C2   a ring reference is cut to 32 bits
C3   a frontend that does not ask for rx-copy is connected anyway
C4   Connected, Closing, Connected: the first event meets a freed ifnet
C5   disconnects at every Closing, connected or not
C6   a second ring that cannot be mapped leaves the first one mapped
C7   rings are entered at 0, wherever their indices are
C8   frontend states 0, 2, 7 and 8 are fatal
C9   the host panics when the mapping hypercall as such fails
C10  one queue, one channel, flat keys, no control ring
==== ==========================================================================================

The policy (:data:`~xennet.netback.xnb.policy.XNB`) puts this behind the Vif and Queue of every
backend. These unmap once and completely, so C6 and what C5 unmaps in vain are not to be seen there;
C9 has no counterpart where each mapping has its own status.
"""

from __future__ import annotations

from xennet.netback.defects import BackendPanic
from xennet.netback.xnb.cksum import add_mbuf_cksum, in_cksum_skip, in_pseudo, internet_sum
from xennet.netback.xnb.copytable import GNTTAB_LEN, GnttabCopyTable
from xennet.netback.xnb.dump import (
    Log,
    dump_gnttab_copy,
    dump_mbuf,
    dump_pkt,
    dump_rings,
    dump_txreq,
)
from xennet.netback.xnb.mbuf import Ifnet, Mbuf, MbufPool, PktHdr, chain, chain_bytes
from xennet.netback.xnb.pkt import Extra, Pkt
from xennet.netback.xnb.rx import mbufc2pkt, rxpkt2gnttab, rxpkt2rsp, send
from xennet.netback.xnb.softc import XnbSoftc, intr, start, start_locked
from xennet.netback.xnb.tx import (
    pkt2mbufc,
    recv,
    ring2pkt,
    txpkt2gnttab,
    txpkt2rsp,
    update_mbufc,
)

__all__ = [
    "GNTTAB_LEN",
    "BackendPanic",
    "Extra",
    "GnttabCopyTable",
    "Ifnet",
    "Log",
    "Mbuf",
    "MbufPool",
    "Pkt",
    "PktHdr",
    "XnbSoftc",
    "add_mbuf_cksum",
    "chain",
    "chain_bytes",
    "dump_gnttab_copy",
    "dump_mbuf",
    "dump_pkt",
    "dump_rings",
    "dump_txreq",
    "in_cksum_skip",
    "in_pseudo",
    "internet_sum",
    "intr",
    "mbufc2pkt",
    "pkt2mbufc",
    "recv",
    "ring2pkt",
    "rxpkt2gnttab",
    "rxpkt2rsp",
    "send",
    "start",
    "start_locked",
    "txpkt2gnttab",
    "txpkt2rsp",
    "update_mbufc",
]
