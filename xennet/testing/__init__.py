"""Contract tests for ports and links: what a run relies on, for one's own to pass too.

A test module of yours has a class for each kind of port or link; pytest runs what it inherits::

    from xennet.testing import PortContract

    class TestCount(PortContract):
        spec = "count:5"
        gives = 5

:class:`PortContract` and :class:`LinkContract` say what a class tells of its port or link; their
methods ``test_...`` are the contract, one rule each. They need pytest; nothing else of xennet does.
"""

from __future__ import annotations

import pytest

for _module in ("sample_frames", "link_contract", "port_contract"):
    pytest.register_assert_rewrite(f"xennet.testing.{_module}")

from xennet.testing.link_contract import LinkContract  # noqa: E402
from xennet.testing.port_contract import Outside, PortContract  # noqa: E402

__all__ = ["LinkContract", "Outside", "PortContract"]
