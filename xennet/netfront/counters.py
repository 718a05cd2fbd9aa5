"""What a frontend counts besides its rings."""

from __future__ import annotations

from attrs import define

from xennet.vif.counters import VifCounters


@define
class NetfrontCounters(VifCounters):
    """``no_carrier``: frames that the guest wanted to send while the link was down.
    ``lost``: those that had been taken from the guest and were not on the ring when the vif
    disconnected.
    ``unvalidated``: GSO packets received without data_validated; ``rx_gso_checksum_fixup``: those
    whose checksum was made partial (ethtool -S has it by this name). ``spurious``: events that
    brought nothing new, ``jiffies_eoi_delayed``: for how long later ones were held back because of
    them (xennet.vif.late_eoi).
    """

    no_carrier: int = 0
    lost: int = 0
    unvalidated: int = 0
    rx_gso_checksum_fixup: int = 0
    spurious: int = 0
    jiffies_eoi_delayed: int = 0
