"""What a pass over a ring of a frontend is made of."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from xennet.interface import Hypervisor, PageRun
from xennet.netback.keys import FrontendFeatures
from xennet.ring import BackRing


class PassSetup(NamedTuple):
    """The ring of a pass, and what its vif knows of the frontend.

    ``ring``: the backend's end. ``otherend_id``: the frontend's domain. ``stage``: the staging
    pages of its packets. ``config``: what the queues of the vif share (xennet.netback.vif_config).
    """

    hv: Hypervisor
    ring: BackRing
    otherend_id: int
    features: FrontendFeatures
    stage: PageRun
    config: array[int]
