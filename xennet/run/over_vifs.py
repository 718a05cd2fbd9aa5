"""The setup of guests and vifs that the options of a run ask for."""

from __future__ import annotations

from attrs import evolve

from xennet.host.buses import XENNET
from xennet.host.capacity import mib_frames
from xennet.host.own_driver import is_own, load_factory, own_backend, own_frontend
from xennet.host.setup import DEFAULT_QUOTA, Setup
from xennet.netback.policies import policy
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.run.options import RunOptions
from xennet.xenstore.quota import UNLIMITED, Quota


def setup_of(options: RunOptions) -> Setup:
    """The setup for a run's options.

    Raises KeyError if there is no such driver, OwnDriverError if no factory of that name makes one,
    ValueError for a number that a driver cannot have.
    """
    nodes = options.quota_nodes
    front, back = options.frontend, options.backend
    own_front, own_back = is_own(front), is_own(back)
    chosen, kind = policy("linux" if own_back else back), KINDS["linux" if own_front else front]
    return Setup(
        guests=options.guests,
        vifs=options.vifs,
        grant_version=options.grant_version,
        kind=kind,
        evtchn=options.evtchn or kind.evtchn,
        front=NetfrontOptions(
            queues=options.queues,
            split=options.split_channels,
            sg=options.sg,
            gso=options.gso,
            csum=options.csum,
            enforce_mtu=options.mtu is not None,
        ),
        policy=chosen,
        back=evolve(
            chosen.options, max_queues=options.queues, split_channels=options.split_channels
        ),
        mtu=options.mtu,
        quota=DEFAULT_QUOTA if nodes is None else Quota(nodes=nodes or UNLIMITED),
        frames=None if options.arena is None else mib_frames(options.arena),
        guest_drivers=own_frontend(load_factory(front)) if own_front else XENNET,
        host_drivers=own_backend(load_factory(back)) if own_back else XENNET,
    )
