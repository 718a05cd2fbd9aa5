"""The adversary engine itself: which accesses are points, what they say, and that runs repeat."""

from __future__ import annotations

from array import array
from random import Random

import pytest
from vif_peers import Stack

from xennet.adversary import (
    LOAD,
    STORE,
    Access,
    Adversary,
    DivergedError,
    RandomWrites,
    interleavings,
    record,
)
from xennet.engine import choice as engine
from xennet.engine.choice import shared, using
from xennet.engine.kernel import arm, publish
from xennet.host.host import Host


class Page:
    """32 bytes that are shared, as words and as bytes, and an array that is not."""

    def __init__(self) -> None:
        self.raw = bytearray(range(32))
        self.private = array("I", bytes(32))
        self.u8 = shared(memoryview(self.raw), "page")
        self.u32 = shared(memoryview(self.raw).cast("I"), "page")


def seen(run: object) -> list[tuple[str, int, int, int]]:
    """(kind, first byte, bytes, value) of each access that ``run(page)`` makes."""
    accesses, _ = record(Page, run)  # type: ignore[arg-type]
    assert [access.number for access in accesses] == list(range(1, len(accesses) + 1))
    assert {access.memory for access in accesses} <= {"page"}
    return [(a.kind, a.at, a.size, a.value) for a in accesses]


def test_a_load_and_a_store_of_a_word_are_a_point_each() -> None:
    def run(page: Page) -> None:
        page.u32[2] = page.u32[1] + 1

    assert seen(run) == [(LOAD, 4, 4, 0x07060504), (STORE, 8, 4, 0x07060505)]


def test_an_augmented_assignment_is_a_load_and_a_store() -> None:
    def run(page: Page) -> None:
        page.u8[3] |= 0x80

    assert seen(run) == [(LOAD, 3, 1, 3), (STORE, 3, 1, 0x83)]


def test_a_range_is_one_access() -> None:
    def run(page: Page) -> None:
        page.u8[8:12] = page.u8[0:4]

    assert seen(run) == [(LOAD, 0, 4, 0x03020100), (STORE, 8, 4, 0x03020100)]


def test_what_is_written_behind_the_load_of_a_range_is_not_in_it() -> None:
    def run(page: Page) -> bytes:
        return bytes(page.u8[0:4])

    got = []

    def scene() -> Page:
        return Page()

    for _, _page in interleavings(
        scene,
        lambda page: got.append(run(page)),
        lambda page, access: page.raw.__setitem__(slice(0, 4), b"zzzz"),
    ):
        pass
    assert got == [b"\0\1\2\3"] * 2


def test_a_view_of_the_rest_is_no_access_but_its_items_are() -> None:
    def run(page: Page) -> None:
        rest = page.u32[2:]
        assert rest[1] == page.u32[3]

    assert seen(run) == [(LOAD, 12, 4, 0x0F0E0D0C)] * 2


def test_private_memory_has_no_points() -> None:
    def run(page: Page) -> None:
        view = engine.current().view(page.private)
        view[1] = view[0] + 1

    assert seen(run) == []


def test_publishing_an_index_is_three_points_and_asking_for_an_event_is_one() -> None:
    def run(page: Page) -> None:
        publish(page.u32, 0, 1, 9)
        arm(page.u32, 2, 5)

    assert [access[:2] for access in seen(run)] == [(LOAD, 0), (STORE, 0), (LOAD, 4), (STORE, 8)]


def test_an_access_names_its_word_and_says_what_it_is() -> None:
    access = Access(7, "tx ring", 72, 4, LOAD, 0x2A)
    assert access.word == 18
    assert str(access) == "point 7: load of 0x2a, tx ring, bytes 72..75"


def test_what_a_watcher_touches_is_not_told_to_it() -> None:
    page_of: list[Page] = []

    def scene() -> Page:
        page_of.append(Page())
        return page_of[-1]

    def run(page: Page) -> int:
        return page.u32[0] + page.u32[1]

    points = [
        access.number for access, _ in interleavings(scene, run, lambda page, access: page.u32[5])
    ]
    assert points == [1, 2]
    assert len(page_of) == 3


