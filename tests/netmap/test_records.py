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
from xennet.engine.choice import using
from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.replay.play import Outcome, RecordError, load, play

DATA = Path(__file__).parents[1] / "data" / "netmap"
OTHER_FORMS = {"raw_regions", *(p.stem for p in DATA.glob("names_*.json"))}
TOPICS = sorted(p.stem for p in DATA.glob("*.json") if p.stem not in OTHER_FORMS)

#: Cases that are marked as defects of the module, and what is done instead.
DEFECTS = {
    "csb_eventfds/bad-fd": "event descriptors are not looked at",
    "csb_eventfds/not-eventfd": "event descriptors are not looked at",
    "vale_ctl_persistent/attach-register-close-detach": "an attached port keeps its name",
    "vale_ctl_persistent/without-early-detach": "an attached port keeps its name",
    "vale_nic/persistent-attach-traffic": "a refused ATTACH leaves the port where it was",
    "vale_nic/broadcast-and-unicast-one-batch-rings": "a broadcast is delivered once, to ring 0",
}
#: Cases that cannot be played from their record, which says why (replay/unrecorded.py).
NOT_PLAYED = {"host_rings/udp-csum"}


@pytest.fixture(
    scope="module",
    params=[(topic, engine) for engine in ("plain", "fast") for topic in TOPICS],
    ids="-".join,
)
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    topic, engine = request.param
    if engine == "fast":
        pytest.importorskip("numba")
    cases = load(DATA / f"{topic}.json")
    if (topic, engine) == ("extra_bufs", "fast"):
        # Kernels run in a sync only; the other cases take all buffers of a region, for seconds.
        cases = [case for case in cases if any(step["op"] == "txsync" for step in case["steps"])]
        assert cases
    with using(engine):
        return play(cases).outcomes


def test_every_case_is_as_recorded(outcomes: list[Outcome]) -> None:
    wrong = {
        o.case_id: o.difference.lines()
        for o in outcomes
        if o.difference is not None and o.case_id not in DEFECTS
    }
    assert wrong == {}
    agree = {o.case_id for o in outcomes if o.difference is None and o.why is None}
    assert agree & set(DEFECTS) == set()
    assert {o.case_id for o in outcomes if o.why is not None} <= NOT_PLAYED


def test_tables_name_cases_that_there_are() -> None:
    cases = {case["id"]: case for topic in TOPICS for case in load(DATA / f"{topic}.json")}
    assert set(cases) >= NOT_PLAYED
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
