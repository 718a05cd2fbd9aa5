"""netmap.h: what netmap shares with its clients, and the requests of NIOCCTRL.

sys/net/netmap.h of netmap's API 14 (upstream 89607e14), with the names there.  Layouts are those of
x86_64; `nmreq_register_i386`, `nmreq_vale_attach_i386` and `netmap_ring_i386` are the three that
i386 lays out otherwise.  `dir` of a ring is 1 for tx and 0 for rx, which the comment in the header
has the other way round.  `RING_W_*` and `SLOT_W_*` are places in 32-bit words.
"""

from __future__ import annotations

from construct import (
    Array,
    Bytes,
    Int16ul,
    Int32ul,
    Int64sl,
    Int64ul,
    Padding,
    Struct,
)

from xennet.abi.codec import derive

NETMAP_API = 14
NETMAP_MIN_API = 14
NETMAP_MAX_API = 15
NM_CACHE_ALIGN = 128

# Slot flags
NS_BUF_CHANGED = 0x0001
NS_REPORT = 0x0002
NS_FORWARD = 0x0004
NS_NO_LEARN = 0x0008
NS_INDIRECT = 0x0010
NS_MOREFRAG = 0x0020
NS_TXMON = 0x0040
NS_PORT_SHIFT = 8
NS_PORT_MASK = 0xFF << NS_PORT_SHIFT
NETMAP_MAX_FRAGS = 64

# Ring flags
NR_TIMESTAMP = 0x0002
NR_FORWARD = 0x0004

#: ni_flags: the region is not shared with other ports.
NI_PRIV_MEM = 0x1

NETMAP_REQ_MAXSIZE = 4096
NETMAP_REQ_IFNAMSIZ = 64

# nr_reqtype
NETMAP_REQ_REGISTER = 1
NETMAP_REQ_PORT_INFO_GET = 2
NETMAP_REQ_VALE_ATTACH = 3
NETMAP_REQ_VALE_DETACH = 4
NETMAP_REQ_VALE_LIST = 5
NETMAP_REQ_PORT_HDR_SET = 6
NETMAP_REQ_PORT_HDR_GET = 7
NETMAP_REQ_VALE_NEWIF = 8
NETMAP_REQ_VALE_DELIF = 9
NETMAP_REQ_VALE_POLLING_ENABLE = 10
NETMAP_REQ_VALE_POLLING_DISABLE = 11
NETMAP_REQ_POOLS_INFO_GET = 12
NETMAP_REQ_SYNC_KLOOP_START = 13
NETMAP_REQ_SYNC_KLOOP_STOP = 14
NETMAP_REQ_CSB_ENABLE = 15

# nro_reqtype
NETMAP_REQ_OPT_EXTMEM = 1
NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS = 2
NETMAP_REQ_OPT_CSB = 3
NETMAP_REQ_OPT_SYNC_KLOOP_MODE = 4
NETMAP_REQ_OPT_OFFSETS = 5
NETMAP_REQ_OPT_MAX = 6

# nr_mode
NR_REG_DEFAULT = 0
NR_REG_ALL_NIC = 1
NR_REG_SW = 2
NR_REG_NIC_SW = 3
NR_REG_ONE_NIC = 4
NR_REG_PIPE_MASTER = 5
NR_REG_PIPE_SLAVE = 6
NR_REG_NULL = 7
NR_REG_ONE_SW = 8

# nr_flags
NR_MONITOR_TX = 0x100
NR_MONITOR_RX = 0x200
NR_ZCOPY_MON = 0x400
NR_EXCLUSIVE = 0x800
NR_RX_RINGS_ONLY = 0x2000
NR_TX_RINGS_ONLY = 0x4000
NR_ACCEPT_VNET_HDR = 0x8000
NR_DO_RX_POLL = 0x10000
NR_NO_TX_POLL = 0x20000

# ioctl numbers of Linux
NIOCCTRL = 0xC0586997
NIOCTXSYNC = 0x6994
NIOCRXSYNC = 0x6995

NETMAP_POLLING_MODE_SINGLE_CPU = 1
NETMAP_POLLING_MODE_MULTI_CPU = 2
NM_OPT_SYNC_KLOOP_DIRECT_TX = 1
NM_OPT_SYNC_KLOOP_DIRECT_RX = 2

# --- memory that clients map ----------------------------------------------------------------------

netmap_slot = "netmap_slot" / Struct(
    "buf_idx" / Int32ul,
    "len" / Int16ul,
    "flags" / Int16ul,
    "ptr" / Int64ul,
)

_timeval = Struct("tv_sec" / Int64ul, "tv_usec" / Int64ul)
_timeval_i386 = Struct("tv_sec" / Int32ul, "tv_usec" / Int32ul)

