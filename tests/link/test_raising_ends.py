"""A link whose ends raise goes on as if nothing had been, and ends in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.words import RX_SLOTS
from xennet.errors import PortError
from xennet.frames import FrameBatch, Offload, RingPair
from xennet.host.setup import Setup
from xennet.link.base_link import BaseLink
from xennet.link.epair import EpairLink
from xennet.link.vif import VifLink
from xennet.link.vifs import Vifs
from xennet.netback.policy import VifOptions
from xennet.netfront.options import NetfrontOptions
from xennet.port.gen import GenPort
from xennet.port.null import NullPort
from xennet.port.tcp import TcpPort
from xennet.wrap.in_order import CheckedEnd, InOrderCheck
from xennet.wrap.offload_edge import OffloadEdge


class EndError(PortError):
    """What an end raises."""


class Raising(GenPort):
    """A port that raises at some of its calls: those whose numbers are in ``at``, or all behind
    number ``always``. A pull raises when it has given frames, a push before it takes any."""

    def __init__(self, argument: str) -> None:
        self.at: set[int] = set()
        self.always = self._calls = 0
        self.gave: Counter[bytes] = Counter()
        self.taken: Counter[bytes] = Counter()
        super().__init__(argument)

    def raise_at(self, at: set[int]) -> None:
        """Raise at these calls from now on."""
        self.at, self._calls = at, 0

    def _called(self) -> None:
        self._calls += 1
        if self._calls in self.at or 0 < self.always <= self._calls:
            raise EndError(f"call {self._calls}")

    @property
    def room(self) -> int:
        self._called()
        return 100

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        pulled = super().pull(batch)
        self.gave.update(bytes(batch.frame(i)) for i in range(first, batch.count))
        self._called()
        return pulled

    def push(self, batch: FrameBatch) -> None:
        super().push(batch)
        self.taken.update(map(bytes, batch))
        self._called()


class RaisingTcp(Raising, TcpPort):
    """The same with frames that need offloads."""


class FullOnce(NullPort):
    """A port that raises when it has taken the frames of push ``number``, from 1."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number

    def push(self, batch: FrameBatch) -> None:
        super().push(batch)
        self._left -= 1
        if not self._left:
            raise EndError("full")


class Giving(GenPort):
    """A port that raises when it has given all of its frames at once."""

    def pull(self, batch: FrameBatch) -> int:
        pulled = super().pull(batch)
        if pulled:
            raise EndError("given")
        return pulled


def calls() -> st.SearchStrategy[set[int]]:
    """Numbers of the calls at which an end raises."""
    return st.lists(st.integers(1, 30), max_size=8).map(lambda gaps: set(accumulate(gaps)))


@settings(max_examples=30, deadline=None)
@given(queues=st.integers(1, 2), split=st.booleans(), at=st.tuples(calls(), calls()))
def test_no_frame_is_lost_and_nobody_has_to_kick(
    queues: int, split: bool, at: tuple[set[int], set[int]]
) -> None:
    options = NetfrontOptions(queues=queues, split=split)
    link = Vifs(Setup(front=options, back=VifOptions(max_queues=queues)))
    guest, host = Raising("60x700"), Raising("1514x700")
    link.join(guest, host)
    link.open()
    for end, numbers in zip((guest, host), at, strict=True):
        end.raise_at(numbers)
    link.kick()
    for _ in range(sum(map(len, at)) + 1):
        with suppress(EndError):
            link.settle()
    assert host.taken == guest.gave
    assert guest.taken == host.gave
    assert guest.gave.total() == host.gave.total() == 700
    (vif,) = link.vifs
    assert vif.netfront is not None
    assert vif.netback is not None
    front, back = vif.netfront.counters, vif.netback.counters
    assert front.tx.packets == back.tx.packets == front.rx.packets == back.rx.packets == 700
    assert front.tx.requests == back.tx.requests == front.tx.responses == back.tx.responses
    assert front.rx.requests - queues * RX_SLOTS == back.rx.requests == front.rx.responses
    for end in (guest, host):
        end.raise_at(set())
    link.close()
    assert not link.leaks()
    link.destroy()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("end", ["guest", "host"])
