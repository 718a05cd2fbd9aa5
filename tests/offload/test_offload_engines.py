"""Plain and compiled kernels do the same to the same frames, good, damaged and random."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from both import on_both
from edge_ports import Row, ScriptedPort
from hypothesis import given, settings
from hypothesis import strategies as st
from offload_frames import frames, new_batch, rows

from xennet.frames import Offload
from xennet.offload.fitter import OffloadCounters
from xennet.wrap.offload_edge import OffloadEdge

pytestmark = pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")

offloads = st.builds(
    Offload,
    sg=st.booleans(),
    csum_v4=st.booleans(),
    csum_v6=st.booleans(),
    gso_types=st.sampled_from([0, 2, 4, 6]),
    max_frame=st.sampled_from([0, 100, 1514]),
    max_tagged=st.sampled_from([0, 104, 4096]),
    vlan=st.booleans(),
)


@st.composite
def items(draw: st.DrawFn) -> Row:
    frame = bytearray(draw(frames(most=400) | st.binary(max_size=80)))
    for _ in range(draw(st.integers(0, 2))):
        if frame:
            frame[draw(st.integers(0, min(90, len(frame) - 1)))] = draw(st.integers(0, 255))
    flags = draw(st.integers(0, 3))
    gso_size = draw(st.sampled_from([0, 0, 1, 50, 65535]))
    gso_type = draw(st.sampled_from([1, 2, 0, 63, 64, 255]))
    return bytes(frame), flags, gso_size, gso_type, draw(st.integers(0, 99)), 0, 0


@settings(max_examples=100, deadline=None)
@given(st.lists(items(), max_size=12), offloads, st.sampled_from([700, 2000]))
def test_both_engines_give_the_same_frames_and_counts(
    given_frames: list[Row], offload: Offload, size: int
) -> None:
    def run() -> tuple[list[object], OffloadCounters, list[object], OffloadCounters]:
        edge = OffloadEdge(ScriptedPort(*given_frames))
        edge.negotiated(offload)
        got: list[object] = []
        batch = new_batch(size, 20)
        while edge.pull(batch):
            got += rows(batch)
            batch.clear()
        port = ScriptedPort(carries=offload)
        other, all_frames = OffloadEdge(port), new_batch()
        ScriptedPort(*given_frames).pull(all_frames)
        other.push(all_frames)
        return got, edge.pulled, list(port.taken), other.pushed

    plain, fast = on_both(run)
    assert plain == fast
    assert plain[0] == plain[2]
    assert plain[1] == plain[3]
