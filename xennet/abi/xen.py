"""xen/xen.h: pages, domain ids, hypercalls, virtual interrupts, the shared info page and what a PV
guest finds when it starts (LP64 x86).

A 32-bit x86 guest has 4-byte words here: 1024 event channels and other offsets.
"""

from __future__ import annotations

from construct import Array, Bytes, Int8sl, Int8ul, Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive, union

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

# Domain ids from here on are no ordinary domains
DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
DOMID_IO = 0x7FF1
DOMID_XEN = 0x7FF2
DOMID_COW = 0x7FF3
DOMID_INVALID = 0x7FF4
DOMID_ANY = 0x7FF5  # younger than the 4.17 headers
DOMID_IDLE = 0x7FFF
DOMID_MASK = 0x7FFF

# Numbers of hypercalls
__HYPERVISOR_memory_op = 12
__HYPERVISOR_xen_version = 17
__HYPERVISOR_grant_table_op = 20
__HYPERVISOR_sched_op = 29
__HYPERVISOR_event_channel_op = 32

# enum virq; 5, 14 and 15 have no name
VIRQ_TIMER = 0
VIRQ_DEBUG = 1
VIRQ_CONSOLE = 2
VIRQ_DOM_EXC = 3
VIRQ_TBUF = 4
VIRQ_DEBUGGER = 6
VIRQ_XENOPROF = 7
VIRQ_CON_RING = 8
VIRQ_PCPU_STATE = 9
VIRQ_MEM_EVENT = 10
VIRQ_ARGO = 11
VIRQ_ENOMEM = 12
VIRQ_XENPMU = 13
VIRQ_ARCH_0 = 16
VIRQ_ARCH_1 = 17
VIRQ_ARCH_2 = 18
VIRQ_ARCH_3 = 19
VIRQ_ARCH_4 = 20
VIRQ_ARCH_5 = 21
VIRQ_ARCH_6 = 22
VIRQ_ARCH_7 = 23
NR_VIRQS = 24

# Those marked "V." in the header: bound once per vCPU.  All others are global, bound once per
# domain on vCPU 0 and movable (Xen virq_is_global; x86 calls all VIRQ_ARCH_* global).
VIRQS_PER_VCPU = frozenset({VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU})
VIRQS_GLOBAL = frozenset(range(NR_VIRQS)) - VIRQS_PER_VCPU

XEN_LEGACY_MAX_VCPUS = 32

arch_vcpu_info = "arch_vcpu_info" / Struct(
    "cr2" / Int64ul,
    "pad" / Int64ul,
)

vcpu_time_info = "vcpu_time_info" / Struct(
    "version" / Int32ul,
    "pad0" / Int32ul,
    "tsc_timestamp" / Int64ul,
    "system_time" / Int64ul,
    "tsc_to_system_mul" / Int32ul,
    "tsc_shift" / Int8sl,
    "flags" / Int8ul,
    "pad1" / Bytes(2),
)

vcpu_info = "vcpu_info" / Struct(
    "evtchn_upcall_pending" / Int8ul,
    "evtchn_upcall_mask" / Int8ul,
    Padding(6),
    "evtchn_pending_sel" / Int64ul,
    "arch" / arch_vcpu_info,
    "time" / vcpu_time_info,
)

arch_shared_info = "arch_shared_info" / Struct(
    "max_pfn" / Int64ul,
    "pfn_to_mfn_frame_list_list" / Int64ul,
    "nmi_reason" / Int64ul,
    "p2m_cr3" / Int64ul,
    "p2m_vaddr" / Int64ul,
    "p2m_generation" / Int64ul,
)

shared_info = "shared_info" / Struct(
    "vcpu_info" / Array(XEN_LEGACY_MAX_VCPUS, vcpu_info),
    "evtchn_pending" / Array(64, Int64ul),
    "evtchn_mask" / Array(64, Int64ul),
    "wc_version" / Int32ul,
    "wc_sec" / Int32ul,
    "wc_nsec" / Int32ul,
    "wc_sec_hi" / Int32ul,
    "arch" / arch_shared_info,
)

# start_info.cmd_line, in bytes
MAX_GUEST_CMDLINE = 1024

start_info = "start_info" / Struct(
    "magic" / Bytes(32),
    "nr_pages" / Int64ul,
    "shared_info" / Int64ul,
    "flags" / Int32ul,
    Padding(4),
    "store_mfn" / Int64ul,
    "store_evtchn" / Int32ul,
    Padding(4),
    "console"
    / union(
        "domU" / Struct("mfn" / Int64ul, "evtchn" / Int32ul, Padding(4)),
        "dom0" / Struct("info_off" / Int32ul, "info_size" / Int32ul),
    ),
    "pt_base" / Int64ul,
    "nr_pt_frames" / Int64ul,
    "mfn_list" / Int64ul,
    "mod_start" / Int64ul,
    "mod_len" / Int64ul,
    "cmd_line" / Bytes(MAX_GUEST_CMDLINE),
    "first_p2m_pfn" / Int64ul,
    "nr_p2m_frames" / Int64ul,
)

VCPU_INFO = derive(vcpu_info)
START_INFO = derive(start_info, union={"console": "domU"})
