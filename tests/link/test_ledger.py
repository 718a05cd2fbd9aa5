"""The ledger notices every way in which a frame can fail to arrive as it was sent."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.frames import ALL_GSO_TYPES, CSUM_BLANK, FrameBatch
from xennet.link.ledger import DESCRIBED, Ledger, ip_flow, sender
from xennet.offload.checksum import complete
from xennet.offload.headers import FOUND, PLACES
from xennet.port import open_port


def batch(*frames: bytes, timestamp: int = 0) -> FrameBatch:
    made = FrameBatch(memoryview(bytearray(4096)))
    for frame in frames:
        made.append(frame, timestamp=timestamp)
    return made


def test_frames_that_arrive_as_sent_leave_nothing() -> None:
    ledger = Ledger()
    ledger.sent(batch(b"one", b"two"), 0)
    ledger.received(batch(b"one"))
    assert ledger.missing == 1
    assert not ledger.intact
    ledger.received(batch(b"two"))
    assert ledger.intact
    assert (ledger.frames_sent, ledger.frames_received) == (2, 2)
    assert (ledger.bytes_sent, ledger.bytes_received) == (6, 6)


def test_a_changed_byte_is_a_mismatch_that_names_the_frame() -> None:
    ledger = Ledger()
    ledger.sent(batch(b"one", b"two"), 0)
    ledger.received(batch(b"one", b"twO"))
    assert ledger.mismatches == 1
    assert ledger.evidence[0].frame == 1
    assert "sent 3 bytes" in ledger.evidence[0].problem


def test_frames_in_the_wrong_order_are_mismatches() -> None:
    ledger = Ledger()
    ledger.sent(batch(b"one", b"two"), 0)
    ledger.received(batch(b"two", b"one"))
    assert ledger.mismatches == 2


def test_a_frame_that_nobody_sent_is_a_mismatch() -> None:
    ledger = Ledger()
    ledger.received(batch(b"ghost"))
    assert ledger.mismatches == 1
    assert "nobody sent" in ledger.evidence[0].problem


def test_a_frame_that_did_not_arrive_is_missing() -> None:
    ledger = Ledger()
    ledger.sent(batch(b"one"), 0)
    assert ledger.missing == 1
    assert not ledger.intact


def test_frames_already_in_the_batch_are_not_noted_again() -> None:
    ledger = Ledger()
    sent = batch(b"old", b"new")
    ledger.sent(sent, 1)
    assert ledger.frames_sent == 1


def test_time_stamps_travel_beside_the_frames() -> None:
    ledger = Ledger()
    ledger.sent(batch(b"one", timestamp=123), 0)
    arrived = batch(b"one")
    ledger.received(arrived)
    assert arrived.timestamp[0] == 123


def test_only_the_first_mismatches_are_described() -> None:
    ledger = Ledger()
    for _ in range(50):
        ledger.received(batch(b"ghost"))
    assert ledger.mismatches == 50
    assert len(ledger.evidence) == DESCRIBED


# --- several flows --------------------------------------------------------------------------------


NO_IP = b"no IP at all, but a frame"


def udp(port: int, number: int = 0, *, fragment: int = 0) -> bytes:
    """An Ethernet frame with a UDP packet over IPv4 from ``port``; ``number`` is its payload."""
    ip = bytes.fromhex("45000020") + number.to_bytes(2) + fragment.to_bytes(2)
    ip += bytes.fromhex("4011 0000 0a000001 0a000002")
    ports = port.to_bytes(2) + (53).to_bytes(2)
    return bytes(12) + b"\x08\x00" + ip + ports + bytes(4) + number.to_bytes(4)


def test_flows_may_overtake_each_other() -> None:
    ledger = Ledger(ip_flow)
    ledger.sent(batch(udp(1, 1), udp(2, 2), udp(1, 3), NO_IP), 0)
    ledger.received(batch(NO_IP, udp(2, 2), udp(1, 1)))
    assert not ledger.mismatches
    assert ledger.missing == 1
    ledger.received(batch(udp(1, 3)))
    assert ledger.intact


def test_the_order_within_a_flow_is_judged() -> None:
    ledger = Ledger(ip_flow)
    ledger.sent(batch(udp(1, 1), udp(2, 2), udp(1, 3)), 0)
    ledger.received(batch(udp(1, 3), udp(1, 1), udp(2, 2)))
    assert ledger.mismatches == 2


def test_a_changed_address_or_port_is_a_frame_that_nobody_sent_and_one_that_is_missing() -> None:
    ledger = Ledger(ip_flow)
    ledger.sent(batch(udp(1, 1)), 0)
    ledger.received(batch(udp(2, 1)))
    assert (ledger.mismatches, ledger.missing) == (1, 1)


def test_a_duplicate_in_a_flow_is_a_frame_that_nobody_sent() -> None:
    ledger = Ledger(ip_flow)
    ledger.sent(batch(udp(1, 1), udp(2, 2)), 0)
    ledger.received(batch(udp(1, 1), udp(1, 1), udp(2, 2)))
    assert (ledger.mismatches, ledger.missing) == (1, 0)


def test_fragments_of_a_packet_are_a_flow_without_ports() -> None:
    frames = batch(udp(1), udp(2), udp(1, fragment=0x2000), udp(2, fragment=0x0100))
    flows = [ip_flow(frames, i) for i in range(4)]
    assert flows[0] != flows[1]
    assert flows[2] == flows[3]
    assert flows[2] not in flows[:2]


def test_a_ledger_remembers_no_flow_that_is_not_on_its_way() -> None:
    ledger = Ledger(ip_flow)
    for port in range(100):
        ledger.sent(batch(udp(port)), 0)
        ledger.received(batch(udp(port)))
    assert not ledger._in_flight


def test_frames_of_one_sender_keep_their_order() -> None:
    frames = batch(bytes(6) + b"sender" + b"x", bytes(6) + b"SENDER" + b"x")
    assert [sender(frames, i) for i in range(2)] == [b"sender", b"SENDER"]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), flows=st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_a_ledger_of_flows_finds_every_loss_change_duplicate_and_disorder(
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
    ledger = Ledger(ip_flow)
    ledger.sent(batch(*sent), 0)
    ledger.received(batch(*received))
    good = all(
        [frame for frame in received if frame[34:36] == port]
        == [frame for frame in sent if frame[34:36] == port]
        for port in {frame[34:36] for frame in sent + list(received)}
    )
    assert ledger.intact == good


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
    ledger = Ledger()
    ledger.sent(flagged(sent, sent_flags), 0)
    ledger.received(flagged(received, received_flags))
    assert ledger.intact == fine


@pytest.mark.parametrize("kind", [XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6])
def test_all_gso_types_are_those_of_the_header(kind: int) -> None:
    assert ALL_GSO_TYPES & 1 << kind
    assert ALL_GSO_TYPES.bit_count() == 2
