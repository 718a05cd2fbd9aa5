"""A real netfront's requests through our backend: the recorded packets, byte for byte.

The two samples are from one recording of TCP between a Linux 6.1 guest and domain 0 on Xen 4.17.7:
its beginning, and a stretch with GSO in both directions.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_stream import Replay, events

from xennet.abi.netif import NETIF_RSP_NULL, NETIF_RSP_OKAY, TX_REQUEST, NETTXF_extra_info
from xennet.ring import must_notify

RECORDED = Path(__file__).parent.parent / "data" / "recorded"
SAMPLES = ["beginning.jsonl.gz", "gso.jsonl.gz"]


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Path:
    return RECORDED / str(request.param)


def start_indices(path: Path) -> tuple[int, int]:
    first = {"tx_packet": 0, "rx_batch": 0}
    for event in events(path):
        if first.get(event["ev"]) == 0:
            first[event["ev"]] = event["first_index"]
    return first["tx_packet"], first["rx_batch"]


def test_recorded_requests_yield_the_recorded_packets(sample: Path) -> None:
    tx_start, rx_start = start_indices(sample)
    replay = Replay(tx_start=tx_start, rx_start=rx_start)
    packets = 0
    for event in events(sample):
        if event["ev"] != "tx_packet":
            continue
        data, statuses = replay.tx_packet(event)
        assert data == bytes.fromhex(event["data"])
        flags = TX_REQUEST.unpack_from(bytes.fromhex(event["slots"][0]))[2]
        expected = [NETIF_RSP_OKAY] * len(event["slots"])
        if flags & NETTXF_extra_info:
            expected[1] = NETIF_RSP_NULL
        assert statuses == expected
        assert replay.stack.meta[-1] == (
            flags & 3,
            event["gso_size"],
            1 if event["gso_size"] else 0,
        )
        packets += 1
    assert packets >= 50
    assert not replay.fatal


def test_recorded_packets_to_the_guest_yield_the_recorded_responses(sample: Path) -> None:
    tx_start, rx_start = start_indices(sample)
    replay = Replay(tx_start=tx_start, rx_start=rx_start)
    batches = 0
    for event in events(sample):
        if event["ev"] != "rx_batch":
            continue
        responses, payload = replay.rx_batch(event)
        assert [raw.hex() for raw in responses] == event["responses"]
        sent = b"".join(bytes.fromhex(packet["data"]) for packet in event["packets"])
        got = b""
        at = 0
        for packet in event["packets"]:
            left = packet["len"]
            first = True
            while left:
                status = int.from_bytes(responses[at][6:], "little")
                got += payload[at][:status]
                left -= status
                at += 1
                if first and packet["gso_size"]:
                    at += 1
                first = False
        assert got == sent
        batches += 1
    assert batches >= 10
    assert not replay.fatal


def test_recorded_notify_decisions_are_those_of_our_rule() -> None:
    decided = set()
    for name in SAMPLES:
        for event in events(RECORDED / name):
            if event["ev"] == "push_rsp":
                ours = must_notify(event["old"], event["new"], event["rsp_event"])
                assert ours == event["notify"]
                decided.add(ours)
    assert decided == {True, False}
