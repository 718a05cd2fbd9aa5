"""xen/io/ring.h: the shared ring page, and the three rings of a vif that are made from it.

A page holds a 64-byte header and then slots; request and response of one slot share its bytes.
Indices are free-running 32-bit counters; slot `index % RING_SIZE` lies at
`SRING_HEADER_SIZE + slot * slot_size`.
"""

from __future__ import annotations

from construct import Array, Bytes, Construct, Int8ul, Int32ul, Struct

from xennet.abi.codec import derive, union
from xennet.abi.netif import (
    netif_rx_request,
    netif_rx_response,
    netif_tx_request,
    netif_tx_response,
    xen_netif_ctrl_request,
    xen_netif_ctrl_response,
)
from xennet.abi.xen import PAGE_SIZE

sring_header = "sring_header" / Struct(
    "req_prod" / Int32ul,
    "req_event" / Int32ul,
    "rsp_prod" / Int32ul,
    "rsp_event" / Int32ul,
    "pvt"
    / union(
        "netif" / Struct("smartpoll_active" / Int8ul),
        "tapif_user" / Struct("msg" / Int8ul),
        "pvt_pad" / Bytes(4),
    ),
    "__pad" / Bytes(44),
)

SRING_HEADER = derive(sring_header, union={"pvt": "pvt_pad"})
SRING_HEADER_SIZE: int = SRING_HEADER.size

# Indices into the ring page seen as 32-bit words (memoryview.cast("I"))
SRING_WORD_req_prod = SRING_HEADER.offsets["req_prod"] // 4
SRING_WORD_req_event = SRING_HEADER.offsets["req_event"] // 4
SRING_WORD_rsp_prod = SRING_HEADER.offsets["rsp_prod"] // 4
SRING_WORD_rsp_event = SRING_HEADER.offsets["rsp_event"] // 4

# SHARED_RING_INIT: the first request and the first response must notify; the rest is zero
SRING_INITIAL_req_prod = 0
SRING_INITIAL_req_event = 1
SRING_INITIAL_rsp_prod = 0
SRING_INITIAL_rsp_event = 1
SRING_INITIAL = SRING_HEADER.pack(
    SRING_INITIAL_req_prod,
    SRING_INITIAL_req_event,
    SRING_INITIAL_rsp_prod,
    SRING_INITIAL_rsp_event,
    bytes(SRING_HEADER.sizes["pvt.pvt_pad"]),
    bytes(SRING_HEADER.sizes["__pad"]),
)


def ring_size(page_bytes: int, req_size: int, rsp_size: int) -> int:
    """__RING_SIZE: slots in a ring of `page_bytes` bytes, the largest power of two that fits.

    `req_size` and `rsp_size` are sizes in bytes (> 0).  Raises ValueError when not even one slot
    fits behind the header, or a size is not positive.
    """
    if req_size <= 0 or rsp_size <= 0:
        raise ValueError(f"ring entry of {req_size} (request) and {rsp_size} (response) bytes")
    fitting = (page_bytes - SRING_HEADER_SIZE) // max(req_size, rsp_size)
    if fitting < 1:
        raise ValueError(
            f"no slot of {max(req_size, rsp_size)} bytes fits behind the {SRING_HEADER_SIZE}-byte "
            f"header in a ring of {page_bytes} bytes"
        )
    return 1 << (fitting.bit_length() - 1)


def _define_ring_types(name: str, req: Construct, rsp: Construct) -> tuple[Construct, Construct]:
    """DEFINE_RING_TYPES: the entry, and the page with the `ring[1]` that C declares."""
    entry = f"{name}_sring_entry" / union("req" / req, "rsp" / rsp)
    return entry, f"{name}_sring" / Struct(*sring_header.subcons, "ring" / Array(1, entry))


netif_tx_sring_entry, netif_tx_sring = _define_ring_types(
    "netif_tx", netif_tx_request, netif_tx_response
)
netif_rx_sring_entry, netif_rx_sring = _define_ring_types(
    "netif_rx", netif_rx_request, netif_rx_response
)
xen_netif_ctrl_sring_entry, xen_netif_ctrl_sring = _define_ring_types(
    "xen_netif_ctrl", xen_netif_ctrl_request, xen_netif_ctrl_response
)

# Slot stride in bytes
NETIF_TX_SLOT_SIZE: int = netif_tx_sring_entry.sizeof()
NETIF_RX_SLOT_SIZE: int = netif_rx_sring_entry.sizeof()
NETIF_CTRL_SLOT_SIZE: int = xen_netif_ctrl_sring_entry.sizeof()

# Slots in a ring of one page
NETIF_TX_RING_SIZE = ring_size(PAGE_SIZE, NETIF_TX_SLOT_SIZE, NETIF_TX_SLOT_SIZE)
NETIF_RX_RING_SIZE = ring_size(PAGE_SIZE, NETIF_RX_SLOT_SIZE, NETIF_RX_SLOT_SIZE)
NETIF_CTRL_RING_SIZE = ring_size(PAGE_SIZE, NETIF_CTRL_SLOT_SIZE, NETIF_CTRL_SLOT_SIZE)
