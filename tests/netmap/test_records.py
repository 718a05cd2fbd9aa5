"""Records of the real kernel module, replayed: every case, step by step."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from netmap_clients import Client

from xennet.abi.netmap import IF, RING
from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.replay.play import Outcome, RecordError, load, play

DATA = Path(__file__).parents[1] / "data" / "netmap"
OTHER_FORMS = {"raw_regions"}
TOPICS = sorted(p.stem for p in DATA.glob("*.json") if p.stem not in OTHER_FORMS)

#: Cases of parts that are not built. Each has to differ, so that it leaves the table when it is.
NOT_BUILT = {
    part: cases.split()
    for part, cases in {
        "monitors": """
            exclusive/pipe-excl-monitor exclusive/pipe-plain-monitor-excl
            exclusive/dummy-excl-monitor monitor/copy-rx monitor/copy-tx-only
            monitor/copy-rx-only monitor/copy-overflow monitor/copy-monitor-tx
            monitor/copy-parent-closes monitor/copy-monitor-of-pipe
            monitor/copy-close-monitor-first monitor/copy-morefrag monitor/z-rx
            monitor/z-rx-poll monitor/z-tx-only monitor/z-rx-only monitor/z-monitor-tx
            monitor/z-parent-closes monitor/z-monitor-of-pipe monitor/z-close-monitor-first
            monitor/monitor-of-monitor monitor/monitor-then-reopen-parent
            register/monitor-rz register/monitor-t register/monitor-tz register/monitor-rt
            register/monitor-rtz register/monitor-one-r register/monitor-one-t
            register/monitor-one-tz register/monitor-z-only register/monitor-no-parent
            register/monitor-slots-asked register/monitor-of-host-rings
        """,
        "control blocks and the kernel loop": """
            csb_eventfds/size-48 csb_eventfds/size-24 csb_eventfds/minus-one csb_eventfds/bad-fd
            csb_eventfds/not-eventfd csb_kloop/register-2rings csb_kloop/csb-null
            csb_kloop/csb-kernel-half csb_kloop/csb-short-option csb_kloop/enable-after-traffic
            csb_kloop/enable-errors csb_kloop/start-sleep-too-long csb_kloop/kloop-runs
            csb_kloop/mode-0 csb_kloop/mode-1 csb_kloop/mode-2 csb_kloop/mode-3 csb_kloop/mode-4
            csb_kloop/mode-7 ctrl_options/option-sizes
        """,
    }.items()
}
#: Cases that are marked as defects of the module, and what is done instead.
DEFECTS = {
    "vale_ctl_persistent/attach-register-close-detach": "an attached port keeps its name",
    "vale_ctl_persistent/without-early-detach": "an attached port keeps its name",
    "vale_nic/persistent-attach-traffic": "a refused ATTACH leaves the port where it was",
    "vale_nic/broadcast-and-unicast-one-batch-rings": "a broadcast is delivered once, to ring 0",
}
#: Cases that cannot be played from their record, which says why (replay/unrecorded.py).
NOT_PLAYED = {
    "close/fork",
    "close/poll-while-closed-by-thread",
    "csb_kloop/align-atok",
    "host_rings/udp-csum",
    "vale_nic/two-threads",
}


@pytest.fixture(scope="module", params=TOPICS)
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    return play(load(DATA / f"{request.param}.json")).outcomes


def test_every_case_is_as_recorded(outcomes: list[Outcome]) -> None:
    not_built = {case for cases in NOT_BUILT.values() for case in cases}
    wrong = {
        o.case_id: o.difference.lines()
        for o in outcomes
        if o.difference is not None and o.case_id not in not_built and o.case_id not in DEFECTS
    }
    assert wrong == {}
    agree = {o.case_id for o in outcomes if o.difference is None and o.why is None}
    assert agree & (not_built | set(DEFECTS)) == set()
    assert {o.case_id for o in outcomes if o.why is not None} <= NOT_PLAYED | not_built


def test_tables_name_cases_that_there_are() -> None:
    cases = {case["id"]: case for topic in TOPICS for case in load(DATA / f"{topic}.json")}
    named = {case for group in NOT_BUILT.values() for case in group} | NOT_PLAYED
    assert named <= set(cases)
    assert {case for case in DEFECTS if not cases[case].get("defect")} == set()


RAW: dict[str, Any] = json.loads((DATA / "raw_regions.json").read_text())


@pytest.mark.parametrize("name", RAW)
def test_memory_is_as_recorded_byte_by_byte(name: str) -> None:
    recorded = RAW[name]
    device = Device()
    device.state.add_interface(NetInterface("dm0"))
    client = Client(device)
    reply = recorded["reply"]
    port = "dm0" if name == "dummy" else "vale0:p0"
    asked = {"nr_tx_slots": reply["tx_slots"], "nr_rx_slots": reply["rx_slots"]}
    assert client.register(port, nr_mode=reply["mode"], **asked) == 0
    region = client.region
    assert region.memsize == recorded["memsize"]
    size = IF.size + 8 * sum(len(client.port.rings(tx)) for tx in (True, False))
    assert region.u8[:size].tobytes().hex()[32:] == recorded["netmap_if"][32 : 2 * size]
    for ring, (offset, shown) in recorded["rings"].items():
        tx, kind = "tx" in ring, ring.rstrip("0123456789")
        index = int(ring[len(kind) :]) + (client.port.nrings(tx) if kind[0] == "h" else 0)
        kring = client.ring(tx, index)
        assert kring.offset == offset
        raw = region.u8[offset : offset + len(shown) // 2].tobytes().hex()
        assert raw[: 2 * RING.size] == shown[: 2 * RING.size]
        assert raw == shown
    if (packed := recorded.get("first_64k_zlib_b64")) is not None:
        first = zlib.decompress(base64.b64decode(packed))
        assert region.u8[: len(first)].tobytes() == first


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cases": [{"id": "a"}]}', '{"cases": 3}'])
def test_what_is_no_record_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(RecordError):
        load(path)
    with pytest.raises(RecordError):
        load(tmp_path / "missing.json")


def test_a_difference_is_told() -> None:
    cases = load(DATA / "null.json")
    step = next(s for s in cases[0]["steps"] if s["op"] == "netmap_if")
    step["bufs_head"] += 1
    difference = play(cases).outcomes[0].difference
    assert difference is not None
    assert (difference.key, difference.recorded - difference.actual) == ("bufs_head", 1)


def test_a_step_that_nobody_knows_is_told() -> None:
    cases = [{"id": "x/y", "steps": [{"op": "fly"}]}]
    assert play(cases).outcomes[0].why == "no step fly"
