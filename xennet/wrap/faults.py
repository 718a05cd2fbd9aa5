"""A :class:`FaultInjector` drops, corrupts, duplicates and reorders frames at random, from a
seed."""

from __future__ import annotations

from random import Random

from attrs import Attribute, define, field, frozen

from xennet.frames import MAX_FRAME, Endpoint, FrameBatch, large_enough, pull_at_most
from xennet.port.base import PortWrapper


def _chance(faults: Faults, attribute: Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} is a chance from 0 to 1, not {value}")


def _frames(faults: Faults, attribute: Attribute[int], value: int) -> None:
    if value < 0:
        raise ValueError(f"{attribute.name} is a number of frames, 0 for any, not {value}")


@frozen(kw_only=True)
class Faults:
    """The faults of one direction.

    Chances, from 0 to 1 for each frame: ``drop`` it; ``corrupt`` one of its bits, which may be in a
    header; ``duplicate`` it, if there is room for one more; ``reorder`` it behind the next one of
    the same call. ``limit``: most frames that pass in one call, 0 for any number. Raises ValueError
    for a number that is no chance, or a negative limit.
    """

    drop: float = field(default=0.0, validator=_chance)
    corrupt: float = field(default=0.0, validator=_chance)
    duplicate: float = field(default=0.0, validator=_chance)
    reorder: float = field(default=0.0, validator=_chance)
    limit: int = field(default=0, validator=_frames)

    def most(self, frames: int) -> int:
        """How many of ``frames`` to ask for: room is left for duplicates, but the result is not
        0."""
        if self.duplicate:
            frames = (frames + 1) // 2
        return min(frames, self.limit) if self.limit else frames


@define
class FaultCounters:
    """Counts of one direction, in frames.

    ``came``: all. Of these ``dropped``, ``corrupted``, ``duplicated``, or ``reordered`` behind the
    next one.
    """

    came: int = 0
    dropped: int = 0
    corrupted: int = 0
    duplicated: int = 0
    reordered: int = 0


@define
class _Fate:
    """What happens to one frame that is not dropped.

    ``bit``: the bit that is inverted, -1 for none. It passes ``times`` times. ``behind``: it
    changes places with the next one.
    """

    index: int
    bit: int
    times: int
    behind: bool


class _Direction:
    """Decides about the frames of one direction.

    Each frame takes the same number of draws, so that no chance changes what another one does.
    """

    def __init__(self, faults: Faults, seed: str) -> None:
        self.faults = faults
        self.counters = FaultCounters()
        self._draw = Random(seed).random

    def fates(self, batch: FrameBatch, first: int, spare: int, spare_bytes: int) -> list[_Fate]:
        """What happens to frames ``first`` ... of a batch, in the order in which they pass.

        There is room for ``spare`` more frames, of ``spare_bytes`` in all.
        """
        faults, counters, draw = self.faults, self.counters, self._draw
        fates = []
        for index in range(first, batch.count):
            length = batch.length[index]
            drop, corrupt, where, duplicate, reorder = draw(), draw(), draw(), draw(), draw()
            counters.came += 1
            if drop < faults.drop:
                counters.dropped += 1
                continue
            fate = _Fate(index, -1, 1, reorder < faults.reorder)
            if corrupt < faults.corrupt:
                counters.corrupted += 1
                fate.bit = int(where * length * 8)
            if duplicate < faults.duplicate and spare > 0 and spare_bytes >= length:
                counters.duplicated += 1
                fate.times = 2
                spare, spare_bytes = spare - 1, spare_bytes - length
            fates.append(fate)
        place = 1
        while place < len(fates):
            if fates[place - 1].behind:
                counters.reordered += 1
                fates[place - 1 : place + 1] = fates[place], fates[place - 1]
                place += 1  # it goes no further back
            place += 1
        return fates


class FaultInjector(PortWrapper):
    """Injects faults into the frames that are ``pulled`` from ``endpoint`` and ``pushed`` to it.

    With the same ``seed`` the same happens to the n-th frame of a direction each time, except that
    duplicates need room, and reordering needs a next frame in the same call. Counters are in
    :attr:`pulled` and :attr:`pushed`. Frames keep their flags: a corrupted frame may not be what
    its flags say.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        seed: int = 0,
        *,
        pulled: Faults | None = None,
        pushed: Faults | None = None,
    ) -> None:
        super().__init__(endpoint)
        self._pulled = _Direction(pulled or Faults(), f"{seed} pulled")
        self._pushed = _Direction(pushed or Faults(), f"{seed} pushed")
        self._kept: FrameBatch | None = None

    @property
    def pulled(self) -> FaultCounters:
        """Counters of the frames pulled from the endpoint."""
        return self._pulled.counters

    @property
    def pushed(self) -> FaultCounters:
        """Counters of the frames pushed to the endpoint."""
        return self._pushed.counters

    @property
    def expected(self) -> int | None:
        """The port's number of frames; None if frames can be dropped or duplicated."""
        faults = self._pulled.faults
        return None if faults.drop or faults.duplicate else super().expected

    @property
    def room(self) -> int:
        return self._pushed.faults.most(self.endpoint.room)

    def pull(self, batch: FrameBatch) -> int:
        direction, first = self._pulled, batch.count
        most = direction.faults.most(batch.max_frames - first)
        # 0 means that there are no frames now; here all frames of a call were dropped.
        while batch.count == first and pull_at_most(self.endpoint, batch, most):
            spare, spare_bytes = batch.max_frames - batch.count, len(batch.data) - batch.used
            came = batch.count - first
            fates = direction.fates(batch, first, spare, spare_bytes)
            if not _as_they_were(fates, came):
                changed = self._changed(batch, fates)
                batch.cut(first)
                for i in range(changed.count):
                    batch.append_from(changed, i)
        return batch.count - first

    def push(self, batch: FrameBatch) -> None:
        direction = self._pushed
        spare = self.endpoint.room - batch.count
        fates = direction.fates(batch, 0, spare, MAX_FRAME * batch.count)
        if _as_they_were(fates, batch.count):
            self.endpoint.push(batch)
        elif fates:
            self.endpoint.push(self._changed(batch, fates))

    def _changed(self, batch: FrameBatch, fates: list[_Fate]) -> FrameBatch:
        """A batch of the frames that pass, as they pass."""
        kept = large_enough(self._kept, max(2 * batch.used, MAX_FRAME), 2 * batch.max_frames)
        self._kept = kept
        kept.clear()
        for fate in fates:
            for _ in range(fate.times):
                kept.append_from(batch, fate.index)
                if fate.bit >= 0:
                    kept.data[kept.offset[kept.count - 1] + fate.bit // 8] ^= 1 << fate.bit % 8
        return kept


def _as_they_were(fates: list[_Fate], came: int) -> bool:
    """Whether all frames pass once each, in order and undamaged."""
    return len(fates) == came and all(
        fate.bit < 0 and fate.times == 1 and not fate.behind for fate in fates
    )
