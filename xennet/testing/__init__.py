"""What a test of a port, a link or a driver needs, each name imported when it is first used.

* :class:`PortContract` and :class:`LinkContract`: contract tests, which a class for each kind of
  port or link inherits::

    from xennet.testing import PortContract

    class TestCount(PortContract):
        spec = "count:5"
        gives = 5

  They say what a class tells of its port or link; their methods ``test_...`` are the contract, one
  rule each. They need pytest.
* :class:`RawFrontend` and :class:`RawBackend`: peers that are driven by hand, written on
  :mod:`xennet.interface` alone, so that they can face any driver.
* :data:`FRONTEND_MOVES` and :data:`BACKEND_MOVES`: what a peer can do that it must not, by name;
  :func:`live` puts moves into a peer's normal life (:mod:`xennet.testing.moves`).
* :class:`VifSetup`: a host with one vif whose ends are hand-driven peers, xennet's drivers or one's
  own; :class:`NetworkStack` is a stack's side of a driver. In pytest they are fixtures
  (:mod:`xennet.testing.pytest_plugin`).
* :class:`Mutation`: a driver with one place of its source changed, to see which tests notice.
* :class:`MinimalMachine`: the smallest machine that implements :class:`xennet.Hypervisor`.
* :class:`XnbWorld`: FreeBSD's netback function by function, and a frontend driven by hand.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.testing.backend_moves import BACKEND_LIFE, BACKEND_MOVES
    from xennet.testing.frontend_moves import FRONTEND_LIFE, FRONTEND_MOVES
    from xennet.testing.link_contract import LinkContract
    from xennet.testing.minimal_hypervisor import MinimalHypervisor, MinimalMachine
    from xennet.testing.moves import Move, Planned, at_point, live
    from xennet.testing.mutated import Mutation
    from xennet.testing.network_stack import NetworkStack
    from xennet.testing.notes import Note, slot_diff
    from xennet.testing.port_contract import Outside, PortContract
    from xennet.testing.raw_backend import RawBackend
    from xennet.testing.raw_frontend import RawFrontend
    from xennet.testing.vif_setup import VifSetup
    from xennet.testing.xnb_world import XnbWorld

_HOMES = {
    "BACKEND_LIFE": "xennet.testing.backend_moves",
    "BACKEND_MOVES": "xennet.testing.backend_moves",
    "FRONTEND_LIFE": "xennet.testing.frontend_moves",
    "FRONTEND_MOVES": "xennet.testing.frontend_moves",
    "LinkContract": "xennet.testing.link_contract",
    "MinimalHypervisor": "xennet.testing.minimal_hypervisor",
    "MinimalMachine": "xennet.testing.minimal_hypervisor",
    "Move": "xennet.testing.moves",
    "Mutation": "xennet.testing.mutated",
    "NetworkStack": "xennet.testing.network_stack",
    "Note": "xennet.testing.notes",
    "Outside": "xennet.testing.port_contract",
    "Planned": "xennet.testing.moves",
    "PortContract": "xennet.testing.port_contract",
    "RawBackend": "xennet.testing.raw_backend",
    "RawFrontend": "xennet.testing.raw_frontend",
    "VifSetup": "xennet.testing.vif_setup",
    "XnbWorld": "xennet.testing.xnb_world",
    "at_point": "xennet.testing.moves",
    "live": "xennet.testing.moves",
    "slot_diff": "xennet.testing.notes",
}
__all__ = [
    "BACKEND_LIFE",
    "BACKEND_MOVES",
    "FRONTEND_LIFE",
    "FRONTEND_MOVES",
    "LinkContract",
    "MinimalHypervisor",
    "MinimalMachine",
    "Move",
    "Mutation",
    "NetworkStack",
    "Note",
    "Outside",
    "Planned",
    "PortContract",
    "RawBackend",
    "RawFrontend",
    "VifSetup",
    "XnbWorld",
    "at_point",
    "live",
    "slot_diff",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)

# Asserts of the contracts say what they compare, where pytest runs them.
if sys.modules.get("pytest") is not None:
    import pytest

    for _module in ("sample_frames", "link_contract", "port_contract"):
        pytest.register_assert_rewrite(f"xennet.testing.{_module}")
