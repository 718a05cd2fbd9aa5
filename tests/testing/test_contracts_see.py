"""The contracts fail where a port or a link does: each defect here is seen by the rule named."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import Failed

from xennet.frames import FrameBatch
from xennet.link.base_link import EndPair
from xennet.link.epair import EpairLink
from xennet.link.protocol import Link
from xennet.port import Port
from xennet.port.echo import EchoPort
from xennet.port.gen import GenPort
from xennet.testing import LinkContract, PortContract
from xennet.testing.link_contract import Stack

PACKAGE = Path(__file__).parents[2] / "xennet"


class Gen(GenPort):
    def __init__(self) -> None:
        super().__init__("60x10")


class Backwards(Gen):
    def pull(self, batch: FrameBatch) -> int:
        first, pulled = batch.count, super().pull(batch)
        at = batch.offset[first : batch.count]
        batch.offset[first : batch.count] = at[::-1]
        return pulled


class FromTheStart(Gen):
    def pull(self, batch: FrameBatch) -> int:
        batch.clear()
        return super().pull(batch)


class SaysTooMany(Gen):
    def pull(self, batch: FrameBatch) -> int:
        return super().pull(batch) + 1


class CountsNothing(Gen):
    def _pulled(self, frames: int, length: int) -> int:
        return frames


class KeepsMetadata(Gen):
    def pull(self, batch: FrameBatch) -> int:
        kept = bytes(memoryview(batch.gso_size).cast("B"))
        pulled = super().pull(batch)
        memoryview(batch.gso_size).cast("B")[:] = kept
        return pulled


class LosesWhatIsTooLong(Gen):
    def pull(self, batch: FrameBatch) -> int:
        try:
            return super().pull(batch)
        except IndexError:
            self._next += 1
            raise


class NeverExhausted(Gen):
    @property
    def exhausted(self) -> bool:
        return False


class ClosesOnce(Gen):
    closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class EmptiesTheBatch(EchoPort):
    def push(self, batch: FrameBatch) -> None:
        super().push(batch)
        batch.clear()


class WithoutLimit(EchoPort):
    @property
    def room(self) -> int:
        return max(1, super().room)

    def push(self, batch: FrameBatch) -> None:
        with suppress(IndexError):
            super().push(batch)


class RoomIsCounted(EchoPort):
    asked = 0

    @property
    def room(self) -> int:
        self.asked += 1
        return super().room - self.asked


class TellsNobody(EchoPort):
    def listen(self, wake: Callable[[], None], /) -> None:
        """Forget it."""


class TellsAll(EchoPort):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[Callable[[], None]] = []

    def listen(self, wake: Callable[[], None], /) -> None:
        self.all.append(wake)
        self.wake = lambda: [one() for one in self.all]


class ForgetsFlags(EchoPort):
    def pull(self, batch: FrameBatch) -> int:
        first, pulled = batch.count, super().pull(batch)
        for i in range(first, batch.count):
            batch.flags[i] = 0
        return pulled


class NeverFinishes(EchoPort):
    def finish(self) -> None:
        """Forget it."""


class OfGen(PortContract):
    gives = 10


class OfEcho(PortContract):
    returns = bounded = True


def applied(contract: Any, rule: str, **given: Any) -> None:
    """The rule of a contract, with those of ``given`` that it takes."""
    method = getattr(contract, rule)
    names = inspect.signature(method).parameters
    method(**{name: value for name, value in given.items() if name in names})


@pytest.mark.parametrize(
    ("contract", "made", "rule"),
    [
        (OfGen, Backwards, "test_a_pull_appends"),
        (OfGen, Backwards, "test_batches_of_any_size_hold_the_same_frames_in_the_same_order"),
        (OfGen, FromTheStart, "test_a_pull_appends"),
        (OfGen, SaysTooMany, "test_it_gives_what_it_has_and_counts_it"),
        (OfGen, CountsNothing, "test_it_gives_what_it_has_and_counts_it"),
        (OfGen, KeepsMetadata, "test_a_batch_that_was_used_before_leaves_no_trace"),
        (
            OfGen,
            LosesWhatIsTooLong,
            "test_an_empty_batch_that_is_too_small_is_an_error_and_nothing_is_lost",
        ),
        (
            OfGen,
            NeverExhausted,
            "test_it_is_exhausted_when_it_has_given_everything_and_stays_so",
        ),
        (OfGen, ClosesOnce, "test_finish_and_close_may_be_repeated"),
        (
            OfEcho,
            EmptiesTheBatch,
            "test_it_takes_what_it_carries_counts_it_and_leaves_the_batch_as_it_is",
        ),
        (OfEcho, WithoutLimit, "test_more_frames_than_it_has_room_for_are_refused"),
        (OfEcho, RoomIsCounted, "test_to_ask_for_its_room_changes_nothing"),
        (OfEcho, TellsNobody, "test_room_that_comes_back_is_told"),
        (OfEcho, TellsAll, "test_only_the_last_listener_is_called"),
        (OfEcho, ForgetsFlags, "test_what_comes_back_is_what_was_pushed"),
        (
            OfEcho,
            NeverFinishes,
            "test_a_port_that_returns_frames_is_exhausted_once_it_is_finished_and_empty",
        ),
    ],
)
def test_a_defect_of_a_port_is_seen(
    contract: type[PortContract], made: Callable[[], Port], rule: str, tmp_path: Path
) -> None:
    class Held(contract):  # type: ignore[misc, valid-type]
        def open(self, folder: Path) -> Port:
            return made()

    sound = contract()
    sound.open = lambda folder: Gen() if contract is OfGen else EchoPort()  # type: ignore[method-assign, assignment]
    applied(sound, rule, folder=tmp_path, port=sound.open(tmp_path))
    with pytest.raises((AssertionError, Failed)):
        applied(Held(), rule, folder=tmp_path, port=made())


class Loses(EpairLink):
    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        for pair in self.pairs:
            if isinstance(pair.guest, Stack) and len(pair.guest.sending) > 1:
                pair.guest.sending.pop()
        super().carry(waiting)


class SaysNothing(EpairLink):
    def open(self) -> None:
        super().open()
        for pair in self.pairs:
            for end in (pair.guest, pair.host):
                if isinstance(end, Stack):
                    end.offloads.clear()


class JoinsLate(EpairLink):
    def join(self, *ends: Any, **more: Any) -> EndPair:
        was, self._state = self._state, "not open"
        pair = super().join(*ends, **more)
        self._state = was
        return pair


class LeavesInterfaces(EpairLink):
    def left_behind(self) -> list[str]:
        return ["interface epair0a"]


class TricklesAll(EpairLink):
    def trickle(self) -> None:
        self.carry()


class Unseen(EpairLink):
    def bring_up(self, pair: EndPair) -> None:
        super().bring_up(pair)
        for interface, end in zip(pair.interfaces, (pair.guest, pair.host), strict=True):
            interface.input = end.push


class OneAddress(EpairLink):
    def address(self, number: int) -> bytes:
        return bytes(6)


class HidesErrors(EpairLink):
    def carry(self, waiting: Callable[[], int | None] | None = None) -> None:
        with suppress(ZeroDivisionError):
            super().carry(waiting)


class Eager(EpairLink):
    """Carries before it is open."""

    def _require(self, call: str, state: str) -> None:
        """Whatever."""

    def move(self, pair: EndPair, most: int) -> int:
        return super().move(pair, most) if pair in self.epairs else 0


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (Loses, "test_frames_cross_it_unchanged_and_in_order_both_ways"),
        (SaysNothing, "test_both_ends_are_told_what_is_taken_and_get_a_listener"),
        (JoinsLate, "test_what_joins_late_is_refused"),
        (LeavesInterfaces, "test_it_leaves_nothing_behind_and_close_may_be_repeated"),
        (TricklesAll, "test_a_trickle_is_a_frame_of_each_guest"),
        (OneAddress, "test_each_guest_has_an_address_of_its_own"),
        (
            HidesErrors,
            "test_what_an_end_raises_comes_out_and_it_can_still_be_destroyed",
        ),
        (Unseen, "test_who_listens_at_an_interface_sees_what_is_sent_and_what_arrives"),
        (Eager, "test_it_carries_nothing_before_it_is_open"),
    ],
)
def test_a_defect_of_a_link_is_seen(
    made: type[EpairLink], rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (EpairLink, made):

        class Held(LinkContract):
            def make(
                self,
                folder: Path,
                pairs: int = 1,
                *,
                live: bool = False,
                kind: type[EpairLink] = kind,
            ) -> Link:
                return kind()

        link, ends = kind(), (Stack(), Stack())
        given: dict[str, Any] = {"folder": tmp_path, "link": link, "ends": ends}
        given["monkeypatch"] = monkeypatch
        if "up" in inspect.signature(getattr(Held, rule)).parameters or "told" in rule:
            link.join(*ends)
            link.open()
            given["up"] = link
        if kind is EpairLink:
            applied(Held(), rule, **given)
            continue
        with pytest.raises((AssertionError, Failed)):
            applied(Held(), rule, **given)


def test_only_the_contracts_need_pytest() -> None:
    needing = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if "import pytest" in (source := path.read_text()) or "from pytest" in source
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Import) and "pytest" in {alias.name for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and node.module == "pytest")
    }
    assert needing == {"testing"}
