"""Many guests take turns, as they would on a host (xennet.host.timeslices)."""

from __future__ import annotations

from itertools import groupby

import pytest

from xennet.host.setup import Setup
from xennet.host.timeslices import SLICE
from xennet.link.vifs import Vifs
from xennet.port.gen import GenPort
from xennet.port.null import NullPort


@pytest.mark.parametrize("guests", [1, 3])
def test_a_guest_keeps_its_turn_for_a_slice_while_its_ring_goes_round(guests: int) -> None:
    vifs = Vifs(Setup(guests=guests))
    ends = [(GenPort("60x20000"), NullPort()) for _ in range(guests)]
    for source, sink in ends:
        vifs.join(source, sink)
    try:
        vifs.open()
        loop = vifs.host.machine.run_loop
        for pair in vifs.pairs:
            pair.guest.flowing = pair.host.flowing = True
        vifs.kick()
        made = []
        while (delivery := loop.step()) is not None:
            made.append(delivery.domid)
        turns = [len(list(run)) for domid, run in groupby(domid for domid in made if domid)]
        assert [sink.counters.frames_out for _, sink in ends] == [20000] * guests
        assert 0 in made
        if guests == 1:
            assert len(turns) == 1
        else:
            # 20000 frames are 79 rings full, two deliveries each.
            assert max(turns) == SLICE
            assert guests * 4 <= len(turns) <= guests * 8
    finally:
        vifs.destroy()
