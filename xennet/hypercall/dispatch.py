"""The hypercalls by their numbers."""

from __future__ import annotations

import errno

from xennet.abi.xen import (
    __HYPERVISOR_event_channel_op,
    __HYPERVISOR_grant_table_op,
    __HYPERVISOR_memory_op,
    __HYPERVISOR_sched_op,
    __HYPERVISOR_xen_version,
)
from xennet.hypercall.caller import Caller, HypercallFunction, no_such_op
from xennet.hypercall.event_channel_op import event_channel_op
from xennet.hypercall.grant_table_op import grant_table_op
from xennet.hypercall.memory_op import memory_op
from xennet.hypercall.sched_op import sched_op
from xennet.hypercall.xen_version import xen_version
from xennet.interface import HypercallError, OutOfFramesError

_HYPERCALLS: dict[int, HypercallFunction] = {
    __HYPERVISOR_memory_op: memory_op,
    __HYPERVISOR_xen_version: xen_version,
    __HYPERVISOR_grant_table_op: grant_table_op,
    __HYPERVISOR_sched_op: sched_op,
    __HYPERVISOR_event_channel_op: event_channel_op,
}


def hypercall(caller: Caller, number: int, a1: int = 0, a2: int = 0, a3: int = 0) -> int:
    """Make hypercall ``number`` (``__HYPERVISOR_*``) with these registers. Returns what it returns.

    Raises OSError with the errno that Xen returns negated: ENOSYS for a hypercall or an operation
    that this machine does not have, EFAULT for a bad pointer, ESRCH if the domain does not run.
    """
    function = _HYPERCALLS.get(number)
    if function is None:
        raise no_such_op("hypercall", number)
    try:
        result = function(caller, a1 & 0xFFFFFFFF, a2, a3)
    except HypercallError as refusal:
        raise OSError(-refusal.status, str(refusal)) from refusal
    except OutOfFramesError as full:
        raise OSError(errno.ENOMEM, str(full)) from full
    if result < 0:
        raise OSError(-result, f"hypercall {number}, {a1:#x}")
    return result
