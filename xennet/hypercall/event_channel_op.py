"""HYPERVISOR_event_channel_op (xen/event_channel.h; xen/common/event_channel.c
do_event_channel_op)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xennet.abi.codec import Codec
from xennet.abi.event_channel import (
    EVTCHN_ALLOC_UNBOUND,
    EVTCHN_BIND_INTERDOMAIN,
    EVTCHN_BIND_IPI,
    EVTCHN_BIND_PIRQ,
    EVTCHN_BIND_VCPU,
    EVTCHN_BIND_VIRQ,
    EVTCHN_CLOSE,
    EVTCHN_EXPAND_ARRAY,
    EVTCHN_INIT_CONTROL,
    EVTCHN_RESET,
    EVTCHN_SEND,
    EVTCHN_SET_PRIORITY,
    EVTCHN_STATUS_INTERDOMAIN,
    EVTCHN_STATUS_UNBOUND,
    EVTCHN_STATUS_VIRQ,
    EVTCHN_UNMASK,
    EVTCHNOP_alloc_unbound,
    EVTCHNOP_bind_interdomain,
    EVTCHNOP_bind_ipi,
    EVTCHNOP_bind_pirq,
    EVTCHNOP_bind_vcpu,
    EVTCHNOP_bind_virq,
    EVTCHNOP_close,
    EVTCHNOP_expand_array,
    EVTCHNOP_init_control,
    EVTCHNOP_reset,
    EVTCHNOP_send,
    EVTCHNOP_set_priority,
    EVTCHNOP_status,
    EVTCHNOP_unmask,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_virq,
)
from xennet.hypercall.caller import Caller, no_such_op
from xennet.hypervisor import Domain


def _status(domain: Domain, asked: Any) -> bytes:
    found = domain.status(asked.dom, asked.port)
    head = asked.dom, asked.port, found.status, found.vcpu
    if found.status == EVTCHNSTAT_interdomain:
        return EVTCHN_STATUS_INTERDOMAIN.pack(*head, found.dom, found.port)
    if found.status == EVTCHNSTAT_virq:
        return EVTCHN_STATUS_VIRQ.pack(*head, found.virq)
    return EVTCHN_STATUS_UNBOUND.pack(*head, found.dom)


def _init_control(domain: Domain, asked: Any) -> bytes:
    link_bits = domain.init_control(asked.control_gfn, asked.offset, asked.vcpu)
    return EVTCHN_INIT_CONTROL.pack(*asked._replace(link_bits=link_bits))


def _alloc_unbound(domain: Domain, asked: Any) -> bytes:
    port = domain.alloc_unbound(asked.dom, asked.remote_dom)
    return EVTCHN_ALLOC_UNBOUND.pack(asked.dom, asked.remote_dom, port)


def _bind_interdomain(domain: Domain, asked: Any) -> bytes:
    port = domain.bind_interdomain(asked.remote_dom, asked.remote_port)
    return EVTCHN_BIND_INTERDOMAIN.pack(asked.remote_dom, asked.remote_port, port)


def _bind_virq(domain: Domain, asked: Any) -> bytes:
    return EVTCHN_BIND_VIRQ.pack(asked.virq, asked.vcpu, domain.bind_virq(asked.virq, asked.vcpu))


def _bind_ipi(domain: Domain, asked: Any) -> bytes:
    return EVTCHN_BIND_IPI.pack(asked.vcpu, domain.bind_ipi(asked.vcpu))


def _bind_pirq(domain: Domain, asked: Any) -> bytes:
    return EVTCHN_BIND_PIRQ.pack(asked.pirq, asked.flags, domain.bind_pirq(asked.pirq, asked.flags))


#: By EVTCHNOP_*: the structure that is read, and what to do with it. The answer, if there is one,
#: is written over the structure.
_OPERATIONS: dict[int, tuple[Codec, Callable[[Domain, Any], bytes | None]]] = {
    EVTCHNOP_bind_interdomain: (EVTCHN_BIND_INTERDOMAIN, _bind_interdomain),
    EVTCHNOP_bind_virq: (EVTCHN_BIND_VIRQ, _bind_virq),
    EVTCHNOP_bind_pirq: (EVTCHN_BIND_PIRQ, _bind_pirq),
    EVTCHNOP_close: (EVTCHN_CLOSE, lambda domain, asked: domain.close(asked.port)),
    EVTCHNOP_send: (EVTCHN_SEND, lambda domain, asked: domain.send(asked.port)),
    EVTCHNOP_status: (EVTCHN_STATUS_UNBOUND, _status),
    EVTCHNOP_alloc_unbound: (EVTCHN_ALLOC_UNBOUND, _alloc_unbound),
    EVTCHNOP_bind_ipi: (EVTCHN_BIND_IPI, _bind_ipi),
    EVTCHNOP_bind_vcpu: (
        EVTCHN_BIND_VCPU,
        lambda domain, asked: domain.bind_vcpu(asked.port, asked.vcpu),
    ),
    EVTCHNOP_unmask: (EVTCHN_UNMASK, lambda domain, asked: domain.unmask(asked.port)),
    EVTCHNOP_reset: (EVTCHN_RESET, lambda domain, asked: domain.reset(asked.dom)),
    EVTCHNOP_init_control: (EVTCHN_INIT_CONTROL, _init_control),
    EVTCHNOP_expand_array: (
        EVTCHN_EXPAND_ARRAY,
        lambda domain, asked: domain.expand_array(asked.array_gfn),
    ),
    EVTCHNOP_set_priority: (
        EVTCHN_SET_PRIORITY,
        lambda domain, asked: domain.set_priority(asked.port, asked.priority),
    ),
}


def event_channel_op(caller: Caller, cmd: int, arg: int, _: int) -> int:
    """One operation on the structure at ``arg``. Returns 0."""
    if cmd not in _OPERATIONS:
        raise no_such_op("HYPERVISOR_event_channel_op", cmd)
    codec, operation = _OPERATIONS[cmd]
    answer = operation(caller.domain, codec.read(caller.memory.read(arg, codec.size)))
    if answer is not None:
        caller.memory.write(arg, answer)
    return 0