def test_what_happens_at_a_point_happens_between_two_accesses() -> None:
    sums = []

    def run(page: Page) -> None:
        sums.append(page.u8[1] + page.u8[1])

    def act(page: Page, access: Access) -> None:
        page.raw[1] = 100

    assert len(list(interleavings(Page, run, act))) == 2
    # Undisturbed; between the loads; after both.
    assert sums == [2, 101, 2]


def test_only_the_points_asked_for_are_tried() -> None:
    def run(page: Page) -> None:
        page.u32[0] = page.u32[1]

    tried = [a for a, _ in interleavings(Page, run, lambda *_: None, lambda a: a.kind == STORE)]
    assert [(a.number, a.word) for a in tried] == [(2, 0)]


def test_a_run_that_depends_on_more_than_its_scene_is_an_error() -> None:
    calls = []

    def run(page: Page) -> None:
        calls.append(page.u32[len(calls)])

    with pytest.raises(DivergedError, match="the first run made: point 1: load of 0x3020100"):
        list(interleavings(Page, run, lambda *_: None))


def test_an_exception_names_the_point_at_which_the_peer_acted() -> None:
    def run(page: Page) -> None:
        if page.u8[0] + page.u8[0] == 99:
            raise RuntimeError("fetched twice")

    with pytest.raises(RuntimeError) as caught:
        list(interleavings(Page, run, lambda page, _: page.raw.__setitem__(0, 99)))
    assert caught.value.__notes__ == ["acted at point 1: load of 0x0, page, bytes 0..0"]


def test_an_adversary_is_watched_by_one_at_a_time() -> None:
    one = Adversary()
    with (
        one.watching(print),
        pytest.raises(ValueError, match="being watched already"),
        one.watching(print),
    ):
        pass


def test_outside_of_the_engine_shared_memory_is_itself() -> None:
    words = memoryview(bytearray(8)).cast("I")
    with using("plain"):
        assert shared(words, "page") is words
    with using(Adversary()) as it:
        assert it.name == "adversary"
        view = shared(words, "page")
        assert view is not words
        assert shared(view, "page") is view


def test_naming_shared_memory_chooses_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_selected", None)
    words = memoryview(bytearray(8)).cast("I")
    assert shared(words, "page") is words
    assert engine._selected is None


def test_random_writes_follow_from_their_seed_and_stay_in_the_memories_named() -> None:
    def once(seed: int) -> tuple[bytes, bytes, int]:
        it = Adversary()
        with using(it):
            page, other = Page(), memoryview(bytearray(32))
            mine = shared(other, "not to be touched")
        writes = RandomWrites(it, {"page"}, Random(seed), every=2)
        with it.watching(writes):
            for _ in range(100):
                mine[0] = page.u32[3] & 0xFF
        return bytes(page.raw), bytes(other[1:]), writes.writes

    assert once(1) == once(1)
    assert once(1) != once(2)
    page, other, writes = once(3)
    assert page != bytes(range(32))
    assert other == bytes(31)
    assert 50 < writes < 200


def test_a_run_that_nobody_disturbs_is_as_plain_as_a_plain_one() -> None:
    def carried(engine: str | Adversary) -> list[object]:
        with using(engine):
            host = Host()
            guest = host.add_guest()
            host.boot()
            ends = Stack(), Stack()
            vif = host.plug(guest, 0, *ends)
            host.settle()
            for end in ends:
                end.to_send += [bytes([size & 0xFF]) * size for size in (60, 9000, 4096, 1514)]
            vif.kick_guest()
            vif.kick_host()
            host.settle()
            rings = [vif.netfront.queue.tx_ring, vif.netfront.queue.rx_ring]  # type: ignore[union-attr]
            pages = [ring.sring.u8.tobytes() for ring in rings]
            host.unplug(vif)
            host.settle()
            leaks = host.leaks()
            host.destroy()
        return [*(end.received for end in ends), pages, bool(leaks)]

    assert carried(Adversary()) == carried("plain")
