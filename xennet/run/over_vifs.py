"""A run over Xen vifs: the guests and vifs that it asks for, in the drivers' own terms."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from xennet.host.capacity import mib_frames
from xennet.host.setup import DEFAULT_QUOTA, Setup
from xennet.link.vifs import Vifs
from xennet.netback.policies import policy
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.port import Port
from xennet.run.options import Progress, RunOptions
from xennet.run.report import RunReport
from xennet.run.runner import StoreView, run_link
from xennet.run.stop import Stop
from xennet.xenstore.quota import UNLIMITED, Quota


def setup_of(options: RunOptions) -> Setup:
    """The setup that a run's options ask for; KeyError for a driver that there is not, ValueError
    for a number that a driver cannot do."""
    nodes = options.quota_nodes
    chosen, kind = policy(options.backend), KINDS[options.frontend]
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
    )


def run_ports(
    guests: Sequence[Port],
    hosts: Sequence[Port],
    options: RunOptions,
    progress: Progress,
    view: StoreView | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """A run (xennet.run.runner.run_link) over as many vifs as ``options`` say, whose report names
    the event channel ABI that was chosen. LimitError for what does not fit the store's quotas or
    the host's memory."""
    setup = setup_of(options)
    options = evolve(options, evtchn=setup.evtchn)
    return run_link(Vifs(setup), guests, hosts, options, progress, view, stop)
