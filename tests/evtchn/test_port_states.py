"""The port state machine: every operation on a port in every state, as xen/common/event_channel.c
decides it. Results are the port's new EVTCHNSTAT_ or the negative errno."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from xennet.abi.event_channel import (
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
)
from xennet.abi.xen import DOMID_SELF, VIRQ_ARGO, VIRQ_TIMER
from xennet.interface import HypercallError

SELF = 1

CLOSED, UNBOUND, INTERDOMAIN, VIRQ, IPI = (
    EVTCHNSTAT_closed,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_virq,
    EVTCHNSTAT_ipi,
)
INVALID = -errno.EINVAL


def _closed(bench) -> int:
    port = bench.channels.bind_ipi(SELF, 0)
    bench.channels.close(SELF, port)
    return port


#: How domain 1 comes to a port in each state.
STATES: dict[str, Callable] = {
    "beyond the table": lambda bench: 64,
    "negative": lambda bench: -1,
    "port 0": lambda bench: 0,
    "closed": _closed,
    "unbound": lambda bench: bench.channels.alloc_unbound(SELF, SELF, 2),
    "interdomain": lambda bench: bench.connect(SELF, 2)[0],
    "global virq": lambda bench: bench.channels.bind_virq(SELF, VIRQ_ARGO, 0),
    "vcpu virq": lambda bench: bench.channels.bind_virq(SELF, VIRQ_TIMER, 1),
    "ipi": lambda bench: bench.channels.bind_ipi(SELF, 1),
}

#: The operations, made by domain 1 on its port, or by domain 2 that wants to bind to it.
OPERATIONS: dict[str, Callable] = {
    "send": lambda channels, port: channels.send(SELF, port),
    "close": lambda channels, port: channels.close(SELF, port),
    "unmask": lambda channels, port: channels.unmask(SELF, port),
    "bind_vcpu": lambda channels, port: channels.bind_vcpu(SELF, port, 1),
    "status": lambda channels, port: channels.status(SELF, DOMID_SELF, port),
    "bind_interdomain": lambda channels, port: channels.bind_interdomain(2, SELF, port),
}

TABLE: dict[str, dict[str, int]] = {
    "send": {
        "beyond the table": INVALID,
        "negative": INVALID,
        "port 0": INVALID,
        "closed": INVALID,
        "unbound": UNBOUND,
        "interdomain": INTERDOMAIN,
        "global virq": INVALID,
        "vcpu virq": INVALID,
        "ipi": IPI,
    },
    "close": {
        "beyond the table": INVALID,
        "negative": INVALID,
        "port 0": INVALID,
        "closed": INVALID,
        "unbound": CLOSED,
        "interdomain": CLOSED,
        "global virq": CLOSED,
        "vcpu virq": CLOSED,
        "ipi": CLOSED,
    },
    "unmask": {
        "beyond the table": INVALID,
        "negative": INVALID,
        "port 0": CLOSED,
        "closed": CLOSED,
        "unbound": UNBOUND,
        "interdomain": INTERDOMAIN,
        "global virq": VIRQ,
        "vcpu virq": VIRQ,
        "ipi": IPI,
    },
    "bind_vcpu": {
        "beyond the table": INVALID,
        "negative": INVALID,
        "port 0": INVALID,
        "closed": INVALID,
        "unbound": UNBOUND,
        "interdomain": INTERDOMAIN,
        "global virq": VIRQ,
        "vcpu virq": INVALID,
        "ipi": INVALID,
    },
    "status": {
        "beyond the table": INVALID,
        "negative": INVALID,
        "port 0": CLOSED,
        "closed": CLOSED,
        "unbound": UNBOUND,
        "interdomain": INTERDOMAIN,
        "global virq": VIRQ,
        "vcpu virq": VIRQ,
        "ipi": IPI,
    },
    "bind_interdomain": {
        "beyond the table": INVALID,
        "negative": INVALID,
        "port 0": INVALID,
        "closed": INVALID,
        "unbound": INTERDOMAIN,
        "interdomain": INVALID,
        "global virq": INVALID,
        "vcpu virq": INVALID,
        "ipi": INVALID,
    },
}

CASES = [(op, state, result) for op, row in TABLE.items() for state, result in row.items()]


@pytest.mark.parametrize(("op", "state", "result"), CASES)
def test_operation_on_a_port_in_a_state(bench, op: str, state: str, result: int) -> None:
    port = STATES[state](bench)
    if result < 0:
        before = bench.channels.open_channels(SELF)
        with pytest.raises(HypercallError) as refusal:
            OPERATIONS[op](bench.channels, port)
        assert (refusal.value.op, refusal.value.status) == (f"EVTCHNOP_{op}", result)
        assert bench.channels.open_channels(SELF) == before
    else:
        OPERATIONS[op](bench.channels, port)
        assert bench.channels.status(SELF, DOMID_SELF, port).status == result


def test_the_table_covers_every_operation_and_state() -> None:
    assert TABLE.keys() == OPERATIONS.keys()
    assert all(row.keys() == STATES.keys() for row in TABLE.values())
