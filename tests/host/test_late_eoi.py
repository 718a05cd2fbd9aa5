"""Rules F19 and B18 on a whole host: what is held back is done before a run ends."""

from __future__ import annotations

import pytest

from xennet.link.vifs import Vifs
from xennet.port import open_ports
from xennet.run.options import RunOptions
from xennet.run.over_vifs import setup_of
from xennet.run.runner import Run
from xennet.vif.late_eoi import JIFFY


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("victim", ["backend", "frontend"])
def test_a_run_waits_for_events_that_are_held_back(victim: str, split: bool) -> None:
    guest, host = open_ports(["gen:60x2000", "gen:60x2000"])
    options = RunOptions(split_channels=split)
    vifs = Vifs(setup_of(options))
    run = Run(vifs, [guest], [host], options, lambda direction, frames: None)
    vifs.open()
    host, vif = vifs.host, vifs.vifs[0]
    assert vif.netfront is not None
    assert vif.netback is not None
    front, back = vif.netfront.queue, vif.netback.queue
    assert front is not None
    assert back is not None
    kernel, queue = (vif.guest.kernel, front) if victim == "backend" else (host.dom0.kernel, back)
    counters = vif.netback.counters if victim == "backend" else vif.netfront.counters
    assert counters.jiffies_eoi_delayed == 0
    for _ in range(3):
        kernel.notify(queue.tx_port)
        kernel.notify(queue.rx_port)
        host.settle()
    before = host.machine.run_loop.now
    run.carry()
    vifs.close()
    report = run.report()
    assert report.verdict.good, report.verdict.reasons
    assert [way.frames_received for way in report.directions] == [2000, 2000]
    counters = vif.netback.counters if victim == "backend" else vif.netfront.counters
    assert counters.jiffies_eoi_delayed >= 1
    assert host.machine.run_loop.now - before >= JIFFY
    vifs.destroy()
