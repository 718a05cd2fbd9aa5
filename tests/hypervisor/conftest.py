"""A small machine with a XenStore service, the control domain and two guests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import define

from xennet.hypervisor import Domain, Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.xenstored.service import XenStoreService


@define
class Site:
    machine: Machine
    service: XenStoreService
    dom0: Domain
    front: Domain
    back: Domain
    abi: str

    def kernel(self, domain: Domain) -> GuestKernel:
        return GuestKernel(domain, self.service.connect(domain))

    def run(self) -> int:
        return self.machine.run_loop.run_until_idle()


@pytest.fixture(params=["2l", "fifo"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Everything holds with either ABI of event channels."""
    abi = request.param
    machine = Machine(1024, max_grant_frames=4)
    dom0 = machine.create_domain(name="Domain-0", evtchn_abi=abi)
    service = XenStoreService(machine)
    yield Site(
        machine,
        service,
        dom0,
        machine.create_domain(name="front", evtchn_abi=abi),
        machine.create_domain(name="back", evtchn_abi=abi),
        abi,
    )
    machine.close()
