"""HYPERVISOR_sched_op (xen/sched.h; xen/common/sched/core.c do_sched_op).

A call never sleeps: to wait is the program's part, on the descriptor through which it is told of
upcalls.
"""

from __future__ import annotations

import errno

from xennet.abi.sched import (
    SCHED_POLL,
    SCHED_SHUTDOWN,
    SCHEDOP_block,
    SCHEDOP_poll,
    SCHEDOP_shutdown,
    SCHEDOP_yield,
)
from xennet.hypercall.caller import Caller, no_such_op, refused

#: Most ports of one SCHEDOP_poll (xen/common/sched/core.c do_poll).
_MOST_POLLED = 128
_PORT = 4


def _shutdown(caller: Caller, arg: int) -> int:
    asked = SCHED_SHUTDOWN.read(caller.memory.read(arg, SCHED_SHUTDOWN.size))
    caller.shut_down(asked.reason & 0xFF)
    return 0


def _poll(caller: Caller, arg: int) -> int:
    asked = SCHED_POLL.read(caller.memory.read(arg, SCHED_POLL.size))
    if asked.nr_ports > _MOST_POLLED:
        raise refused(errno.EINVAL, f"{asked.nr_ports} ports")
    data = caller.memory.read(asked.ports, _PORT * asked.nr_ports) if asked.nr_ports else b""
    return int(caller.domain.await_ports(memoryview(data).cast("I")))


def sched_op(caller: Caller, cmd: int, arg: int, _: int) -> int:
    """SCHEDOP_poll returns 1 if a port is pending and 0 if the program has to wait for an upcall;
    everything else returns 0."""
    if cmd in (SCHEDOP_yield, SCHEDOP_block):
        return 0
    if cmd == SCHEDOP_shutdown:
        return _shutdown(caller, arg)
    if cmd == SCHEDOP_poll:
        return _poll(caller, arg)
    raise no_such_op("HYPERVISOR_sched_op", cmd)
