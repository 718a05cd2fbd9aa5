"""gen:SIZExCOUNT: every frame unique, well formed and the same every time."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from port_helpers import drain, frames_of, new_batch

from xennet.engine.choice import PLAIN, current
from xennet.frames import FrameBatch
from xennet.port import PortError, open_port
from xennet.port.gen import DESTINATION, ETHERTYPE, SOURCE, GenPort, sequence_offset
from xennet.port.numbered import NumberedFrames, put_numbered


def expected_frame(size: int, number: int) -> bytes:
    data = bytearray(DESTINATION + SOURCE + ETHERTYPE)
    data += bytes(i & 0xFF for i in range(14, size))
    at = sequence_offset(size)
    data[at : at + 4] = number.to_bytes(4, "big")
    return bytes(data)


@settings(max_examples=60, deadline=None)
@given(
    size=st.one_of(st.integers(14, 80), st.integers(14, 65535)),
    count=st.integers(0, 40),
    max_frames=st.integers(1, 9),
    extra=st.integers(0, 5000),
)
def test_frames_are_as_documented_however_they_are_batched(size, count, max_frames, extra) -> None:
    port = GenPort(f"{size}x{count}")
    got, error = drain(port, new_batch(size + extra, max_frames))
    assert error is None
    assert got == [(i * 1000, expected_frame(size, i)) for i in range(count)]
    assert (port.counters.frames_in, port.counters.bytes_in) == (count, count * size)


@pytest.mark.parametrize("size", [14, 17, 18, 60, 1500])
def test_every_frame_differs_and_has_local_unicast_addresses(size: int) -> None:
    frames = [data for _, data in drain(GenPort(f"{size}x700"))[0]]
    assert len(set(frames)) == 700
    for data in frames:
        assert data[0] & 3 == data[6] & 3 == 2
        assert data[12:14] == b"\x88\xb5"


def test_sequence_numbers_go_on_past_the_template() -> None:
    port, batch = GenPort("65535x40"), new_batch(40 * 65535)
    assert port.pull(batch) == 40
    assert frames_of(batch)[39] == (39000, expected_frame(65535, 39))


def test_pull_appends_and_resets_what_an_older_frame_left() -> None:
    batch = new_batch()
    for _ in range(3):
        batch.append(bytes(20), flags=3, gso_size=1448, gso_type=1, timestamp=9)
    batch.clear()
    batch.append(bytes(30), flags=1)
    assert GenPort("60x2").pull(batch) == 2
    assert list(batch.length[:3]) == [30, 60, 60]
    assert list(batch.offset[:3]) == [0, 30, 90]
    assert list(batch.flags[:3]) == [1, 0, 0]
    assert list(batch.gso_size[:3]) == list(batch.gso_type[:3]) == [0, 0, 0]
    assert (batch.count, batch.used) == (3, 150)


def test_a_full_batch_takes_nothing_and_loses_nothing() -> None:
    port, batch = GenPort("60x1"), new_batch(max_frames=1)
    batch.append(bytes(14))
    assert port.pull(batch) == 0
    assert not port.exhausted
    batch.clear()
    assert port.pull(batch) == 1
    assert port.exhausted


def test_a_batch_too_small_for_one_frame_is_the_callers_error() -> None:
    with pytest.raises(IndexError, match="1500"):
        GenPort("1500x1").pull(new_batch(size=1499))


def test_count_is_known_beforehand() -> None:
    assert GenPort("14x4294967296").expected == 2**32
    assert GenPort("14x0").exhausted


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "wants SIZExCOUNT"),
        ("1500", "wants SIZExCOUNT"),
        ("x5", "wants SIZExCOUNT"),
        ("-60x5", "wants SIZExCOUNT"),
        ("60x-5", "wants SIZExCOUNT"),
        ("60x5 ", "wants SIZExCOUNT"),
        ("٦٠x5", "wants SIZExCOUNT"),
        ("60x" + "9" * 5000, "wants SIZExCOUNT"),
        ("13x5", "SIZE must be 14 to 65535 bytes, not 13"),
        ("65536x5", "SIZE must be 14 to 65535 bytes, not 65536"),
        ("60x4294967297", "COUNT must be 0 to 4294967296"),
    ],
)
def test_a_bad_argument_is_named(argument: str, message: str) -> None:
    with pytest.raises(PortError, match=message):
        GenPort(argument)


def test_frames_have_no_metadata_of_those_before_them_in_a_batch() -> None:
    batch = new_batch()
    for column in (*batch.columns[2:], *batch.hash_columns):
        column[:] = array("I", [1] * batch.max_frames)
    GenPort("60x3").pull(batch)
    for column in (batch.flags, batch.gso_size, batch.gso_type, batch.hash_info):
        assert list(column[:4]) == [0, 0, 0, 1]


def as_columns(batch: FrameBatch) -> list[bytes]:
    """All that a batch holds, behind its frames too."""
    return [bytes(batch.data), *(column.tobytes() for column in batch.all_columns)]


@settings(max_examples=60, deadline=None)
@given(
    spec=st.sampled_from(
        ["gen:14x40", "gen:60x40", "tcp:66x40", "tcp:100x40@7", "tcp:3000x40@3", "tcp6:90x40"]
    ),
    first=st.one_of(st.integers(0, 40), st.integers(2**32 - 60, 2**32 - 41)),
    rooms=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_the_kernel_writes_what_whole_columns_write(spec, first, rooms) -> None:
    """From anywhere on, into batches that have frames already; and what is alike only once."""
    plain, other = open_port(spec), open_port(spec)
    assert isinstance(plain, GenPort)
    assert isinstance(other, GenPort)
    kernel = NumberedFrames(PLAIN, plain._frame(plain._size), array("I", other._spec()))
    ours, theirs = new_batch(40 * 3000, 40), new_batch(40 * 3000, 40)
    for room in rooms:
        plain._put(first, room, ours)
        kernel.put(first, room, theirs)
        for batch in (ours, theirs):
            batch.count += room
            batch.used += room * plain._size
        first += room
        assert as_columns(ours) == as_columns(theirs)
    ours.clear()
    plain._put(first, 5, ours)
    frames = theirs.for_kernels(PLAIN.view)
    alike = min(3, sum(rooms))
    put_numbered(first, first + 5, 0, 0, alike, kernel.args, frames, theirs.timestamp)
    assert as_columns(ours) == as_columns(theirs)


@pytest.mark.parametrize(
    ("flows", "wanted"), [((1, 4), (8, 11, 15, 18)), ((6,), (13, 20, 27)), ((0,), (7, 14, 21))]
)
def test_the_kernel_writes_the_frames_of_some_flows_alone(engine, flows, wanted) -> None:
    """As each of several queues has them: after a frame of a flow, that of the next one wanted."""
    port = open_port("tcp:100x40@7")
    assert isinstance(port, GenPort)
    way = current()
    followings = array("I", bytes(4 * 7))
    for flow, following in zip(flows, (*flows[1:], *flows[:1]), strict=True):
        followings[flow] = following
    kind = port.numbered_by(way)
    numbered = (*kind.kind, way.view(followings), *kind.args[3:])
    ours, theirs = new_batch(40 * 100, 40), new_batch(40 * 100, 40)
    for frame in wanted:
        port._put(frame, 1, ours)
        ours.count += 1
        ours.used += 100
    frames, timestamp = theirs.for_kernels(way.view), way.view(theirs.timestamp)
    count = len(wanted)
    behind = wanted[-1] + 1
    end, _ = way.kernel(put_numbered)(wanted[0], behind, 0, 0, 0, numbered, frames, timestamp)
    assert end == count
    assert as_columns(ours) == as_columns(theirs)


def test_a_long_run_is_made_by_the_compiled_kernel(engine: str) -> None:
    ports = [GenPort("60x5000"), GenPort("60x40")]
    made = [drain(port, new_batch(64 * 100, 100))[0] for port in ports]
    assert (ports[0]._kernel is not None) is (engine == "fast")
    assert ports[1]._kernel is None
    assert made[0][:40] == made[1]
    assert made[0] == [(i * 1000, expected_frame(60, i)) for i in range(5000)]
    assert ports[0].counters.frames_in == ports[0].given == 5000
