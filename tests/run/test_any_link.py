"""A run takes any link: here a cable, which has no store, no domains and no rings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from xennet.errors import LinkError
from xennet.frames import EVERYTHING, Endpoint, FrameBatch, Offload
from xennet.ifnet import Interface
from xennet.link.protocol import Link
from xennet.link.report import LinkReport, LinkStatus
from xennet.port import Counters, open_ports
from xennet.run.options import RunOptions
from xennet.run.progress import no_progress
from xennet.run.report import RunReport
from xennet.run.runner import StoreView, run_link


@define
class Plug:
    """One cable: what either end gives, the other gets."""

    name: str
    guest: Endpoint
    host: Endpoint
    interfaces: tuple[Interface, Interface]
    queues: int = 1
    split_channels: bool = False
    was_up: bool = False

    def move(self, lossy: bool) -> int:
        moved = 0
        for giver, taker in ((self.guest, self.host), (self.host, self.guest)):
            batch = FrameBatch(memoryview(bytearray(1 << 20)), 16)
            moved += giver.pull(batch)
            if batch.count > 1 and lossy:
                batch.cut(batch.count - 1)
            if batch.count:
                taker.push(batch)
        return moved


@define
class Cable:
    """The link; ``cut``: it does not come up. ``lossy``: the last frame of a batch is lost."""

    cut: bool = False
    lossy: bool = False
    broken: Exception | None = None
    plugs: list[Plug] = field(factory=list)
    calls: list[str] = field(factory=list)

    now = 0

    @property
    def host_clock(self) -> Cable:
        return self

    def call_after(self, delay: int, work: Callable[[], None]) -> Callable[[], None]:
        raise NotImplementedError

    def join(
        self,
        guest: Endpoint,
        host: Endpoint,
        filtered: Callable[[bytes, int], None] = lambda frame, timestamp: None,
    ) -> Plug:
        interfaces = Interface("a", 1), Interface("b", 2)
        self.plugs.append(Plug(f"cable{len(self.plugs)}", guest, host, interfaces))
        return self.plugs[-1]

    def address(self, number: int) -> bytes:
        return bytes((2, 0, 0, 0, 0, number))

    def open(self) -> None:
        self.calls.append("open")
        if self.cut:
            raise LinkError("the cable is cut")
        for plug in self.plugs:
            plug.was_up = True
            plug.guest.negotiated(EVERYTHING)
            plug.host.negotiated(EVERYTHING)

    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        if self.broken is not None:
            raise self.broken
        while sum(plug.move(self.lossy) for plug in self.plugs):
            pass

    def carry_live(self, seconds: float | None, over: Callable[[], bool]) -> None:
        raise NotImplementedError

    def trickle(self) -> None:
        raise NotImplementedError

    def serve_store(self, path: str, pace: float = 0.0) -> None:
        raise LinkError("a cable has no XenStore")

    def hold(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        self.calls.append(f"hold {seconds}")

    def close(self) -> None:
        self.calls.append("close")

    def explain(self, error: Exception) -> str | None:
        return f"the cable burns: {error}" if isinstance(error, ArithmeticError) else None

    def report(self) -> LinkReport:
        return LinkReport()

    def status(self) -> LinkStatus:
        return LinkStatus()

    def left_behind(self) -> list[str]:
        return []

    def destroy(self) -> None:
        self.calls.append("destroy")


def carry(cable: Cable, *specs: str, view: StoreView | None = None) -> RunReport:
    ports = open_ports(specs)
    link: Link = cable
    with no_progress() as progress:
        return run_link(link, ports[::2], ports[1::2], RunOptions(), progress, view)


def test_frames_cross_it_in_both_directions_and_are_proven() -> None:
    cable = Cable()
    report = carry(cable, "gen:60x100", "gen:1514x10")
    assert report.verdict.good, report.verdict
    assert [way.frames_received for way in report.directions] == [100, 10]
    assert cable.calls == ["open", "close", "destroy"]


def test_the_report_has_only_what_the_link_has() -> None:
    report = carry(Cable(), "gen:60x1", "null:", "gen:60x2", "null:")
    assert [vif.name for vif in report.vifs] == ["cable0", "cable1"]
    assert report.rings == report.domains == report.timeline == report.defects == ()
    assert report.roots == {}


def test_a_frame_that_it_loses_makes_the_run_bad() -> None:
    report = carry(Cable(lossy=True), "gen:60x100", "null:")
    assert not report.verdict.good
    assert any("did not arrive" in reason for reason in report.verdict.reasons)


def test_what_keeps_it_from_coming_up_is_told_and_it_is_taken_down() -> None:
    cable = Cable(cut=True)
    report = carry(cable, "gen:60x1", "null:")
    assert report.verdict.reasons[:2] == ("the cable is cut", "no frame was carried")
    assert cable.calls == ["open", "close", "destroy"]


def test_an_exception_that_the_link_explains_is_a_reason() -> None:
    report = carry(Cable(broken=ZeroDivisionError("by zero")), "gen:60x1", "null:")
    assert "the cable burns: by zero" in report.verdict.reasons


def test_an_exception_that_it_does_not_explain_comes_out_and_the_link_is_destroyed() -> None:
    cable = Cable(broken=KeyError("a fault of ours"))
    with pytest.raises(KeyError, match="a fault of ours"):
        carry(cable, "gen:60x1", "null:")
    assert cable.calls[-1] == "destroy"


def test_a_store_that_it_does_not_have_cannot_be_seen() -> None:
    report = carry(Cable(), "gen:60x1", "null:", view=StoreView("/nowhere", hold=1.0))
    assert "a cable has no XenStore" in report.verdict.reasons


class OldPort:
    """A port as scripts have them that were written before ``carries`` and ``listen``."""

    name, expected, room = "old:", 5, 3

    def __init__(self) -> None:
        self.counters = Counters()
        self.left = 5

    @property
    def exhausted(self) -> bool:
        return not self.left

    def pull(self, batch: FrameBatch) -> int:
        if not self.left:
            return 0
        batch.append(bytes((self.left,)) * 60)
        self.left -= 1
        return 1

    def push(self, batch: FrameBatch) -> None:
        self.counters.frames_out += batch.count

    def negotiated(self, offload: Offload) -> None:
        """Whatever it is."""

    def finish(self) -> None:
        """It does not end by that."""

    def close(self) -> None:
        """It holds nothing."""


def test_ports_from_before_go_on_in_a_run_with_a_warning_for_each() -> None:
    ports: list[Any] = [OldPort(), OldPort()]
    with (
        no_progress() as progress,
        pytest.warns(DeprecationWarning, match="has no carries and no listen") as caught,
    ):
        report = run_link(Cable(), ports[:1], ports[1:], RunOptions(), progress)
    assert len(caught) == 2
    assert report.verdict.good, report.verdict
    assert [port.counters.frames_out for port in ports] == [5, 5]
    assert report.ports[0].spec == "old:"
