"""What stands between a port and a driver: which frames are touched, and what happens when full."""

from __future__ import annotations

from typing import Any

import pytest
from edge_ports import BLANK, V4, V6, Row, ScriptedPort, add, blank_udp, gso, row
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from offload_frames import ETHER, l4_of, new_batch, rebuilt, rows
from scapy.layers.inet import TCP
from scapy.layers.l2 import ARP, Dot1Q

from xennet.engine.choice import current
from xennet.frames import DATA_VALIDATED, EVERYTHING, NOTHING, FrameBatch, Offload
from xennet.offload.fitter import Fitter, OffloadCounters
from xennet.port import Port, open_port
from xennet.run.checker import Checker
from xennet.wrap.in_order import InOrderCheck
from xennet.wrap.offload_edge import OffloadEdge

NO_GSO = Offload(gso_types=0)
GOOD_TCP = row(V4 / TCP() / b"x")


def pulled(edge: OffloadEdge, size: int = 1 << 20, max_frames: int = 256) -> list[tuple[Any, ...]]:
    """Everything there is, batch by batch."""
    got: list[tuple[Any, ...]] = []
    batch = new_batch(size, max_frames)
    while edge.pull(batch):
        got += rows(batch)
        batch.clear()
    return got


def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, nothing may be completed, copied or segmented."""

    def touched(*_: Any) -> Any:
        raise AssertionError("a frame was touched")

    for name in ("complete", "begin", "fit", "keep"):
        monkeypatch.setattr(Fitter, name, touched)


def test_without_negotiation_everything_passes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    untouched(monkeypatch)
    frames = [blank_udp(), gso(5000, 1000), gso(5000, 1000, V6), row(b"\0" * 65535)]
    port = ScriptedPort(*frames)
    batch = new_batch()
    assert OffloadEdge(port).pull(batch) == 4
    assert rows(batch) == frames
    assert port.pulls == 1


def test_frames_that_need_nothing_are_pulled_at_once_and_not_touched(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    frames = [GOOD_TCP, row(ETHER / ARP()), row(V6 / TCP() / b"y", DATA_VALIDATED)]
    port = ScriptedPort(*frames)
    edge = OffloadEdge(port)
    edge.negotiated(Offload(csum_v4=False, csum_v6=False, gso_types=0, max_frame=1514))
    untouched(monkeypatch)
    batch = new_batch()
    assert edge.pull(batch) == 3
    assert rows(batch) == frames
    assert port.pulls == 1


def test_the_endpoint_hears_what_was_negotiated() -> None:
    port = ScriptedPort()
    OffloadEdge(port).negotiated(NOTHING)
    assert port.told == [NOTHING]


@pytest.mark.parametrize("base", [V4, V6])
@pytest.mark.parametrize(("csum_v4", "csum_v6"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_checksums_are_completed_for_the_ip_version_that_needs_it(
    base: Any, csum_v4: int, csum_v6: int
) -> None:
    port = ScriptedPort(GOOD_TCP, blank_udp(base, stamp=5), row(ETHER / ARP()))
    edge = OffloadEdge(port)
    edge.negotiated(Offload(csum_v4=bool(csum_v4), csum_v6=bool(csum_v6)))
    first, udp, last = pulled(edge)
    assert (first, last) == (GOOD_TCP, row(ETHER / ARP()))
    if csum_v4 if base is V4 else csum_v6:
        assert udp == blank_udp(base, stamp=5)
        assert edge.pulled == OffloadCounters()
    else:
        original = blank_udp(base, stamp=5)
        assert udp == (rebuilt(original[0]), DATA_VALIDATED, *original[2:])
        assert edge.pulled == OffloadCounters(completed=1)


TAGGED = ETHER / Dot1Q(vlan=7) / V4.payload


def test_drivers_offload_nothing_of_frames_with_a_vlan_tag(engine: str) -> None:
    # Linux's have no vlan_features, and their peers drop a tagged frame with a blank checksum.
    udp, big = blank_udp(TAGGED), gso(2500, 1000, TAGGED)
    port = ScriptedPort(udp, GOOD_TCP, big, blank_udp(), gso(2500, 1000), row(TAGGED / TCP()))
    edge = OffloadEdge(port)
    edge.negotiated(Offload())
    got = pulled(edge)
    assert got[0][:2] == (rebuilt(udp[0]), DATA_VALIDATED)
    assert [got[1], *got[5:]] == [GOOD_TCP, blank_udp(), gso(2500, 1000), row(TAGGED / TCP())]
    assert [len(item[0]) for item in got[2:5]] == [1058, 1058, 558]
    assert all(item[:2] == (rebuilt(item[0]), DATA_VALIDATED) for item in got[2:5])
    assert edge.pulled == OffloadCounters(completed=1, segmented=1, segments=3)


def test_an_endpoint_that_takes_all_takes_tagged_frames_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    untouched(monkeypatch)
    frames = [blank_udp(TAGGED), gso(2500, 1000, TAGGED)]
    edge = OffloadEdge(ScriptedPort(*frames))
    edge.negotiated(EVERYTHING)
    assert pulled(edge) == frames


@pytest.mark.parametrize(
    "offload", [NO_GSO, Offload(sg=False), Offload(csum_v4=False), Offload(gso_types=1 << 2)]
)
def test_gso_that_is_not_taken_is_segmented(offload: Offload) -> None:
    edge = OffloadEdge(ScriptedPort(GOOD_TCP, gso(2500, 1000, stamp=9), gso(20, 1000), GOOD_TCP))
    edge.negotiated(offload)
    got = pulled(edge)
    assert got[0] == got[5] == GOOD_TCP
    assert [len(item[0]) for item in got[1:5]] == [1054, 1054, 554, 74]
    flags = BLANK if offload.csum_v4 else DATA_VALIDATED
    assert [item[1:] for item in got[1:4]] == [(flags, 0, 0, 9, 0x101, 27)] * 3
    assert edge.pulled == OffloadCounters(segmented=2, segments=4)


def test_gso_that_is_taken_stays_beside_gso_that_is_not() -> None:
    edge = OffloadEdge(ScriptedPort(gso(3000, 1000), gso(3000, 1000, V6)))
    edge.negotiated(Offload(gso_types=1 << 2))
    got = pulled(edge)
    assert [len(item[0]) for item in got] == [1054, 1054, 1054, 3074]
    assert got[3] == gso(3000, 1000, V6)


def test_frames_that_are_too_long_are_refused_and_the_others_come() -> None:
    long = row(V4 / TCP() / bytes(1461))
    edge = OffloadEdge(
        ScriptedPort(long, GOOD_TCP, row(V4 / TCP() / bytes(1460)), gso(3000, 1461), long)
    )
    edge.negotiated(Offload(gso_types=0, max_frame=1514))
    assert [len(item[0]) for item in pulled(edge)] == [55, 1514]
    assert edge.pulled == OffloadCounters(refused=3)


def tagged(tags: str, size: int) -> bytes:
    """A frame of ``size`` bytes in all with these tags: "q" for 802.1Q, "a" for 802.1ad."""
    kinds = {"q": b"\x81\x00\x00\x05", "a": b"\x88\xa8\x00\x05"}
    head = bytes(ETHER)[:12] + b"".join(kinds[tag] for tag in tags)
    return (head + b"\x88\xb5").ljust(size, b"x")


@pytest.mark.parametrize("tags", ["", "q", "a", "aq", "qq"])
def test_an_mtu_counts_neither_the_ethernet_header_nor_vlan_tags(tags: str, engine: str) -> None:
    longest = 1514 + 4 * len(tags)
    fits, long = row(tagged(tags, longest)), row(tagged(tags, longest + 1))
    edge = OffloadEdge(ScriptedPort(fits, long, GOOD_TCP, fits))
    edge.negotiated(Offload().with_mtu(1500))
    assert pulled(edge) == [fits, GOOD_TCP, fits]
    assert edge.pulled == OffloadCounters(refused=1)


def test_a_third_vlan_tag_is_payload() -> None:
    # Linux takes the outer tag out of the skb, and is_skb_forwardable allows one more.
    fits = row(tagged("aqq", 1522))
    edge = OffloadEdge(ScriptedPort(row(tagged("aqq", 1523)), fits))
    edge.negotiated(Offload().with_mtu(1500))
    assert pulled(edge) == [fits]


def test_frames_with_tags_that_fit_the_mtu_are_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = [row(tagged("q", 1518)), row(tagged("aq", 1522))]
    edge = OffloadEdge(ScriptedPort(*frames))
    edge.negotiated(Offload().with_mtu(1500))
    untouched(monkeypatch)
    batch = new_batch()
    assert edge.pull(batch) == 2
    assert rows(batch) == frames


@pytest.mark.parametrize(("most", "longest"), [(1460, 1518), (1448, 1506), (1461, 0)])
def test_tagged_gso_becomes_tagged_segments_that_fit_the_mtu(
    most: int, longest: int, engine: str
) -> None:
    edge = OffloadEdge(ScriptedPort(gso(4000, most, ETHER / Dot1Q(vlan=7) / V4.payload)))
    edge.negotiated(Offload().with_mtu(1500))
    got = [item[0] for item in pulled(edge)]
    assert max(map(len, got), default=0) == longest
    assert all(frame[12:16] == b"\x81\x00\x00\x07" for frame in got)
    assert edge.pulled.refused == (not longest)


@pytest.mark.parametrize(
    ("mtu", "longest"), [(1500, (1514, 1518)), (4082, (4096, 4096)), (4080, (4094, 4096))]
)
def test_a_page_holds_tags_too_without_scatter_gather(mtu: int, longest: tuple[int, int]) -> None:
    plain, with_tag = longest
    fits = [row(tagged("", plain)), row(tagged("q", with_tag))]
    long = [row(tagged("", plain + 1)), row(tagged("q", with_tag + 1))]
    edge = OffloadEdge(ScriptedPort(*fits, *long))
    edge.negotiated(Offload(sg=False, gso_types=0, max_frame=4096).with_mtu(mtu))
    assert pulled(edge) == fits
    assert edge.pulled.refused == 2


def test_the_longest_frame_is_not_asked_of_gso_that_is_taken() -> None:
    edge = OffloadEdge(ScriptedPort(gso(9000, 1448)))
    edge.negotiated(Offload(max_frame=1514))
    assert pulled(edge) == [gso(9000, 1448)]


WRONG_4, WRONG_6 = (row(base / TCP(chksum=0x4444) / b"z") for base in (V4, V6))


@pytest.mark.parametrize(
    ("offload", "count"),
    [
        (Offload(), 0),
        (Offload(csum_v4=False, gso_types=0), 2),
        (Offload(csum_v6=False, gso_types=0), 1),
        (NOTHING, 3),
        (EVERYTHING, 0),
    ],
)
def test_checksums_are_counted_that_are_wrong_and_not_said_to_be_blank(
    offload: Offload, count: int, engine: str
) -> None:
    # What a capture of offloaded traffic gives: nothing says that its checksums are blank.
    frames = [WRONG_4, GOOD_TCP, WRONG_6, row(ETHER / ARP()), WRONG_4, blank_udp(), row(b"x" * 14)]
    edge = OffloadEdge(ScriptedPort(*frames))
    edge.negotiated(offload)
    got = pulled(edge)
    assert [got[i] for i in (0, 1, 2, 3, 4, 6)] == [frames[i] for i in (0, 1, 2, 3, 4, 6)]
    assert edge.pulled.wrong_checksums == count


def test_wrong_checksums_are_counted_once_and_only_of_frames_that_are_passed_on() -> None:
    long = row(V4 / TCP(chksum=0x4444) / bytes(3000))
    edge = OffloadEdge(ScriptedPort(WRONG_4, gso(2500, 1000), long, WRONG_4, WRONG_4))
    edge.negotiated(Offload(csum_v4=False, gso_types=0, max_frame=1514))
    batch, total = new_batch(4000, 2), 0
    while edge.pull(batch):
        total += batch.count
        batch.clear()
    assert total == 6
    assert edge.pulled.wrong_checksums == 3
    assert edge.pulled.refused == 1


def test_a_tagged_frame_with_a_wrong_checksum_counts_where_a_blank_one_would_not_do() -> None:
    edge = OffloadEdge(ScriptedPort(row(ETHER / Dot1Q(vlan=7) / V4.payload / TCP(chksum=0x4444))))
    edge.negotiated(Offload(csum_v6=False))
    assert len(pulled(edge)) == 1
    assert edge.pulled.wrong_checksums == 1


@pytest.mark.parametrize(
    "bad",
    [
        row(ETHER / ARP(), BLANK),
        row(b"", BLANK),
        row(ETHER / ARP(), BLANK, 1000, 1),
        row(V4 / TCP() / bytes(3000), BLANK, 1000, 2),
        row(V4 / TCP() / bytes(3000), BLANK, 1000, 200),
    ],
)
def test_what_is_beyond_repair_is_dropped_and_counted(bad: Row) -> None:
    edge = OffloadEdge(ScriptedPort(blank_udp(), bad, blank_udp(), bad))
    edge.negotiated(NOTHING)
    assert [item[0] for item in pulled(edge)] == [rebuilt(blank_udp()[0])] * 2
    assert edge.pulled == OffloadCounters(completed=2, errors=2)


def test_a_batch_of_dropped_frames_does_not_look_like_the_end() -> None:
    port = ScriptedPort(*[row(bytes(2000))] * 5, GOOD_TCP)
    edge = OffloadEdge(port)
    edge.negotiated(Offload(max_frame=1514))
    batch = new_batch(4000)
    assert edge.pull(batch) == 1
    assert rows(batch) == [GOOD_TCP]
    assert port.pulls == 3


def test_frames_are_appended_to_what_a_batch_has() -> None:
    edge = OffloadEdge(ScriptedPort(blank_udp(), gso(1500, 1000)))
    edge.negotiated(NOTHING)
    batch = new_batch()
    add(batch, blank_udp(V6))
    assert edge.pull(batch) == 3
    assert rows(batch)[0] == blank_udp(V6)
    assert [len(item[0]) for item in rows(batch)] == [69, 49, 1054, 554]


def test_an_empty_batch_too_small_for_a_segment_is_an_error_and_loses_nothing() -> None:
    edge = OffloadEdge(ScriptedPort(gso(1500, 1000), GOOD_TCP))
    edge.negotiated(NOTHING)
    got, batch = [], new_batch(1600)
    assert edge.pull(batch) == 1
    got += rows(batch)
    with pytest.raises(IndexError, match="a batch of 500 bytes"):
        edge.pull(new_batch(500))
    got += pulled(edge)
    assert [len(item[0]) for item in got] == [1054, 554, 55]


def test_a_frame_half_segmented_is_finished_under_the_next_negotiation() -> None:
    edge = OffloadEdge(ScriptedPort(gso(3500, 1000), gso(3500, 1000)))
    edge.negotiated(NOTHING)
    batch = new_batch(8000, 2)
    assert edge.pull(batch) == 2
    edge.negotiated(EVERYTHING)
    got = pulled(edge)
    assert [len(item[0]) for item in got] == [1054, 554, 3554]
    assert got[2] == gso(3500, 1000)


def test_the_rest_of_a_frame_is_refused_when_the_taker_takes_less_now() -> None:
    edge = OffloadEdge(ScriptedPort(gso(3500, 1000), gso(500, 400), GOOD_TCP))
    edge.negotiated(NOTHING)
    assert edge.pull(new_batch(8000, 2)) == 2
    edge.negotiated(Offload(gso_types=0, max_frame=500))
    assert [len(item[0]) for item in pulled(edge)] == [454, 154, 55]
    assert edge.pulled == OffloadCounters(segmented=1, segments=4, refused=1)


def test_a_long_frame_in_tiny_segments_waits_in_one_batch(engine: str) -> None:
    edge = OffloadEdge(ScriptedPort(gso(60000, 10), GOOD_TCP))
    edge.negotiated(NOTHING)
    batch, total = new_batch(1 << 16, 100), 0
    while edge.pull(batch):
        assert batch.count <= 100
        assert len(l4_of(bytes(batch.frame(0))).payload) in (1, 10)
        total += batch.count
        batch.clear()
    assert total == 6001
    assert not edge.waiting


def pushed(edge: OffloadEdge, *items: Row) -> None:
    batch = new_batch()
    for item in items:
        add(batch, item)
    before = rows(batch)
    edge.push(batch)
    assert rows(batch) == before, "push must not change the batch"


def test_a_port_that_carries_everything_gets_the_batch_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    untouched(monkeypatch)
    port = ScriptedPort()
    pushed(OffloadEdge(port), blank_udp(), gso(3000, 1000))
    assert port.taken == [blank_udp(), gso(3000, 1000)]
    pushed(OffloadEdge(open_port("null:")), blank_udp())


def test_a_port_that_carries_little_gets_what_it_can_take(engine: str) -> None:
    port = ScriptedPort(carries=Offload(False, False, False, 0, 1514))
    edge = OffloadEdge(port)
    pushed(edge, GOOD_TCP, blank_udp(V6), gso(2500, 1000), row(bytes(1515)), row(b"", BLANK))
    assert [len(item[0]) for item in port.taken] == [55, 69, 1054, 1054, 554]
    assert all(item[0] == rebuilt(item[0]) for item in port.taken)
    assert [item[1] for item in port.taken] == [0] + [DATA_VALIDATED] * 4
    expected = OffloadCounters(completed=1, segmented=1, segments=3, refused=1, errors=1)
    assert edge.pushed == expected
    assert edge.pulled == OffloadCounters()


def test_a_frame_longer_than_any_netif_packet_is_refused_whatever_its_type() -> None:
    port = ScriptedPort(carries=Offload(csum_v6=False))
    edge = OffloadEdge(port)
    pushed(edge, blank_udp(V6), row(bytes(300000), BLANK, 1448, 1), GOOD_TCP)
    assert [len(item[0]) for item in port.taken] == [69, 55]
    assert edge.pushed == OffloadCounters(completed=1, refused=1)


def test_a_batch_is_viewed_once_however_often_frames_are_pulled_into_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views: list[Any] = []
    engine, view = current(), type(current()).view
    monkeypatch.setattr(type(engine), "view", lambda self, b: views.append(b) or view(self, b))
    edge = OffloadEdge(ScriptedPort(*[GOOD_TCP] * 9))
    edge.negotiated(NO_GSO)
    batch = new_batch(max_frames=1)
    for _ in range(9):
        views.clear()
        assert edge.pull(batch) == 1
        batch.clear()
    assert views == []


def test_segments_wait_for_a_port_that_is_full_and_keep_others_out() -> None:
    port = ScriptedPort(carries=NOTHING, space=2)
    edge = OffloadEdge(port)
    assert edge.room == 2
    pushed(edge, gso(4500, 1000), GOOD_TCP)
    assert (len(port.taken), edge.room, edge.waiting, edge.exhausted) == (2, 0, True, False)
    with pytest.raises(IndexError, match="1 frames pushed, room for 0"):
        pushed(edge, GOOD_TCP)
    kicks: list[int] = []
    edge.listen(lambda: kicks.append(edge.room))
    edge.finish()
    assert port.finished_after == -1
    port.make_room(3)
    assert edge.room == 0
    assert (len(port.taken), kicks) == (5, [0])
    port.space = 10  # it says nothing of that
    assert (edge.room, len(port.taken)) == (0, 5)
    assert edge.pull(new_batch()) == 0
    assert kicks == [0, 4]
    assert [len(item[0]) for item in port.taken] == [1054] * 4 + [554, 55]
    assert port.finished_after == 6
    assert (edge.room, edge.waiting, edge.exhausted) == (4, False, True)


def test_an_edge_in_front_of_a_port_is_a_port() -> None:
    port: Port = OffloadEdge(open_port("tcp:6000x2"))
    assert (port.name, port.expected, port.exhausted) == ("tcp:6000x2", 2, False)
    checker = Checker(port, InOrderCheck(), InOrderCheck(), lambda _: None)
    checker.negotiated(NO_GSO)
    batch = new_batch(6200)
    assert checker.pull(batch) == 4  # 5934 bytes of payload make five
    batch.clear()
    assert checker.pull(batch) == 1
    batch.clear()
    assert checker.pull(batch) == 4
    assert port.counters.frames_in == 2
    assert open_port("tcp:6000x0").exhausted
    assert not checker.exhausted
    batch.clear()
    assert checker.pull(batch) == 1
    assert checker.exhausted
    assert checker.outgoing.frames_sent == 10
    assert port.expected is None


def test_closing_pushes_what_waits_and_closes_the_port() -> None:
    port = ScriptedPort(carries=NOTHING, space=1)
    edge = OffloadEdge(port)
    pushed(edge, gso(1500, 1000))
    port.space = 2
    edge.close()
    assert len(port.taken) == 2
    assert port.closed


class Jealous(ScriptedPort):
    """Does not want to be pushed to in the middle of a pull."""

    pulling = False

    def pull(self, batch: FrameBatch) -> int:
        self.pulling = True
        pulled = super().pull(batch)
        self.pulling = False
        return pulled

    def push(self, batch: FrameBatch) -> None:
        assert not self.pulling
        super().push(batch)


def test_room_that_a_pull_makes_is_used_when_the_pull_is_done() -> None:
    port = Jealous(carries=NOTHING, space=1)
    edge = OffloadEdge(port)
    kicks: list[int] = []
    edge.listen(lambda: kicks.append(len(port.taken)))
    pushed(edge, gso(2500, 1000))
    port.frees = 5
    assert edge.pull(new_batch()) == 0
    # Woken by the port, which has room now; and then because there is room here as well.
    assert (len(port.taken), kicks) == (3, [1, 3])


class BackPressure(RuleBasedStateMachine):
    """Frames through an edge both ways, with batches and rooms of any size: nothing is lost, and
    whoever found no room or no frames is woken when there are."""

    LESS = Offload(sg=False, csum_v4=False, csum_v6=True, max_frame=1514)

    def __init__(self) -> None:
        super().__init__()
        self.port = Jealous(carries=self.LESS, space=0)
        self.edge = OffloadEdge(self.port)
        self.edge.negotiated(self.LESS)
        self.number = 0
        self.expected_in: list[tuple[int, int]] = []
        self.expected_out: list[tuple[int, int]] = []
        self.got_in: list[tuple[int, int]] = []
        #: There were none when somebody asked last, who was not woken since.
        self.no_room = self.no_frames = False
        self.edge.listen(self.kick)

    def kick(self) -> None:
        self.no_room = self.no_frames = False

    def make(self, kind: int) -> tuple[Row, list[int]]:
        """A frame with the next number as its time stamp, and the lengths it becomes."""
        self.number += 1
        stamp = self.number
        return (
            (GOOD_TCP[0], 0, 0, 0, stamp, 0, 0),
            (*blank_udp()[:4], stamp, 0, 0),
            gso(2500, 1000, stamp=stamp),
            (bytes(1515), 0, 0, 0, stamp, 0, 0),
            (bytes(20), BLANK, 0, 0, stamp, 0, 0),
            gso(2500, 1000, V6, stamp=stamp),
        )[kind], ([55], [49], [1054, 1054, 554], [], [], [1074, 1074, 574])[kind]

    @rule(kinds=st.lists(st.integers(0, 5), max_size=6))
    def add_frames(self, kinds: list[int]) -> None:
        for kind in kinds:
            item, lengths = self.make(kind)
            self.port.to_give.append(item)
            self.expected_in += [(item[4], length) for length in lengths]
        if kinds:
            self.port.wake()

    @rule(frees=st.integers(0, 3))
    def let_pulls_make_room(self, frees: int) -> None:
        self.port.frees = frees

    @rule()
    def ask_for_room(self) -> None:
        self.no_room = not self.edge.room

    @rule(size=st.sampled_from([2600, 3000, 9000]), max_frames=st.integers(1, 4))
    def pull(self, size: int, max_frames: int) -> None:
        batch = new_batch(size, max_frames)
        given = self.edge.pull(batch)
        assert given == batch.count
        assert given or not self.port.to_give
        self.no_frames = not given
        self.got_in += [(item[4], len(item[0])) for item in rows(batch)]

    @precondition(lambda self: self.edge.room)
    @rule(kinds=st.lists(st.integers(0, 5), min_size=1, max_size=6))
    def push(self, kinds: list[int]) -> None:
        items = []
        for kind in kinds[: self.edge.room]:
            item, lengths = self.make(kind)
            items.append(item)
            self.expected_out += [(item[4], length) for length in lengths]
        pushed(self.edge, *items)

    @rule(more=st.integers(1, 4))
    def make_room(self, more: int) -> None:
        self.port.make_room(more)

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        assert not (self.no_room and self.edge.room)
        assert not (self.no_frames and self.port.to_give)

    @invariant()
    def frames_come_in_order_and_none_is_lost(self) -> None:
        got_out = [(item[4], len(item[0])) for item in self.port.taken]
        assert got_out == self.expected_out[: len(got_out)]
        assert self.got_in == self.expected_in[: len(self.got_in)]
        if not self.edge.waiting:
            assert got_out == self.expected_out
            assert self.port.to_give or self.got_in == self.expected_in

    def teardown(self) -> None:
        self.port.space += 10**6
        self.got_in += [(item[4], len(item[0])) for item in pulled(self.edge, 9000, 3)]
        assert not self.edge.waiting
        self.frames_come_in_order_and_none_is_lost()
        assert self.edge.exhausted


BackPressure.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestBackPressure = BackPressure.TestCase
