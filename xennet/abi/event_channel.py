"""xen/event_channel.h: operations on event channels, and the two ways to show pending ports."""

from __future__ import annotations

from construct import Array, Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive, union
from xennet.abi.xen import PAGE_SIZE

# enum event_channel_op
EVTCHNOP_bind_interdomain = 0
EVTCHNOP_bind_virq = 1
EVTCHNOP_bind_pirq = 2
EVTCHNOP_close = 3
EVTCHNOP_send = 4
EVTCHNOP_status = 5
EVTCHNOP_alloc_unbound = 6
EVTCHNOP_bind_ipi = 7
EVTCHNOP_bind_vcpu = 8
EVTCHNOP_unmask = 9
EVTCHNOP_reset = 10
EVTCHNOP_init_control = 11
EVTCHNOP_expand_array = 12
EVTCHNOP_set_priority = 13
EVTCHNOP_reset_cont = 14  # Xen's own continuation, never a guest's

# evtchn_status.status
EVTCHNSTAT_closed = 0
EVTCHNSTAT_unbound = 1
EVTCHNSTAT_interdomain = 2
EVTCHNSTAT_pirq = 3
EVTCHNSTAT_virq = 4
EVTCHNSTAT_ipi = 5

# evtchn_bind_pirq.flags
BIND_PIRQ__WILL_SHARE = 1

# 2-level ABI: ports of a 64-bit guest (64 words of 64 bits)
EVTCHN_2L_NR_CHANNELS = 8 * 8 * 64

# FIFO ABI: priorities from 0 (highest) to 15 (lowest), one queue each
EVTCHN_FIFO_PRIORITY_MAX = 0
EVTCHN_FIFO_PRIORITY_DEFAULT = 7
EVTCHN_FIFO_PRIORITY_MIN = 15
EVTCHN_FIFO_MAX_QUEUES = EVTCHN_FIFO_PRIORITY_MIN + 1

# FIFO ABI: bit numbers in an event word; bits 0..16 link to the next port (0 ends the queue)
EVTCHN_FIFO_PENDING = 31
EVTCHN_FIFO_MASKED = 30
EVTCHN_FIFO_LINKED = 29
EVTCHN_FIFO_BUSY = 28
EVTCHN_FIFO_LINK_BITS = 17
EVTCHN_FIFO_LINK_MASK = (1 << EVTCHN_FIFO_LINK_BITS) - 1
EVTCHN_FIFO_NR_CHANNELS = 1 << EVTCHN_FIFO_LINK_BITS

event_word_t = Int32ul
EVTCHN_FIFO_WORDS_PER_PAGE: int = PAGE_SIZE // event_word_t.sizeof()

evtchn_alloc_unbound = "evtchn_alloc_unbound" / Struct(
    "dom" / Int16ul,
    "remote_dom" / Int16ul,
    "port" / Int32ul,
)

evtchn_bind_interdomain = "evtchn_bind_interdomain" / Struct(
    "remote_dom" / Int16ul,
    Padding(2),
    "remote_port" / Int32ul,
    "local_port" / Int32ul,
)

evtchn_bind_virq = "evtchn_bind_virq" / Struct(
    "virq" / Int32ul,
    "vcpu" / Int32ul,
    "port" / Int32ul,
)

evtchn_bind_pirq = "evtchn_bind_pirq" / Struct(
    "pirq" / Int32ul,
    "flags" / Int32ul,
    "port" / Int32ul,
)

evtchn_bind_ipi = "evtchn_bind_ipi" / Struct(
    "vcpu" / Int32ul,
    "port" / Int32ul,
)

evtchn_close = "evtchn_close" / Struct("port" / Int32ul)

evtchn_send = "evtchn_send" / Struct("port" / Int32ul)

evtchn_status = "evtchn_status" / Struct(
    "dom" / Int16ul,
    Padding(2),
    "port" / Int32ul,
    "status" / Int32ul,
    "vcpu" / Int32ul,
    "u"
    / union(
        "unbound" / Struct("dom" / Int16ul),
        "interdomain" / Struct("dom" / Int16ul, Padding(2), "port" / Int32ul),
        "pirq" / Int32ul,
        "virq" / Int32ul,
    ),
)

evtchn_bind_vcpu = "evtchn_bind_vcpu" / Struct(
    "port" / Int32ul,
    "vcpu" / Int32ul,
)

evtchn_unmask = "evtchn_unmask" / Struct("port" / Int32ul)

evtchn_reset = "evtchn_reset" / Struct("dom" / Int16ul)

evtchn_init_control = "evtchn_init_control" / Struct(
    "control_gfn" / Int64ul,
    "offset" / Int32ul,
    "vcpu" / Int32ul,
    "link_bits" / Int8ul,
    "_pad" / Bytes(7),
)

evtchn_expand_array = "evtchn_expand_array" / Struct("array_gfn" / Int64ul)

evtchn_set_priority = "evtchn_set_priority" / Struct(
    "port" / Int32ul,
    "priority" / Int32ul,
)

# The argument of the old event_channel_op hypercall
evtchn_op = "evtchn_op" / Struct(
    "cmd" / Int32ul,
    "u"
    / union(
        "alloc_unbound" / evtchn_alloc_unbound,
        "bind_interdomain" / evtchn_bind_interdomain,
        "bind_virq" / evtchn_bind_virq,
        "bind_pirq" / evtchn_bind_pirq,
        "bind_ipi" / evtchn_bind_ipi,
        "close" / evtchn_close,
        "send" / evtchn_send,
        "status" / evtchn_status,
        "bind_vcpu" / evtchn_bind_vcpu,
        "unmask" / evtchn_unmask,
    ),
)

evtchn_fifo_control_block = "evtchn_fifo_control_block" / Struct(
    "ready" / Int32ul,
    "_rsvd" / Int32ul,
    "head" / Array(EVTCHN_FIFO_MAX_QUEUES, Int32ul),
)

FIFO_CONTROL_BLOCK = derive(evtchn_fifo_control_block)
EVTCHN_ALLOC_UNBOUND = derive(evtchn_alloc_unbound)
EVTCHN_BIND_INTERDOMAIN = derive(evtchn_bind_interdomain)
EVTCHN_BIND_VIRQ = derive(evtchn_bind_virq)
EVTCHN_BIND_PIRQ = derive(evtchn_bind_pirq)
EVTCHN_BIND_IPI = derive(evtchn_bind_ipi)
EVTCHN_BIND_VCPU = derive(evtchn_bind_vcpu)
EVTCHN_CLOSE = derive(evtchn_close)
EVTCHN_SEND = derive(evtchn_send)
EVTCHN_UNMASK = derive(evtchn_unmask)
EVTCHN_RESET = derive(evtchn_reset)
EVTCHN_INIT_CONTROL = derive(evtchn_init_control)
EVTCHN_EXPAND_ARRAY = derive(evtchn_expand_array)
EVTCHN_SET_PRIORITY = derive(evtchn_set_priority)

# evtchn_status by its state; of a port that is closed or an IPI the union says nothing
EVTCHN_STATUS_UNBOUND = derive(evtchn_status, union={"u": "unbound"})
EVTCHN_STATUS_INTERDOMAIN = derive(evtchn_status, union={"u": "interdomain"})
EVTCHN_STATUS_VIRQ = derive(evtchn_status, union={"u": "virq"})
