"""netmap_legacy.h: the requests of programs from before NIOCCTRL.

sys/net/netmap_legacy.h of netmap's API 14 (upstream 89607e14), with the names there.
"""

from __future__ import annotations

from construct import Bytes, Int16ul, Int32ul, Struct

from xennet.abi.codec import derive

# ioctl numbers of Linux
NIOCGINFO = 0xC03C6991
NIOCREGIF = 0xC03C6992
NIOCCONFIG = 0xC1106996

# nr_ringid
NETMAP_HW_RING = 0x4000
NETMAP_SW_RING = 0x2000
NETMAP_RING_MASK = 0x0FFF
NETMAP_NO_TX_POLL = 0x1000
NETMAP_DO_RX_POLL = 0x8000

# nr_cmd
NETMAP_BDG_ATTACH = 1
NETMAP_BDG_DETACH = 2
NETMAP_BDG_REGOPS = 3
NETMAP_BDG_LIST = 4
NETMAP_BDG_VNET_HDR = 5
NETMAP_BDG_NEWIF = 6
NETMAP_BDG_DELIF = 7
NETMAP_PT_HOST_CREATE = 8
NETMAP_PT_HOST_DELETE = 9
NETMAP_BDG_POLLING_ON = 10
NETMAP_BDG_POLLING_OFF = 11
NETMAP_VNET_HDR_GET = 12

#: nr_arg1 of NETMAP_BDG_ATTACH: the host rings too.
NETMAP_BDG_HOST = 1
#: The mode in nr_flags.
NR_REG_MASK = 0xF
NM_IFRDATA_LEN = 256

nmreq = "nmreq" / Struct(
    "nr_name" / Bytes(16),
    "nr_version" / Int32ul,
    "nr_offset" / Int32ul,
    "nr_memsize" / Int32ul,
    "nr_tx_slots" / Int32ul,
    "nr_rx_slots" / Int32ul,
    "nr_tx_rings" / Int16ul,
    "nr_rx_rings" / Int16ul,
    "nr_ringid" / Int16ul,
    "nr_cmd" / Int16ul,
    "nr_arg1" / Int16ul,
    "nr_arg2" / Int16ul,
    "nr_arg3" / Int32ul,
    "nr_flags" / Int32ul,
    "spare2" / Int32ul,
)

nm_ifreq = "nm_ifreq" / Struct("nifr_name" / Bytes(16), "data" / Bytes(NM_IFRDATA_LEN))

NMREQ = derive(nmreq)
