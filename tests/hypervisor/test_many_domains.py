"""Two hundred domains, ten channels each."""

from __future__ import annotations

import random

from xennet.abi.xen import DOMID_SELF
from xennet.hypervisor import Machine

DOMAINS, CHANNELS = 200, 10


def test_two_hundred_domains_with_ten_channels_each() -> None:
    machine = Machine(DOMAINS * 8, max_grant_frames=1)
    dom0 = machine.create_domain()
    empty = machine.memory.used
    answers: dict[int, int] = {}
    ports = []
    for _ in range(DOMAINS):
        guest = machine.create_domain()
        answers[guest.domid] = 0
        for _ in range(CHANNELS):
            port = guest.alloc_unbound(DOMID_SELF, 0)
            local = dom0.bind_interdomain(guest.domid, port)

            def answered(domid=guest.domid) -> None:
                answers[domid] += 1

            guest.set_handler(port, lambda guest=guest, port=port: guest.send(port))
            dom0.set_handler(local, answered)
            guest.unmask(port)
            dom0.unmask(local)
            ports.append(local)
    machine.run_loop.run_until_idle()
    assert set(answers.values()) == {CHANNELS}  # a fresh binding is pending at the binder

    random.Random(1).shuffle(ports)
    for port in ports:
        dom0.send(port)
    assert machine.run_loop.run_until_idle() == 2 * DOMAINS * CHANNELS
    assert set(answers.values()) == {2 * CHANNELS}

    for domid in answers:
        machine.destroy_domain(domid)
    machine.run_loop.run_until_idle()
    assert machine.memory.used == empty
    assert [channel.remote_port for channel in machine.channels.open_channels(0)] == [0] * len(
        ports
    )
