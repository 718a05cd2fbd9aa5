"""Null ports: rings in a region, and nothing behind them.

A client opens one to have memory, in a region that it has to name. Rules: netmap_null.c.
"""

from __future__ import annotations

from attrs import define

from xennet.netmap.adapter import Adapter
from xennet.netmap.kring import Kring


@define(eq=False)
class NullPort(Adapter):
    """A port whose syncs do nothing: a tx ring fills up and stays full."""

    def txsync(self, kring: Kring, flags: int) -> None:
        """Takes nothing."""

    def rxsync(self, kring: Kring, flags: int) -> None:
        """Brings nothing."""
