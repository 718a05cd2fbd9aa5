"""echo: against a plain list, and null:."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from port_helpers import frame, new_batch

from xennet.port import UNBOUNDED, PortError
from xennet.port.echo import EchoPort
from xennet.port.null import NullPort

SLOTS = 5


class EchoMachine(RuleBasedStateMachine):
    """Whatever is pushed comes back once, in order, with all that travels with it."""

    def __init__(self) -> None:
        super().__init__()
        self.port = EchoPort(slots=SLOTS)
        self.model: list[tuple[bytes, int, int, int, int]] = []
        self.serial = 0
        self.finished = False
        self.kicks = 0
        self.port.listen(self.kick)

    def kick(self) -> None:
        assert self.port.room
        self.kicks += 1

    @precondition(lambda self: not self.finished)
    @rule(lengths=st.lists(st.sampled_from([1, 14, 60, 1514, 65535]), max_size=SLOTS))
    def push(self, lengths: list[int]) -> None:
        batch = new_batch(SLOTS * 65535)
        for length in lengths[: self.port.room]:
            self.serial += 1
            n = self.serial
            record = (frame(n, length), n, n % 4, n * 10, n % 3)
            batch.append(
                record[0], timestamp=n, flags=record[2], gso_size=record[3], gso_type=record[4]
            )
            self.model.append(record)
        self.port.push(batch)

    @rule(max_frames=st.integers(1, SLOTS + 1), size=st.sampled_from([65535, 70000, 200000]))
    def pull(self, max_frames: int, size: int) -> None:
        batch = new_batch(size, max_frames)
        full, kicks = not self.port.room, self.kicks
        count = self.port.pull(batch)
        assert self.kicks - kicks == full, "whoever found no room is woken, once"
        got = [
            (
                bytes(batch.frame(i)),
                batch.timestamp[i],
                batch.flags[i],
                batch.gso_size[i],
                batch.gso_type[i],
            )
            for i in range(count)
        ]
        assert got == self.model[:count]
        del self.model[:count]
        if count < max_frames and self.model:
            assert batch.used + len(self.model[0][0]) > size

    @rule()
    def finish(self) -> None:
        self.port.finish()
        self.finished = True

    @invariant()
    def room_is_exact(self) -> None:
        assert self.port.room == SLOTS - len(self.model)
        assert self.port.exhausted == (self.finished and not self.model)


TestEcho = EchoMachine.TestCase
TestEcho.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_pushing_more_than_there_is_room_for_changes_nothing() -> None:
    port, batch = EchoPort(slots=2), new_batch()
    for i in range(3):
        batch.append(frame(i))
    with pytest.raises(IndexError, match="3 frames pushed, room for 2"):
        port.push(batch)
    assert port.room == 2
    assert port.counters.frames_out == 0


def test_nobody_is_woken_who_did_not_ask_for_room() -> None:
    port, batch = EchoPort(slots=1), new_batch()
    port.listen(lambda: pytest.fail("nobody asked"))
    for _ in range(2):
        batch.clear()
        batch.append(frame(1))
        port.push(batch)
        assert port.pull(batch) == 1


def test_both_ways_are_counted() -> None:
    port, batch = EchoPort(), new_batch()
    batch.append(frame(1, 20))
    port.push(batch)
    batch.clear()
    port.pull(batch)
    counters = port.counters
    assert (counters.frames_in, counters.bytes_in) == (1, 20)
    assert (counters.frames_out, counters.bytes_out) == (1, 20)


def test_null_gives_nothing_and_swallows_everything() -> None:
    port, batch = NullPort(), new_batch()
    batch.append(frame(1, 20))
    port.push(batch)
    assert port.pull(batch) == 0
    assert port.exhausted
    assert port.room == UNBOUNDED
    assert (port.counters.frames_out, port.counters.bytes_out) == (1, 20)


@pytest.mark.parametrize("kind", [EchoPort, NullPort])
def test_an_argument_is_refused(kind: type) -> None:
    with pytest.raises(PortError, match="takes no argument, not 'x'"):
        kind("x")
