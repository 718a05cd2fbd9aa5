"""The check notices every way in which a frame can fail to arrive as it was sent."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xennet.wrap.in_order as in_order
from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.flow.dissect import find_flow
from xennet.frames import ALL_GSO_TYPES, CSUM_BLANK, FrameBatch
from xennet.offload.checksum import complete
from xennet.offload.headers import FOUND, PLACES
from xennet.port import open_port
from xennet.wrap.in_order import DESCRIBED, InOrderCheck, ip_flow, sender


def batch(*frames: bytes, timestamp: int = 0) -> FrameBatch:
    made = FrameBatch(memoryview(bytearray(4096)))
    for frame in frames:
        made.append(frame, timestamp=timestamp)
    return made


def test_frames_that_arrive_as_sent_leave_nothing() -> None:
    check = InOrderCheck()
    check.sent(batch(b"one", b"two"), 0)
    check.received(batch(b"one"))
    assert check.missing == 1
    assert not check.intact
    check.received(batch(b"two"))
    assert check.intact
    assert (check.frames_sent, check.frames_received) == (2, 2)
    assert (check.bytes_sent, check.bytes_received) == (6, 6)


def test_a_changed_byte_is_a_mismatch_that_names_the_frame() -> None:
    check = InOrderCheck()
    check.sent(batch(b"one", b"two"), 0)
    check.received(batch(b"one", b"twO"))
    assert check.mismatches == 1
    assert check.evidence[0].frame == 1
    assert "sent 3 bytes" in check.evidence[0].problem


def test_frames_in_the_wrong_order_are_mismatches() -> None:
    check = InOrderCheck()
    check.sent(batch(b"one", b"two"), 0)
    check.received(batch(b"two", b"one"))
    assert check.mismatches == 2


def test_a_frame_that_nobody_sent_is_a_mismatch() -> None:
    check = InOrderCheck()
    check.received(batch(b"ghost"))
    assert check.mismatches == 1
    assert "nobody sent" in check.evidence[0].problem


def test_a_frame_that_did_not_arrive_is_missing() -> None:
    check = InOrderCheck()
    check.sent(batch(b"one"), 0)
    assert check.missing == 1
    assert not check.intact


def test_frames_already_in_the_batch_are_not_noted_again() -> None:
    check = InOrderCheck()
    sent = batch(b"old", b"new")
    check.sent(sent, 1)
    assert check.frames_sent == 1


def test_time_stamps_travel_beside_the_frames() -> None:
    check = InOrderCheck()
    check.sent(batch(b"one", timestamp=123), 0)
    arrived = batch(b"one")
    check.received(arrived)
    assert arrived.timestamp[0] == 123


def test_only_the_first_mismatches_are_described() -> None:
    check = InOrderCheck()
    for _ in range(50):
        check.received(batch(b"ghost"))
    assert check.mismatches == 50
    assert len(check.evidence) == DESCRIBED


# --- later frames are not judged against earlier ones ---------------------------------------------


def frames_of(count: int) -> list[bytes]:
    return [b"frame %04d" % number for number in range(count)]


def test_a_lost_frame_is_missing_and_those_behind_it_arrive() -> None:
    frames = frames_of(10)
    check = InOrderCheck()
    check.sent(batch(*frames), 0)
    check.received(batch(*frames[:3], *frames[5:]))
    assert (check.mismatches, check.missing) == (0, 2)


def test_a_damaged_frame_is_one_mismatch_among_frames_that_arrive() -> None:
    frames = frames_of(10)
    check = InOrderCheck()
    check.sent(batch(*frames), 0)
    check.received(batch(*frames[:3], b"not the frame", *frames[4:]))
    assert (check.mismatches, check.missing) == (1, 0)


def test_a_frame_that_comes_in_two_pieces_spoils_no_other() -> None:
    frames = frames_of(10)
    check = InOrderCheck()
    check.sent(batch(*frames), 0)
    check.received(batch(*frames[:3], b"frame", b" 0003", *frames[4:]))
    assert (check.mismatches, check.missing) == (2, 0)


def test_a_damaged_frame_and_a_lost_one_are_one_of_each() -> None:
    frames = frames_of(10)
    check = InOrderCheck()
    check.sent(batch(*frames), 0)
    check.received(batch(*frames[:3], b"not the frame", *frames[5:]))
    assert (check.mismatches, check.missing) == (1, 1)


def test_time_stamps_stay_right_behind_a_lost_frame() -> None:
    check = InOrderCheck()
    for second, frame in enumerate(frames_of(5)):
        check.sent(batch(frame, timestamp=second), 0)
    arrived = batch(*frames_of(5)[2:])
    check.received(arrived)
    assert list(arrived.timestamp[:3]) == [2, 3, 4]


def test_a_late_frame_is_a_mismatch_and_not_missing() -> None:
    frames = frames_of(6)
    check = InOrderCheck()
    check.sent(batch(*frames), 0)
    check.received(batch(frames[3], frames[0], frames[1], frames[2], *frames[4:]))
    assert check.missing == 0
    assert check.mismatches == 4  # neither the three nor the one that overtook them
    assert "behind frames that were sent later" in check.evidence[0].problem


def test_any_number_of_damaged_frames_take_bounded_memory() -> None:
    check = InOrderCheck()
    for number in range(3000):
        check.sent(batch(b"sent %d" % number), 0)
        check.received(batch(b"came %d" % number))
    assert (check.mismatches, check.missing) == (3000, 0)
    assert sum(map(len, check._in_flight.values())) <= 257


def test_any_number_of_lost_frames_take_bounded_memory() -> None:
    check = InOrderCheck()
    for number in range(3000):
        check.sent(batch(b"lost %d" % number, b"sent %d" % number), 0)
        check.received(batch(b"sent %d" % number))
    assert (check.mismatches, check.missing) == (0, 3000)
    assert not check._in_flight
    assert len(check._overtaken) <= 256


def test_any_number_of_flows_whose_last_frame_is_lost_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_order, "NOTES", 100)
    check = InOrderCheck(sender)
    for number in range(1000):
        frame = bytes(6) + number.to_bytes(6) + bytes(48)
        check.sent(batch(frame, frame), 0)
        check.received(batch(frame if number % 2 else bytes(6) + frame[6:12] + b"damaged"))
    assert 75 <= sum(map(len, check._in_flight.values())) <= 101
    assert check._kept <= 101 * 60
    assert len(check._strays) <= 101
    assert (check.missing, check.mismatches) == (1000, 500)
    after = bytes(6) + b"\xff" * 6
    check.sent(batch(after), 0)
    check.received(batch(after))
    assert (check.missing, check.mismatches) == (1000, 500)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 30), st.booleans())
def test_what_is_blamed_is_what_happened(data: st.DataObject, count: int, digests: bool) -> None:
    """Frames are lost, damaged or doubled; the counts are exact as soon as one arrives behind."""
    fates = data.draw(
        st.lists(
            st.sampled_from(["arrive", "arrive", "lose", "damage", "double"]),
            min_size=count,
            max_size=count,
        )
    )
    kept = in_order.KEPT
    check = InOrderCheck()
    frames = [*frames_of(count), b"the last"]
    try:
        in_order.KEPT = 0 if digests else kept
        check.sent(batch(*frames), 0)
    finally:
        in_order.KEPT = kept
    came = []
    for frame, fate in zip(frames, [*fates, "arrive"], strict=True):
        came += {"lose": [], "damage": [b"x" + frame], "double": [frame, frame]}.get(fate, [frame])
    check.received(batch(*came))
    # Between two frames that arrive, a frame that fits none stands for one that did not.
    lost = mismatches = gone = strays = 0
    for fate in [*fates, "arrive"]:
        if fate in ("arrive", "double"):
            lost += max(0, gone - strays)
            gone = strays = 0
        gone += fate in ("lose", "damage")
        strays += fate in ("damage", "double")
        mismatches += fate in ("damage", "double")
    assert (check.mismatches, check.missing) == (mismatches, lost)
    assert not check._in_flight


# --- evidence -------------------------------------------------------------------------------------


def test_evidence_shows_both_frames_from_the_first_byte_that_differs() -> None:
    check = InOrderCheck()
    check.sent(batch(b"a" * 100 + b"sent" * 50), 0)
    check.received(batch(b"a" * 100 + b"came" * 50))
    mismatch = check.evidence[0]
    assert mismatch.offset == 100
    assert bytes.fromhex(mismatch.sent) == b"sent" * 8
    assert bytes.fromhex(mismatch.received) == b"came" * 8


def test_evidence_of_a_longer_or_shorter_frame_begins_where_one_ends() -> None:
    check = InOrderCheck()
    check.sent(batch(b"abcdef", b"ABCDEF"), 0)
    check.received(batch(b"abcdefgh", b"ABC"))
    longer, shorter = check.evidence
    assert (longer.offset, longer.sent, longer.received) == (6, "", b"gh".hex())
    assert (shorter.offset, shorter.sent, shorter.received) == (3, b"DEF".hex(), "")


def test_evidence_compares_with_the_frame_that_begins_alike() -> None:
    check = InOrderCheck()
    check.sent(batch(b"first frame", b"second frame", b"third frame"), 0)
    check.received(batch(b"first", b" frame", b"second FRAME"))
    first, _, second = check.evidence
    assert (first.offset, bytes.fromhex(first.sent)) == (5, b" frame")
    assert (second.offset, bytes.fromhex(second.sent)) == (7, b"frame")


def test_a_frame_that_nobody_sent_is_shown_from_its_beginning() -> None:
    check = InOrderCheck()
    check.received(batch(b"ghost"))
    mismatch = check.evidence[0]
    assert (mismatch.offset, mismatch.sent, mismatch.received) == (None, "", b"ghost".hex())


def test_of_more_frames_on_their_way_than_are_kept_the_digest_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_order, "KEPT", 25)
    frames = frames_of(6)
    check = InOrderCheck()
    check.sent(batch(*frames), 0)
    check.received(batch(*frames[:5], b"damaged"))
    assert check.mismatches == 1
    assert "sent 10 bytes" in check.evidence[0].problem
    assert (check.evidence[0].offset, check.evidence[0].sent) == (None, "")
    check.sent(batch(b"kept again"), 0)
    assert check._kept == 10


def test_frames_that_have_arrived_make_room_for_others_to_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_order, "KEPT", 25)
    check = InOrderCheck()
    for _ in range(10):
        check.sent(batch(b"0123456789", b"abcdefghij"), 0)
        check.received(batch(b"0123456789", b"abcdefghij"))
    check.sent(batch(b"0123456789"), 0)
    check.received(batch(b"0123456780"))
    assert (check.evidence[0].offset, check.evidence[0].sent) == (9, b"9".hex())


# --- frames that are noted together ---------------------------------------------------------------


def spaced(frames: list[tuple[bytes, int]], gap: int, stamp: int = 0) -> FrameBatch:
    """A batch of frames with their flags, ``gap`` bytes between one and the next."""
    made = FrameBatch(memoryview(bytearray(8192)))
    for frame, flags in frames:
        made.append(frame, flags=flags, timestamp=stamp + made.count)
        made.used += gap
    return made


BYTES = st.sampled_from([b"a", b"b", b"cc", b"dd", b"e" * 40])
SOME_FRAMES = st.lists(st.tuples(BYTES, st.integers(0, 3)), min_size=1, max_size=24)
FAULTS = st.sampled_from(["", "", "", "lost", "changed", "twice", "flags", "swap", "cut"])
COUNTS = (
    "frames_sent",
    "bytes_sent",
    "frames_received",
    "bytes_received",
    "mismatches",
    "missing",
    "filtered",
    "evidence",
    "intact",
)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_frames_noted_together_are_judged_as_those_with_notes_of_their_own(
    data: st.DataObject,
) -> None:
    together, alone = InOrderCheck(), InOrderCheck(lambda _batch, _index: b"")
    checks = together, alone
    on_the_way: list[tuple[bytes, int]] = []
    for turn in range(data.draw(st.integers(1, 8))):
        frames = data.draw(SOME_FRAMES)
        gap = data.draw(st.sampled_from([0, 0, 0, 3]))
        before = data.draw(st.sampled_from([0, 0, 2]))
        remark = data.draw(st.sampled_from([None, None, None, "said"]))
        for check in checks:
            batch_sent = spaced([(b"before", 0)] * before + frames, gap, 1000 * turn)
            batch_sent.remark(before, remark)
            check.sent(batch_sent, before)
        on_the_way += frames
        count = data.draw(st.integers(0, len(on_the_way)))
        arriving, on_the_way = on_the_way[:count], on_the_way[count:]
        fault = data.draw(FAULTS)
        if len(arriving) > 1 and fault:
            at = data.draw(st.integers(0, len(arriving) - 2))
            (frame, flags), (other, other_flags) = arriving[at : at + 2]
            both = frame + other
            arriving[at : at + 2] = {
                "lost": [(other, other_flags)],
                "changed": [(b"?" * len(frame), flags), (other, other_flags)],
                "twice": [(frame, flags), (frame, flags), (other, other_flags)],
                "flags": [(frame, flags ^ 1), (other, other_flags)],
                "swap": [(other, other_flags), (frame, flags)],
                "cut": [(both[:1], flags), (both[1:], other_flags)],
            }[fault]
        if arriving:
            gap = data.draw(st.sampled_from([0, 0, 0, 5]))
            first = data.draw(st.integers(0, len(arriving)))
            seen = []
            for check in checks:
                came = spaced(arriving, gap, -1000)
                check.received(came, 0, first)
                check.received(came, first)
                seen.append((list(came.timestamp), came.remarks))
            assert seen[0] == seen[1]
        if on_the_way and data.draw(st.booleans()):
            frame, stamp = on_the_way[0][0], 1000 * turn
            for check in checks:
                check.filter(frame, stamp)
        for name in COUNTS:
            assert getattr(together, name) == getattr(alone, name), name
    assert together._kept == alone._kept


def test_whole_batches_that_arrive_in_other_batches_need_no_note_for_each_frame() -> None:
    check = InOrderCheck()
    frames = [(bytes([i]) * (20 + i), i % 3) for i in range(60)]
    check.sent(spaced(frames[:30], 0, 100), 0)
    check.sent(spaced(frames[30:], 0, 200), 0)
    for first, end in (0, 11), (11, 45), (45, 60):
        came = spaced([(frame, flags ^ 2) for frame, flags in frames[first:end]], 0)
        check.received(came)
        assert list(came.timestamp[: came.count]) == [
            (100 + i if i < 30 else 170 + i) for i in range(first, end)
        ]
        assert not check._in_flight
    assert check.intact
    assert check._kept == 0


@pytest.mark.parametrize(
    ("change", "mismatches"),
    [
        ({3: (b"ccx", 0)}, 1),
        ({3: (b"cc", 0), 4: (b"cddd", 0)}, 2),
        ({3: (b"ccc", 1)}, 1),
    ],
    ids=["bytes", "lengths", "blank"],
)
def test_a_difference_among_frames_noted_together_is_found(
    change: dict[int, tuple[bytes, int]], mismatches: int
) -> None:
    check = InOrderCheck()
    frames = [(bytes([i]) * 3, 0) for i in b"abbcdefghi"]
    check.sent(spaced(frames, 0), 0)
    check.received(spaced([change.get(i, frame) for i, frame in enumerate(frames)], 0))
    assert check.mismatches == mismatches
    assert not check.missing


def test_frames_that_do_not_lie_end_to_end_are_compared_one_by_one() -> None:
    check = InOrderCheck()
    frames = [(bytes([i]) * 3, 0) for i in b"abcdefghij"]
    check.sent(spaced(frames, 0), 0)
    check.received(spaced(frames, 2))
    assert check.intact


@pytest.mark.parametrize("end", ["sent", "received"])
def test_frames_noted_together_lie_where_their_columns_say(end: str) -> None:
    check = InOrderCheck()
    frames = [(bytes([i]) * 3, 0) for i in b"abcdefghij"]
    batches = {"sent": spaced(frames, 0), "received": spaced(frames, 0)}
    offset = batches[end].offset
    offset[3], offset[4] = offset[4], offset[3]
    check.sent(batches["sent"], 0)
    check.received(batches["received"])
    assert check.mismatches == 2


def test_frames_noted_together_come_before_one_with_a_remark() -> None:
    check = InOrderCheck()
    frames = [(bytes([i]) * 3, 0) for i in b"abcdefghij"]
    check.sent(spaced(frames, 0), 0)
    said = batch(b"said")
    said.remark(0, "so")
    check.sent(said, 0)
    came = spaced([*frames, (b"said", 0)], 0)
    check.received(came)
    assert check.intact
    assert came.remarks == {10: "so"}


def test_batches_of_which_nothing_arrives_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_order, "NOTES", 100)
    check = InOrderCheck()
    frames = [(bytes([i]) * 3, 0) for i in b"abcdefghij"]
    for _ in range(300):
        check.sent(spaced(frames, 0), 0)
    left = sum(map(len, check._in_flight.values())) + sum(noted.left for noted in check._together)
    assert 75 <= left <= 110
    assert check._kept == 3 * left
    assert check.missing == 3000


# --- frames that the link filters -----------------------------------------------------------------


def test_a_filtered_frame_is_neither_missing_nor_judged_against() -> None:
    check = InOrderCheck()
    for second, frame in enumerate([b"group", b"one", b"group", b"two"]):
        check.sent(batch(frame, timestamp=second), 0)
    check.filter(b"group", 0)
    check.filter(b"group", 2)
    arrived = batch(b"one", b"two")
    check.received(arrived)
    assert check.intact
    assert check.filtered == 2
    assert list(arrived.timestamp[:2]) == [1, 3]


def test_of_equal_frames_the_filtered_one_is_told_by_its_time() -> None:
    check = InOrderCheck()
    for second in range(3):
        check.sent(batch(b"group", timestamp=second), 0)
    check.filter(b"group", 1)
    arrived = batch(b"group", b"group")
    check.received(arrived)
    assert list(arrived.timestamp[:2]) == [0, 2]
    assert check.intact


def test_filtered_frames_leave_nothing_behind() -> None:
    check = InOrderCheck(ip_flow)
    for port in range(100):
        check.sent(batch(udp(port)), 0)
        check.filter(udp(port), 0)
    assert check.intact
    assert check.filtered == 100
    assert not check._in_flight
    assert not check._kept


# --- several flows --------------------------------------------------------------------------------


NO_IP = b"no IP at all, but a frame"


def udp(port: int, number: int = 0, *, fragment: int = 0) -> bytes:
    """An Ethernet frame with a UDP packet over IPv4 from ``port``; ``number`` is its payload."""
    ip = bytes.fromhex("45000020") + number.to_bytes(2) + fragment.to_bytes(2)
    ip += bytes.fromhex("4011 0000 0a000001 0a000002")
    ports = port.to_bytes(2) + (53).to_bytes(2)
    return bytes(12) + b"\x08\x00" + ip + ports + bytes(4) + number.to_bytes(4)


@settings(deadline=None)
@given(st.data())
def test_the_flow_of_a_frame_is_what_find_flow_says(data: st.DataObject) -> None:
    """Also where a frame is not the usual one: VLANs, options, fragments, cut frames."""
    frame = bytearray(udp(7) + bytes(20))
    for at, values in (
        (12, (0x08, 0x81, 0x86)),
        (13, (0x00, 0xDD)),
        (14, (0x45, 0x46, 0x55, 0x60)),
        (20, (0x00, 0x20, 0x40, 0x80)),
        (21, (0, 1)),
        (23, (6, 17, 1)),
    ):
        if data.draw(st.booleans()):
            frame[at] = data.draw(st.sampled_from(values))
    del frame[data.draw(st.integers(14, len(frame))) :]
    one = batch(bytes(frame))
    version, addresses, ports, protocol = find_flow(one.data, 0, len(frame))
    flow = b""
    if version:
        flow = frame[addresses : addresses + (8 if version == 4 else 32)]
        if ports:
            flow += frame[ports : ports + 4] + bytes((protocol,))
    assert ip_flow(one, 0) == flow


def test_flows_may_overtake_each_other() -> None:
    check = InOrderCheck(ip_flow)
    check.sent(batch(udp(1, 1), udp(2, 2), udp(1, 3), NO_IP), 0)
    check.received(batch(NO_IP, udp(2, 2), udp(1, 1)))
    assert not check.mismatches
    assert check.missing == 1
    check.received(batch(udp(1, 3)))
    assert check.intact


def test_the_order_within_a_flow_is_judged() -> None:
    check = InOrderCheck(ip_flow)
    check.sent(batch(udp(1, 1), udp(2, 2), udp(1, 3)), 0)
    check.received(batch(udp(1, 3), udp(1, 1), udp(2, 2)))
    assert check.mismatches == 2


def test_a_changed_address_or_port_is_a_frame_that_nobody_sent_and_one_that_is_missing() -> None:
    check = InOrderCheck(ip_flow)
    check.sent(batch(udp(1, 1)), 0)
    check.received(batch(udp(2, 1)))
    assert (check.mismatches, check.missing) == (1, 1)


def test_a_duplicate_in_a_flow_is_a_frame_that_nobody_sent() -> None:
    check = InOrderCheck(ip_flow)
    check.sent(batch(udp(1, 1), udp(2, 2)), 0)
    check.received(batch(udp(1, 1), udp(1, 1), udp(2, 2)))
    assert (check.mismatches, check.missing) == (1, 0)


def test_fragments_of_a_packet_are_a_flow_without_ports() -> None:
    frames = batch(udp(1), udp(2), udp(1, fragment=0x2000), udp(2, fragment=0x0100))
    flows = [ip_flow(frames, i) for i in range(4)]
    assert flows[0] != flows[1]
    assert flows[2] == flows[3]
    assert flows[2] not in flows[:2]


def test_a_check_remembers_no_flow_that_is_not_on_its_way() -> None:
    check = InOrderCheck(ip_flow)
    for port in range(100):
        check.sent(batch(udp(port)), 0)
        check.received(batch(udp(port)))
    assert not check._in_flight


def test_frames_of_one_sender_keep_their_order() -> None:
    frames = batch(bytes(6) + b"sender" + b"x", bytes(6) + b"SENDER" + b"x")
    assert [sender(frames, i) for i in range(2)] == [b"sender", b"SENDER"]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), flows=st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_a_check_of_flows_finds_every_loss_change_duplicate_and_disorder(
    data: st.DataObject, flows: list[int]
) -> None:
    sent = [udp(flow, number) for number, flow in enumerate(flows)]
    received = data.draw(st.permutations(sent))
    what = data.draw(st.sampled_from(["nothing", "lose", "change", "double"]))
    victim = data.draw(st.integers(0, len(sent) - 1))
    if what == "lose":
        received = received[:victim] + received[victim + 1 :]
    elif what == "change":
        at = data.draw(st.integers(0, len(received[victim]) - 1))
        frame = bytearray(received[victim])
        frame[at] ^= data.draw(st.integers(1, 255))
        received[victim] = bytes(frame)
    elif what == "double":
        received.insert(data.draw(st.integers(0, len(received))), received[victim])
    check = InOrderCheck(ip_flow)
    check.sent(batch(*sent), 0)
    check.received(batch(*received))
    good = all(
        [frame for frame in received if frame[34:36] == port]
        == [frame for frame in sent if frame[34:36] == port]
        for port in {frame[34:36] for frame in sent + list(received)}
    )
    assert check.intact == good


# --- blank checksums ------------------------------------------------------------------------------


def blank_frame() -> bytes:
    """A TCP frame whose checksum field holds the sum of the pseudo-header."""
    made = FrameBatch(memoryview(bytearray(1000)))
    open_port("tcp:200x1").pull(made)
    assert made.flags[0] & CSUM_BLANK
    return bytes(made.frame(0))


def filled_in(frame: bytes) -> bytes:
    copy = memoryview(bytearray(frame))
    assert complete(copy, copy.cast("I"), 0, len(frame), array("q", bytes(8 * PLACES))) == FOUND
    return bytes(copy)


def flagged(frame: bytes, flags: int) -> FrameBatch:
    made = FrameBatch(memoryview(bytearray(1000)))
    made.append(frame, flags=flags)
    return made


@pytest.mark.parametrize(
    ("sent_flags", "sent", "received_flags", "received", "fine"),
    [
        (CSUM_BLANK, blank_frame(), CSUM_BLANK, blank_frame(), True),
        (CSUM_BLANK, blank_frame(), 0, filled_in(blank_frame()), True),
        (0, filled_in(blank_frame()), 0, filled_in(blank_frame()), True),
        (CSUM_BLANK, blank_frame(), 0, blank_frame(), False),
        (CSUM_BLANK, blank_frame(), CSUM_BLANK, filled_in(blank_frame()), False),
        (0, blank_frame(), 0, filled_in(blank_frame()), False),
        (0, blank_frame(), CSUM_BLANK, blank_frame(), False),
        (CSUM_BLANK, blank_frame(), 0, filled_in(blank_frame())[:-1] + b"!", False),
        (CSUM_BLANK, blank_frame(), 0, blank_frame()[:-1] + b"!", False),
        (CSUM_BLANK, blank_frame(), 0, filled_in(blank_frame()[:-1] + b"!"), False),
    ],
)
def test_a_blank_checksum_may_be_filled_in_rightly_and_nothing_else(
    sent_flags: int, sent: bytes, received_flags: int, received: bytes, fine: bool
) -> None:
    check = InOrderCheck()
    check.sent(flagged(sent, sent_flags), 0)
    check.received(flagged(received, received_flags))
    assert check.intact == fine


def test_a_blank_checksum_that_is_right_as_it_is_may_lose_its_flag() -> None:
    frame = bytearray(blank_frame())
    for word in range(65536):
        frame[-2:] = word.to_bytes(2)
        # The sum over the segment, with that of the pseudo-header in the field twice, is all ones.
        total = sum(int.from_bytes(frame[at : at + 2]) for at in range(34, len(frame), 2))
        total += int.from_bytes(frame[50:52])
        if total % 65535 == 0:
            break
    right = bytes(frame)
    assert filled_in(right) == right
    check = InOrderCheck()
    check.sent(flagged(right, CSUM_BLANK), 0)
    check.received(flagged(right, 0))
    assert check.intact


@pytest.mark.parametrize("kind", [XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6])
def test_all_gso_types_are_those_of_the_header(kind: int) -> None:
    assert ALL_GSO_TYPES & 1 << kind
    assert ALL_GSO_TYPES.bit_count() == 2
