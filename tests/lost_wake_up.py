"""A lost wake-up as it happens: a machine whose backend looks before it asks for an event."""

from __future__ import annotations

import pytest

from xennet import Host, open_port
from xennet.abi.words import REQ_EVENT, REQ_PROD
from xennet.netback import guest_tx
from xennet.ring import BACK_REQ_CONS, MASK32
from xennet.testing.network_stack import NetworkStack
from xennet.trace.recorder import recording
from xennet.trace.stream import Event, header_of

#: The rule that the backend breaks.
RULE = "ring.final-check"


def record_lost_wake_up() -> tuple[Event, list[Event]]:
    """The header and the events of a recording.

    A guest sends a frame; the backend takes it, finds no other, and is about to ask for an event
    when the guest sends another one. The backend, which does not look again, sleeps. The "check" at
    the end has the store of req_event as its cause.
    """
    events: list[Event] = []
    with pytest.MonkeyPatch.context() as patch, recording() as recorder:
        stack, calls = NetworkStack(), []

        def await_requests(ring: guest_tx.Ring) -> int:
            page, pvt = ring
            cons = pvt[BACK_REQ_CONS]
            if page[REQ_PROD] != cons:
                return 1
            if calls:
                calls.pop()()
            page[REQ_EVENT] = (cons + 1) & MASK32
            return 0

        patch.setattr(guest_tx, "await_requests", await_requests)
        host = Host()
        recorder.sink(events.append)
        recorder.attach(host.machine)
        host.dom0.load()
        guest = host.add_guest()
        guest.boot()
        vif = host.plug(guest, 0, stack, open_port("null:"))
        host.settle()

        def send() -> None:
            stack.to_send.append(bytes(range(60)))
            vif.kick_guest()

        def meanwhile() -> None:
            send()
            while host.machine.run_loop.step_meanwhile(0):  # domain 0 waits, the guest goes on
                pass

        calls.append(meanwhile)
        send()
        host.settle()
        store = next(e["n"] for e in reversed(events) if e.get("field") == "req_event")
        now, why = host.machine.run_loop.now, "a request waits, and nobody is told of it"
        recorder.check(RULE, "FAIL", why, now, store)
        recorder.detach()
    assert vif.connected
    return header_of(["lost-wake-up"]), events
