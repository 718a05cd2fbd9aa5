"""A whole vif between domains that receive their events by either ABI: the drivers see no
difference."""

from __future__ import annotations

from typing import Any

import pytest
from vif_peers import Stack

from xennet.hypervisor import Domain, Machine
from xennet.link.vif import VifLink

DOMAINS = {"both": {0, 1}, "guest": {1}, "control domain": {0}, "neither": set[int]()}


@pytest.mark.parametrize("who", DOMAINS)
def test_a_vif_carries_frames_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    create = Machine.create_domain

    def with_abi(self: Machine, domid: int | None = None, **options: Any) -> Domain:
        number = len(self.domains) if domid is None else domid
        options["evtchn_abi"] = "fifo" if number in DOMAINS[who] else "2l"
        return create(self, domid, **options)

    monkeypatch.setattr(Machine, "create_domain", with_abi)
    guest, host = Stack(), Stack()
    link = VifLink(guest, host)
    try:
        link.open()
        assert {d.domid for d in link.machine.domains if d.evtchn_abi == "fifo"} == DOMAINS[who]
        up = [bytes([n % 256]) * (60 + n % 1400) for n in range(600)]
        down = [bytes([n % 251]) * (1500 - n % 1400) for n in range(600)]
        guest.to_send, host.to_send = list(up), list(down)
        link.carry()
        assert (host.received, guest.received) == (up, down)
        link.close()
        assert not link.leaks(), str(link.leaks())
    finally:
        link.destroy()