def test_what_was_published_before_an_end_raised_is_announced(end: str, number: int) -> None:
    """Frames go one way, so that no other event brings what is missing."""
    taker = FullOnce(number)
    ends = (taker, GenPort("60x700")) if end == "guest" else (GenPort("60x700"), taker)
    link = VifLink(*ends)
    link.open()
    link.kick()
    with pytest.raises(EndError):
        link.settle()
    link.settle()
    assert taker.counters.frames_out == 700
    link.close()


@pytest.mark.parametrize("queues", [1, 2])
def test_what_a_pull_gave_before_it_raised_is_carried(queues: int) -> None:
    setup = Setup(front=NetfrontOptions(queues=queues), back=VifOptions(max_queues=queues))
    link = VifLink(giver := Giving("60x10"), taker := Raising("60x0"), setup=setup)
    link.open()
    link.kick()
    with pytest.raises(EndError):
        link.settle()
    assert giver.exhausted
    link.settle()
    assert taker.taken.total() == 10
    link.close()


@settings(max_examples=20, deadline=None)
@given(at=st.tuples(calls(), calls()))
def test_a_checker_and_an_edge_in_front_of_an_end_lose_none_either(
    at: tuple[set[int], set[int]],
) -> None:
    """Frames that are too long, and checksums that are blank, for the other end."""
    up, down = InOrderCheck(), InOrderCheck()
    guest, host = RaisingTcp("9000x300"), Raising("1514x300")
    setup = Setup(front=NetfrontOptions(sg=False))
    ends = CheckedEnd(OffloadEdge(guest), up, down), CheckedEnd(OffloadEdge(host), down, up)
    link = VifLink(*ends, setup=setup)
    link.open()
    for end, numbers in zip((guest, host), at, strict=True):
        end.raise_at(numbers)
    link.kick()
    for _ in range(sum(map(len, at)) + 1):
        with suppress(EndError):
            link.settle()
    assert up.intact
    assert down.intact


@settings(max_examples=20, deadline=None)
@given(at=st.tuples(calls(), calls()), epair=st.sampled_from(["", "netisr", "taskqueue"]))
def test_a_link_without_a_machine_loses_none(at: tuple[set[int], set[int]], epair: str) -> None:
    link = EpairLink(epair) if epair else BaseLink()
    guest, host = Raising("60x700"), Raising("1514x700")
    pair = link.join(guest, host)
    link.open()
    for end, numbers in zip((guest, host), at, strict=True):
        end.raise_at(numbers)
    for _ in range(sum(map(len, at)) + 1):
        with suppress(EndError):
            link.carry()
    assert host.taken == guest.gave
    assert guest.taken == host.gave
    at_guest, at_host = pair.interfaces
    assert at_guest.counters.opackets == at_host.counters.opackets == 700
    link.close()


def test_a_vif_whose_end_raises_for_ever_is_unplugged_all_the_same() -> None:
    link = VifLink(guest := Raising("60x300"), Raising("60x300"))
    link.open()
    guest.always = 1
    with pytest.raises(EndError):
        link.carry()
    with pytest.raises(EndError):
        link.close()
    assert not link.leaks()


class Driving(GenPort):
    """A port that raises whenever it is shown the rings of a connection, or that it has ended."""

    def rings(self, queues: Sequence[RingPair]) -> None:
        raise EndError(f"{len(queues)} queues")


def test_an_end_that_raises_at_its_rings_is_connected_and_unplugged_all_the_same() -> None:
    link = VifLink(Driving("60x10"), taker := Raising("60x0"))
    with pytest.raises(EndError, match="1 queues"):
        link.open()
    link.settle()
    link.carry()
    assert taker.taken.total() == 10
    with pytest.raises(EndError, match="0 queues"):
        link.close()
    assert not link.leaks()


class Refusing(GenPort):
    """A port that fails when a driver tells it what the other end takes."""

    def negotiated(self, offload: Offload) -> None:
        raise EndError("negotiated")


@pytest.mark.parametrize("end", ["guest", "host"])
def test_an_end_that_raises_at_connect_leaves_no_half_of_a_connection(end: str) -> None:
    ends = {"guest": GenPort("60x1"), "host": GenPort("60x1"), end: Refusing("60x1")}
    link = VifLink(ends["guest"], ends["host"])
    with pytest.raises(EndError):
        link.open()
    (vif,) = link.host.vifs
    driver = vif.netfront if end == "guest" else vif.netback
    assert driver is not None
    assert not driver.queues
    with suppress(EndError):
        link.close()
    assert not link.leaks()
