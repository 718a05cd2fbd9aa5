"""The ledger notices every way in which a frame can fail to arrive as it was sent."""

from __future__ import annotations

from xennet.frames import FrameBatch
from xennet.link.ledger import DESCRIBED, Ledger


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
