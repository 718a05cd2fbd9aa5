"""Fixtures for tests of drivers, for pytest.

An installed xennet brings them along (entry point ``xennet`` of the group pytest11). They import
nothing of xennet before a test asks for one.

``xennet_host`` is a host with one vif. Who drives the ends of it follows from what a test asks for:
``xennet_frontend`` and ``xennet_backend`` are driven by hand, the others are xennet's, or yours
where a test module or a conftest has a fixture ``xennet_frontend_drivers`` or
``xennet_backend_drivers`` of its own. At the end of a test that has passed nothing may be left of
grants, mappings, ports and pages.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from xennet.host import Host
    from xennet.host.domains import PluggedVif
    from xennet.testing.minimal_hypervisor import MinimalMachine
    from xennet.testing.raw_backend import RawBackend
    from xennet.testing.raw_frontend import RawFrontend
    from xennet.testing.vif_setup import BackendDrivers, FrontendDrivers, VifSetup

_PASSED = pytest.StashKey[bool]()
MAY_LEAK = "xennet_may_leak"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MAY_LEAK}(reason): what xennet's fixtures find left at the end is no failure"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report


def _require_nothing(request: pytest.FixtureRequest, left: object) -> None:
    """Fail if anything is ``left`` after a test that has passed. A test that has failed had no
    chance to tidy up."""
    item = request.node
    if left and item.stash.get(_PASSED, False) and item.get_closest_marker(MAY_LEAK) is None:
        pytest.fail(f"the test has left something behind:\n{left}", pytrace=False)


@pytest.fixture
def xennet_machine(request: pytest.FixtureRequest) -> Iterator[MinimalMachine]:
    """An empty machine, the smallest that a driver runs on (xennet.testing.MinimalMachine)."""
    from xennet.testing.minimal_hypervisor import MinimalMachine

    machine = MinimalMachine()
    yield machine
    _require_nothing(request, "\n".join(machine.held()))


@pytest.fixture
def xennet_frontend_drivers() -> FrontendDrivers:
    """What the guest loads, as ``drivers`` of Host.add_guest. To be overridden."""
    return "xennet"


@pytest.fixture
def xennet_backend_drivers() -> BackendDrivers:
    """What domain 0 loads, as ``drivers`` of Host. To be overridden."""
    return "xennet"


@pytest.fixture
def _xennet_setup(
    request: pytest.FixtureRequest,
    xennet_frontend_drivers: FrontendDrivers,
    xennet_backend_drivers: BackendDrivers,
) -> Iterator[VifSetup]:
    from xennet.testing.vif_setup import RAW, VifSetup

    wanted = request.fixturenames
    setup = VifSetup.make(
        frontend=RAW if "xennet_frontend" in wanted else xennet_frontend_drivers,
        backend=RAW if "xennet_backend" in wanted else xennet_backend_drivers,
    )
    yield setup
    left = setup.finish()
    setup.host.destroy()
    _require_nothing(request, left)


@pytest.fixture
def xennet_host(_xennet_setup: VifSetup) -> Host:
    """A host: domain 0 with its toolstack and store, a guest, and a vif between them."""
    return _xennet_setup.host


@pytest.fixture
def xennet_vif(_xennet_setup: VifSetup) -> PluggedVif:
    """The vif of ``xennet_host``: connected, where no end of it is driven by hand. What is behind
    its drivers, ``guest_end`` and ``host_end``, are NetworkStacks, or an echo where the other end
    is driven by hand."""
    return _xennet_setup.vif


@pytest.fixture
def xennet_frontend(_xennet_setup: VifSetup) -> RawFrontend:
    """The frontend of ``xennet_vif``, driven by hand; not connected yet."""
    return _asked_for("xennet_frontend", _xennet_setup.frontend)


@pytest.fixture
def xennet_backend(_xennet_setup: VifSetup) -> RawBackend:
    """The backend of ``xennet_vif``, driven by hand; nothing is announced yet."""
    return _asked_for("xennet_backend", _xennet_setup.backend)


P = TypeVar("P")


def _asked_for(name: str, peer: P | None) -> P:
    if peer is None:
        pytest.fail(f"{name} has to be among the arguments: it decides who drives the vif")
    return peer
