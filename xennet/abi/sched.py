"""xen/sched.h: operations of a domain on its own vCPU, and why a domain shut down."""

from __future__ import annotations

from construct import Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive

# enum sched_op
SCHEDOP_yield = 0
SCHEDOP_block = 1
SCHEDOP_shutdown = 2
SCHEDOP_poll = 3
SCHEDOP_remote_shutdown = 4
SCHEDOP_shutdown_code = 5
SCHEDOP_watchdog = 6
SCHEDOP_pin_override = 7

# enum sched_shutdown_reason
SHUTDOWN_poweroff = 0
SHUTDOWN_reboot = 1
SHUTDOWN_suspend = 2
SHUTDOWN_crash = 3
SHUTDOWN_watchdog = 4
SHUTDOWN_soft_reset = 5
SHUTDOWN_MAX = 5

sched_shutdown = "sched_shutdown" / Struct("reason" / Int32ul)

sched_poll = "sched_poll" / Struct(
    "ports" / Int64ul,
    "nr_ports" / Int32ul,
    Padding(4),
    "timeout" / Int64ul,
)

SCHED_SHUTDOWN = derive(sched_shutdown)
SCHED_POLL = derive(sched_poll)
