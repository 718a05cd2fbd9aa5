"""Ring pages recorded from Linux on real Xen: every packet in them, slot by slot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xennet.abi.netif import (
    EXTRA_GSO,
    RX_RESPONSE,
    NETRXF_extra_info,
    NETRXF_more_data,
    NETTXF_more_data,
)
from xennet.netback.xnb import GnttabCopyTable, Pkt, mbufc2pkt, ring2pkt, rxpkt2gnttab, rxpkt2rsp
from xennet.netback.xnb.mbuf import CSUM_DELAY_DATA, CSUM_TSO
from xennet.netback.xnb.slots import rx_request, tx_request
from xennet.ring import BackRing, FrontRing, rx_ring, tx_ring
from xennet.testing.xnb_world import FRONT, XnbWorld

RINGS = Path(__file__).parent.parent / "data" / "rings"
RECORDINGS = ["split", "single-channel"]
EXTRA_FIELDS = ("type", "flags", "gso_size", "gso_type", "gso_pad", "gso_features")
RECORDED_FIELDS = ("type", "flags", "gso_size", "gso_type", "pad", "features")


def load(recording: str, name: str):
    u8 = memoryview(bytearray((RINGS / recording / f"{name}.bin").read_bytes()))
    facts = json.loads((RINGS / recording / f"{name}.json").read_text())
    make = tx_ring if facts["ring"] == "tx" else rx_ring
    return make(u8, u8.cast("I")), facts


@pytest.fixture(params=RECORDINGS)
def tx(request):
    return load(request.param, "12-tx-vif-down-00.q0.tx")


@pytest.fixture(params=RECORDINGS)
def rx(request):
    return load(request.param, "11-rx-guest-paused-00.q0.rx")


def test_the_header_words_are_the_recorded_indices(tx, rx):
    for sring, facts in (tx, rx):
        names = ("req_prod", "req_event", "rsp_prod", "rsp_event")
        assert {name: getattr(sring, name) for name in names} == {n: facts[n] for n in names}
        assert (sring.nr_ents, sring.slot_size) == (facts["nr_ents"], facts["entry_size"])


def test_a_backend_that_attaches_sees_exactly_the_open_requests(tx, rx):
    for (sring, facts), request in ((tx, tx_request), (rx, rx_request)):
        back = BackRing.attach(sring)
        assert back.unconsumed_requests == len(facts["requests"])
        for i, recorded in enumerate(facts["requests"]):
            pointer = request(back, back.req_cons + i)
            assert recorded["index"] == back.req_cons + i
            for name in recorded.keys() - {"index"}:
                assert getattr(pointer, name) == recorded[name]


def test_ring2pkt_finds_exactly_the_recorded_packets(tx):
    sring, facts = tx
    back = BackRing.attach(sring)
    at = back.req_cons
    for chain in facts["chains"]:
        pkt = Pkt()
        consumed = ring2pkt(pkt, back, at)
        assert (pkt.car, pkt.size, pkt.is_valid) == (chain["first"], chain["size"], True)
        assert pkt.flags == chain["flags"] & ~NETTXF_more_data
        assert pkt.list_len == len(chain["slots"])
        assert pkt.car_size == chain["size"] - sum(chain["slots"][1:])
        assert consumed == len(chain["slots"]) + len(chain["extras"])
        assert pkt.cdr == chain["first"] + 1 + len(chain["extras"])
        for info in chain["extras"]:
            seen = [getattr(pkt.extra, name) for name in EXTRA_FIELDS]
            assert seen == [info[name] for name in RECORDED_FIELDS]
        at += consumed
    assert at == sring.req_prod
    assert ring2pkt(Pkt(), back, at) == 0


def test_the_unread_responses_are_exactly_the_recorded_packets(rx):
    sring, facts = rx
    front = FrontRing.attach(sring, facts["chains"][0]["first"])
    end = front.response_prod()
    for chain in facts["chains"]:
        assert front.rsp_cons == chain["first"]
        lens, offsets, extras, flags = [], [], [], None
        more = True
        while more:
            rsp = RX_RESPONSE.read(sring.copy_slot(front.rsp_cons))
            front.rsp_cons += 1
            flags = rsp.flags if flags is None else flags
            more = bool(rsp.flags & NETRXF_more_data)
            lens.append(rsp.status)
            offsets.append(rsp.offset)
            if len(lens) == 1 and rsp.flags & NETRXF_extra_info:
                values = EXTRA_GSO.unpack_from(sring.copy_slot(front.rsp_cons))
                extras.append(dict(zip(RECORDED_FIELDS, values, strict=True)))
                front.rsp_cons += 1
        assert (flags, lens, offsets, extras) == (
            chain["flags"],
            chain["lens"],
            chain["offsets"],
            chain["extras"],
        )
    assert front.rsp_cons == end


def test_the_seed_would_have_answered_alike_but_for_one_more_data_of_each_tso_packet(rx):
    """Each recorded packet, sent again by rxpkt2rsp into requests with the recorded ids."""
    sring, facts = rx
    for chain in facts["chains"]:
        world, lens, tso = XnbWorld(), chain["lens"], bool(chain["extras"])
        count = len(lens) + len(chain["extras"])
        world.start_at(chain["first"])
        world.post(*range(100, 100 + count))
        mbufc = world.packet(sum(lens))
        header = mbufc.pkthdr
        if tso:
            header.csum_flags, header.tso_segsz = CSUM_TSO, chain["extras"][0]["gso_size"]
        elif chain["flags"] & 3:
            header.csum_flags = CSUM_DELAY_DATA
        pkt, table = Pkt(), GnttabCopyTable()
        assert mbufc2pkt(mbufc, pkt, chain["first"], count) == 0
        n_entries = rxpkt2gnttab(pkt, mbufc, table, world.rxb, FRONT)
        assert rxpkt2rsp(pkt, table, n_entries, world.rxb) == count
        differing = []
        for i in range(count):
            index = chain["first"] + i
            ours = bytearray(world.rx.sring.copy_slot(index))
            theirs = sring.copy_slot(index)
            if not (tso and i == 1):
                ours[:2] = theirs[:2]  # ids are the frontend's
            if ours != theirs:
                differing.append((i, ours[4] ^ theirs[4]))
                ours[4] ^= NETRXF_more_data
                assert ours == theirs
        expected = [(count - 2, NETRXF_more_data)] if tso and len(lens) > 2 else []
        assert differing == expected  # defect B4
