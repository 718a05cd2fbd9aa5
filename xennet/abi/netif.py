"""xen/io/netif.h: what lies in the slots of the transmit, receive and control rings.

Fields are native little-endian and of fixed width, so a 32-bit and a 64-bit guest agree.  The
XDP extra info (type 5) exists only in Linux's copy of the header.
"""

from __future__ import annotations

from construct import Array, Bytes, Int8ul, Int16sl, Int16ul, Int32ul, Struct

from xennet.abi.codec import derive, union

# Slots that every back end accepts for one packet.
XEN_NETIF_NR_SLOTS_MIN = 18
# Longest transmit packet: netif_tx_request.size is 16 bits wide.
XEN_NETIF_MAX_TX_SIZE = 0xFFFF

# netif_tx_request.flags
NETTXF_csum_blank = 1 << 0
NETTXF_data_validated = 1 << 1
NETTXF_more_data = 1 << 2
NETTXF_extra_info = 1 << 3

# netif_rx_response.flags; the first two are the other way round than in NETTXF_*
NETRXF_data_validated = 1 << 0
NETRXF_csum_blank = 1 << 1
NETRXF_more_data = 1 << 2
NETRXF_extra_info = 1 << 3
NETRXF_gso_prefix = 1 << 4

# netif_tx_response.status; a netif_rx_response.status >= 0 is a length in bytes instead
NETIF_RSP_DROPPED = -2
NETIF_RSP_ERROR = -1
NETIF_RSP_OKAY = 0
NETIF_RSP_NULL = 1

# netif_extra_info.type
XEN_NETIF_EXTRA_TYPE_NONE = 0
XEN_NETIF_EXTRA_TYPE_GSO = 1
XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2
XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3
XEN_NETIF_EXTRA_TYPE_HASH = 4
XEN_NETIF_EXTRA_TYPE_MAX = 5
# Linux, include/xen/interface/io/netif.h
XEN_NETIF_EXTRA_TYPE_XDP = 5
XEN_NETIF_EXTRA_TYPE_MAX_in_linux = 6

# netif_extra_info.flags
XEN_NETIF_EXTRA_FLAG_MORE = 1 << 0

# netif_extra_info.u.gso.type
XEN_NETIF_GSO_TYPE_NONE = 0
XEN_NETIF_GSO_TYPE_TCPV4 = 1
XEN_NETIF_GSO_TYPE_TCPV6 = 2

# xen_netif_ctrl_request.type
XEN_NETIF_CTRL_TYPE_INVALID = 0
XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS = 1
XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS = 2
XEN_NETIF_CTRL_TYPE_SET_HASH_KEY = 3
XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE = 4
XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE = 5
XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING = 6
XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM = 7
XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE = 8
XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING = 9
XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING = 10

# xen_netif_ctrl_response.status
XEN_NETIF_CTRL_STATUS_SUCCESS = 0
XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED = 1
XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER = 2
XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW = 3

# Bit numbers (u.hash.type) and bits (SET_HASH_FLAGS) of the hash types
_XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 0
_XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 1
_XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 2
_XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 3
XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV4
XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP
XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV6
XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP

XEN_NETIF_CTRL_HASH_ALGORITHM_NONE = 0
XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ = 1

# xen_netif_gref.flags
XEN_NETIF_CTRLF_GREF_readonly = 1 << 0

netif_tx_request = "netif_tx_request" / Struct(
    "gref" / Int32ul,
    "offset" / Int16ul,
    "flags" / Int16ul,
    "id" / Int16ul,
    "size" / Int16ul,
)

netif_tx_response = "netif_tx_response" / Struct(
    "id" / Int16ul,
    "status" / Int16sl,
)

netif_rx_request = "netif_rx_request" / Struct(
    "id" / Int16ul,
    "pad" / Int16ul,
    "gref" / Int32ul,
)

netif_rx_response = "netif_rx_response" / Struct(
    "id" / Int16ul,
    "offset" / Int16ul,
    "flags" / Int16ul,
    "status" / Int16sl,
)

netif_extra_info = "netif_extra_info" / Struct(
    "type" / Int8ul,
    "flags" / Int8ul,
    "u"
    / union(
        "gso"
        / Struct(
            "size" / Int16ul,
            "type" / Int8ul,
            "pad" / Int8ul,
            "features" / Int16ul,
        ),
        "mcast" / Struct("addr" / Bytes(6)),
        "hash"
        / Struct(
            "type" / Int8ul,
            "algorithm" / Int8ul,
            "value" / Bytes(4),
        ),
        "xdp"
        / Struct(
            "headroom" / Int16ul,
            "pad" / Array(2, Int16ul),
        ),
        "pad" / Array(3, Int16ul),
    ),
)

xen_netif_ctrl_request = "xen_netif_ctrl_request" / Struct(
    "id" / Int16ul,
    "type" / Int16ul,
    "data" / Array(3, Int32ul),
)

xen_netif_ctrl_response = "xen_netif_ctrl_response" / Struct(
    "id" / Int16ul,
    "type" / Int16ul,
    "status" / Int32ul,
    "data" / Int32ul,
)

xen_netif_gref = "xen_netif_gref" / Struct(
    "ref" / Int32ul,
    "flags" / Int16ul,
    "status" / Int16ul,
)

TX_REQUEST = derive(netif_tx_request)
TX_RESPONSE = derive(netif_tx_response)
RX_REQUEST = derive(netif_rx_request)
RX_RESPONSE = derive(netif_rx_response)
EXTRA_GSO = derive(netif_extra_info, union={"u": "gso"})
EXTRA_MCAST = derive(netif_extra_info, union={"u": "mcast"})
EXTRA_HASH = derive(netif_extra_info, union={"u": "hash"})
EXTRA_XDP = derive(netif_extra_info, union={"u": "xdp"})
EXTRA_PAD = derive(netif_extra_info, union={"u": "pad"})
CTRL_REQUEST = derive(xen_netif_ctrl_request)
CTRL_RESPONSE = derive(xen_netif_ctrl_response)
GREF = derive(xen_netif_gref)