_ring_head = (
    "buf_ofs" / Int64sl,
    "num_slots" / Int32ul,
    "nr_buf_size" / Int32ul,
    "ringid" / Int16ul,
    "dir" / Int16ul,
    "head" / Int32ul,
    "cur" / Int32ul,
    "tail" / Int32ul,
    "flags" / Int32ul,
)

#: Up to ``sem``; the slots follow.
netmap_ring = "netmap_ring" / Struct(
    *_ring_head,
    Padding(4),
    "ts" / _timeval,
    "offset_mask" / Int64ul,
    "buf_align" / Int64ul,
    Padding(56),
    "sem" / Bytes(NM_CACHE_ALIGN),
)

netmap_ring_i386 = "netmap_ring" / Struct(
    *_ring_head,
    "ts" / _timeval_i386,
    "offset_mask" / Int64ul,
    "buf_align" / Int64ul,
    Padding(68),
    "sem" / Bytes(NM_CACHE_ALIGN),
)

#: Up to ``ni_spare1``; one 64-bit offset for each ring follows.
netmap_if = "netmap_if" / Struct(
    "ni_name" / Bytes(16),
    "ni_version" / Int32ul,
    "ni_flags" / Int32ul,
    "ni_tx_rings" / Int32ul,
    "ni_rx_rings" / Int32ul,
    "ni_bufs_head" / Int32ul,
    "ni_host_tx_rings" / Int32ul,
    "ni_host_rx_rings" / Int32ul,
    "ni_spare1" / Bytes(12),
)

nm_csb_atok = "nm_csb_atok" / Struct(
    "head" / Int32ul,
    "cur" / Int32ul,
    "appl_need_kick" / Int32ul,
    "sync_flags" / Int32ul,
    "pad" / Bytes(48),
)

nm_csb_ktoa = "nm_csb_ktoa" / Struct(
    "hwcur" / Int32ul,
    "hwtail" / Int32ul,
    "kern_need_kick" / Int32ul,
    "pad" / Bytes(52),
)

# --- requests -------------------------------------------------------------------------------------

nmreq_header = "nmreq_header" / Struct(
    "nr_version" / Int16ul,
    "nr_reqtype" / Int16ul,
    "nr_reserved" / Int32ul,
    "nr_name" / Bytes(NETMAP_REQ_IFNAMSIZ),
    "nr_options" / Int64ul,
    "nr_body" / Int64ul,
)

nmreq_option = "nmreq_option" / Struct(
    "nro_next" / Int64ul,
    "nro_reqtype" / Int32ul,
    "nro_status" / Int32ul,
    "nro_size" / Int64ul,
)

_register_head = (
    "nr_offset" / Int64ul,
    "nr_memsize" / Int64ul,
    "nr_tx_slots" / Int32ul,
    "nr_rx_slots" / Int32ul,
    "nr_tx_rings" / Int16ul,
    "nr_rx_rings" / Int16ul,
    "nr_host_tx_rings" / Int16ul,
    "nr_host_rx_rings" / Int16ul,
    "nr_mem_id" / Int16ul,
    "nr_ringid" / Int16ul,
    "nr_mode" / Int32ul,
    "nr_extra_bufs" / Int32ul,
)

nmreq_register = "nmreq_register" / Struct(*_register_head, Padding(4), "nr_flags" / Int64ul)
nmreq_register_i386 = "nmreq_register" / Struct(*_register_head, "nr_flags" / Int64ul)

nmreq_port_info_get = "nmreq_port_info_get" / Struct(
    "nr_memsize" / Int64ul,
    "nr_tx_slots" / Int32ul,
    "nr_rx_slots" / Int32ul,
    "nr_tx_rings" / Int16ul,
    "nr_rx_rings" / Int16ul,
    "nr_host_tx_rings" / Int16ul,
    "nr_host_rx_rings" / Int16ul,
    "nr_mem_id" / Int16ul,
    "pad" / Array(3, Int16ul),
)

nmreq_vale_attach = "nmreq_vale_attach" / Struct(
    "reg" / nmreq_register, "port_index" / Int32ul, "pad1" / Int32ul
)
nmreq_vale_attach_i386 = "nmreq_vale_attach" / Struct(
    "reg" / nmreq_register_i386, "port_index" / Int32ul, "pad1" / Int32ul
)

nmreq_vale_detach = "nmreq_vale_detach" / Struct("port_index" / Int32ul, "pad1" / Int32ul)

nmreq_vale_list = "nmreq_vale_list" / Struct(
    "nr_bridge_idx" / Int16ul, "pad1" / Int16ul, "nr_port_idx" / Int32ul
)

nmreq_port_hdr = "nmreq_port_hdr" / Struct("nr_hdr_len" / Int32ul, "pad1" / Int32ul)

