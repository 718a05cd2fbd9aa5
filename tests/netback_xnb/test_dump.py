"""What the driver prints about itself."""

from __future__ import annotations

from xennet.netback.xnb import (
    GnttabCopyTable,
    Pkt,
    dump_gnttab_copy,
    dump_mbuf,
    dump_pkt,
    dump_rings,
    dump_txreq,
)
from xennet.netback.xnb.slots import tx_request
from xennet.testing.xnb_world import extra


def test_dump_rings_shows_all_indices_of_both_rings_signed(world):
    world.start_at(0xFFFFFFFE)
    world.put_and_push([60])
    rows = [line.split() for line in dump_rings(world.txb, world.rxb).strip().splitlines()]
    assert rows[0] == ["TX", "RX"]
    assert {name: tuple(values) for name, *values in rows[1:]} == {
        "req_cons": ("-2", "-2"),
        "nr_ents": ("256", "256"),
        "rsp_prod_pvt": ("-2", "-2"),
        "sring": ("tx", "rx"),
        "sring->req_prod": ("-1", "-2"),
        "sring->req_event": ("-1", "-1"),
        "sring->rsp_prod": ("-2", "-2"),
        "sring->rsp_event": ("-1", "-1"),
    }


def test_dump_rings_is_empty_while_a_ring_is_missing(world):
    assert dump_rings(None, world.rxb) == dump_rings(world.txb, None) == ""


def test_dump_txreq_names_every_field(world):
    world.put_and_push([60, 4, 77, 5])
    dump_txreq(0, tx_request(world.txb, 0), world.console.append)
    assert [line.split(": ")[1] for line in world.console] == [
        "netif_tx_request at index 0",
        "netif_tx_request.gref = 77",
        "netif_tx_request.offset = 5",
        "netif_tx_request.flags = 4",
        "netif_tx_request.id = 256",
        "netif_tx_request.size = 60",
    ]


def test_dump_pkt_names_every_field_but_the_extra(world):
    dump_pkt(Pkt(car=3, cdr=5, size=60, car_size=60, flags=8, list_len=1), world.console.append)
    text = "\n".join(world.console)
    for shown in ("size = 60", "flags = 0x0008", "list_len = 1", "car = 3", "cdr = 5", "error = 0"):
        assert f"pkt.{shown}" in text


def test_dump_gnttab_copy_shows_gref_or_frame_as_the_flags_say(world):
    entry = GnttabCopyTable()[0]
    entry.source_ref, entry.dest_gmfn, entry.flags, entry.status = 24, 0x1_0000_0001, 1, -3
    dump_gnttab_copy(entry, world.console.append)
    shown = [line.split(": ")[1] for line in world.console]
    assert {"source ref = 24", f"dest gmfn = {0x1_0000_0001}", "status = -3"} <= set(shown)


def test_dump_mbuf_shows_header_and_bytes(world):
    dump_mbuf(world.pool.build(bytes(range(18))), world.console.append)
    assert "len = 18, csum_flags = 0x0" in world.console[0]
    assert world.console[-1].endswith(": 10 11")


def test_without_a_console_nothing_happens(world):
    world.put_and_push([60, 8], extra(type=9))
    world.xnb.log = None
    assert world.recv()[0] != 0
    assert world.console == []
