"""The counters of a frontend, besides those of its rings."""

from __future__ import annotations

from attrs import define

from xennet.vif.counters import VifCounters


@define
class NetfrontCounters(VifCounters):
    """The counters of a frontend.

    ``no_carrier``: frames that the guest wanted to send while the link was down. ``lost``: frames
    that were taken from the guest and were not on the ring when the vif disconnected.
    ``unvalidated``: GSO packets received without data_validated; ``rx_gso_checksum_fixup``: those
    whose checksum was made partial (ethtool -S shows it under this name). ``spurious``: events that
    brought nothing new, ``jiffies_eoi_delayed``: jiffies for which later events were held back
    (xennet.vif.late_eoi).
    """

    no_carrier: int = 0
    lost: int = 0
    unvalidated: int = 0
    rx_gso_checksum_fixup: int = 0
    spurious: int = 0
    jiffies_eoi_delayed: int = 0