nmreq_vale_newif = "nmreq_vale_newif" / Struct(
    "nr_tx_slots" / Int32ul,
    "nr_rx_slots" / Int32ul,
    "nr_tx_rings" / Int16ul,
    "nr_rx_rings" / Int16ul,
    "nr_mem_id" / Int16ul,
    "pad1" / Int16ul,
)

nmreq_vale_polling = "nmreq_vale_polling" / Struct(
    "nr_mode" / Int32ul,
    "nr_first_cpu_id" / Int32ul,
    "nr_num_polling_cpus" / Int32ul,
    "pad1" / Int32ul,
)

nmreq_pools_info = "nmreq_pools_info" / Struct(
    "nr_memsize" / Int64ul,
    "nr_mem_id" / Int16ul,
    "pad1" / Array(3, Int16ul),
    "nr_if_pool_offset" / Int64ul,
    "nr_if_pool_objtotal" / Int32ul,
    "nr_if_pool_objsize" / Int32ul,
    "nr_ring_pool_offset" / Int64ul,
    "nr_ring_pool_objtotal" / Int32ul,
    "nr_ring_pool_objsize" / Int32ul,
    "nr_buf_pool_offset" / Int64ul,
    "nr_buf_pool_objtotal" / Int32ul,
    "nr_buf_pool_objsize" / Int32ul,
)

nmreq_sync_kloop_start = "nmreq_sync_kloop_start" / Struct("sleep_us" / Int32ul, "pad1" / Int32ul)

# --- options --------------------------------------------------------------------------------------

nmreq_opt_extmem = "nmreq_opt_extmem" / Struct(
    "nro_opt" / nmreq_option, "nro_usrptr" / Int64ul, "nro_info" / nmreq_pools_info
)

#: Two 32-bit descriptors for each ring follow: ioeventfd, irqfd.
nmreq_opt_sync_kloop_eventfds = "nmreq_opt_sync_kloop_eventfds" / Struct("nro_opt" / nmreq_option)

nmreq_opt_sync_kloop_mode = "nmreq_opt_sync_kloop_mode" / Struct(
    "nro_opt" / nmreq_option, "mode" / Int32ul, Padding(4)
)

nmreq_opt_csb = "nmreq_opt_csb" / Struct(
    "nro_opt" / nmreq_option, "csb_atok" / Int64ul, "csb_ktoa" / Int64ul
)

nmreq_opt_offsets = "nmreq_opt_offsets" / Struct(
    "nro_opt" / nmreq_option,
    "nro_max_offset" / Int64ul,
    "nro_initial_offset" / Int64ul,
    "nro_offset_bits" / Int32ul,
    "nro_tx_align" / Int32ul,
    "nro_min_gap" / Int64ul,
)

SLOT = derive(netmap_slot)
RING = derive(netmap_ring)
IF = derive(netmap_if)
ATOK = derive(nm_csb_atok)
KTOA = derive(nm_csb_ktoa)
HEADER = derive(nmreq_header)
OPTION = derive(nmreq_option)
REGISTER = derive(nmreq_register)
PORT_INFO = derive(nmreq_port_info_get)
VALE_ATTACH = derive(nmreq_vale_attach)
VALE_DETACH = derive(nmreq_vale_detach)
VALE_LIST = derive(nmreq_vale_list)
PORT_HDR = derive(nmreq_port_hdr)
VALE_NEWIF = derive(nmreq_vale_newif)
VALE_POLLING = derive(nmreq_vale_polling)
POOLS_INFO = derive(nmreq_pools_info)
KLOOP_START = derive(nmreq_sync_kloop_start)
OPT_EXTMEM = derive(nmreq_opt_extmem)
OPT_MODE = derive(nmreq_opt_sync_kloop_mode)
OPT_CSB = derive(nmreq_opt_csb)
OPT_OFFSETS = derive(nmreq_opt_offsets)

# The same in 32-bit words, which kernels load and store.
RING_W_head = RING.offsets["head"] // 4
RING_W_cur = RING.offsets["cur"] // 4
RING_W_tail = RING.offsets["tail"] // 4
RING_W_flags = RING.offsets["flags"] // 4
#: First word of slot 0, and words from one slot to the next.
RING_W_slot = RING.size // 4
SLOT_WORDS = SLOT.size // 4
SLOT_W_buf_idx = SLOT.offsets["buf_idx"] // 4
#: ``len`` in the low half, ``flags`` in the high half.
SLOT_W_len = SLOT_W_flags = SLOT.offsets["len"] // 4
SLOT_S_flags = SLOT.offsets["flags"] % 4 * 8
SLOT_W_ptr = SLOT.offsets["ptr"] // 4
if SLOT.offsets["flags"] // 4 != SLOT_W_len:
    raise AssertionError("len and flags of a slot do not share a word")
