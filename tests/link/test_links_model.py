"""Any link, driven by chance, against a list: each frame arrives once, in order, when there is
room."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.frames import UNBOUNDED
from xennet.link import BaseLink
from xennet.link.protocol import Link
from xennet.run.links import parse
from xennet.run.options import RunOptions
from xennet.testing.link_contract import Stack
from xennet.testing.sample_frames import Frame, numbered

SPECS = ("", "vif", "epair", "epair:taskqueue", "netmap:vale0", "shmif:{folder}/bus")

END = st.sampled_from([0, 1])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), END, st.integers(1, 300), st.integers(18, 1514)),
        st.tuples(st.just("room"), END, st.integers(0, 400), st.just(0)),
        st.tuples(st.just("carry"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("trickle"), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=12,
)


def made(spec: str, folder: Path) -> Link:
    if not spec:
        return BaseLink()
    kind, argument = parse(spec.format(folder=folder))
    return kind.make(argument, kind.settled(evolve(RunOptions(), link=spec)))


def data(frames: list[Frame]) -> list[bytes]:
    return [frame.data for frame in frames]


@pytest.mark.parametrize("spec", SPECS)
@given(steps=STEPS)
@settings(max_examples=15)
def test_each_frame_arrives_once_and_in_order(
    spec: str, steps: list[tuple[str, int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = made(spec, tmp_path_factory.mktemp("model"))
    ends = Stack(), Stack()
    sent: tuple[list[Frame], list[Frame]] = ([], [])
    link.join(*ends)
    link.open()
    try:
        for step, end, number, size in steps:
            if step == "send":
                frames = numbered(number, size, first=len(sent[end]))
                sent[end].extend(frames)
                ends[end].send(frames)
            elif step == "room":
                ends[end].widen(max(number, len(ends[end].got)))
            elif step == "carry":
                link.carry()
                for giver in (0, 1):
                    taker = ends[1 - giver]
                    assert len(taker.got) == min(taker.limit, len(sent[giver]))
            else:
                link.trickle()
            for giver in (0, 1):
                got = ends[1 - giver].got
                assert data(got) == data(sent[giver][: len(got)])
        for taker in ends:
            taker.widen(UNBOUNDED)
        link.carry()
        assert [data(taker.got) for taker in ends] == [data(sent[1]), data(sent[0])]
        link.close()
        assert link.left_behind() == []
    finally:
        link.destroy()
