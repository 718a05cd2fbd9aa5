"""Peers that are driven by hand face xennet's drivers, of every kind, on a host."""

from __future__ import annotations

import pytest

from xennet.abi.netif import (
    RX_RESPONSE,
    TX_REQUEST,
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
    XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETTXF_csum_blank,
    NETTXF_more_data,
)
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import KINDS, FrontendKind
from xennet.netfront.kinds import LINUX as LINUX_GUEST
from xennet.netfront.options import NetfrontOptions
from xennet.ring import RingOverflowError
from xennet.testing import MinimalMachine, RawBackend, RawFrontend
from xennet.testing.notes import Note, slot_diff
from xennet.testing.vif_setup import VifSetup
from xennet.xenbus.errors import XenbusError

GUESTS = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
FRAME = bytes(range(14)) + bytes(46)
SIZES = (60, 1514, 9000, 65000)


def facing_netback(policy: BackendPolicy = LINUX, **options: int) -> tuple[VifSetup, RawFrontend]:
    back = VifOptions(**options) if options else None
    setup = VifSetup.make(frontend="raw", policy=policy, back=back)
    return setup, setup.frontend


def facing_netfront(
    kind: FrontendKind = LINUX_GUEST, **options: int
) -> tuple[VifSetup, RawBackend]:
    setup = VifSetup.make(backend="raw", kind=kind, front=NetfrontOptions(**options))
    return setup, setup.backend


def end(setup: VifSetup) -> None:
    left = setup.finish()
    assert not left, str(left)
    setup.host.destroy()


def padded(size: int) -> bytes:
    return FRAME.ljust(size, b"x")


# -- life ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 0xFFFFFFF0])
def test_a_frontend_lives_its_life(start: int) -> None:
    setup, front = facing_netback()
    assert front.connect(start=start), front.otherend_nodes()
    assert front.features()["feature-sg"] == "1"
    for size in SIZES:
        came = front.echo(padded(size))
        assert came is not None
        assert came.frame == padded(size)
    assert front.reconnect(start=start)
    assert front.echo(FRAME) is not None
    assert front.close() == []
    end(setup)


def test_a_frontend_lives_its_life_with_freebsds_netback() -> None:
    setup, front = facing_netback(XNB)
    assert front.connect()
    came = front.echo(padded(9000))
    assert came is not None
    assert came.frame == padded(9000)
    assert front.close() == []
    end(setup)


@GUESTS
def test_a_backend_lives_its_life(kind: FrontendKind) -> None:
    setup, back = facing_netfront(kind)
    assert back.connect(), (back.state, back.otherend_nodes())
    for size in SIZES:
        came = back.echo(padded(size))
        assert came is not None
        assert came.frame == padded(size)
    back.close()
    assert back.queues == []
    end(setup)


def test_a_frontend_has_queues_with_channels_of_their_own_and_a_control_ring() -> None:
    setup, front = facing_netback(max_queues=4)
    assert front.connect(queues=3, split=True, ctrl=True, start=7)
    for number in range(3):
        front.send(FRAME, queue=number)
        assert front.push_tx(number)
        front.settle()
        assert front.statuses(number) == [0]
        assert front.queues[number].tx_events == 1
    front.ctrl(XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE, ident=9)
    front.push_ctrl()
    front.settle()
    (response,) = front.ctrl_responses()
    assert (response.id, response.status, response.data) == (9, 0, 128)
    assert front.ctrl_events == 1
    assert front.close() == []
    end(setup)


def test_a_backend_has_queues_with_channels_of_their_own() -> None:
    setup, back = facing_netfront(queues=2)
    assert back.connect({"multi-queue-max-queues": 2})
    assert len(back.queues) == 2
    for number in range(2):
        assert back.queues[number].tx_port != back.queues[number].rx_port
        back.deliver(FRAME, queue=number)
        back.push_rx(number)
    back.settle()
    assert [p.frame for n in range(2) for p in back.packets(n)] == [FRAME, FRAME]
    back.close()
    end(setup)


def test_a_backend_answers_on_the_control_ring() -> None:
    setup, back = facing_netfront(KINDS["windows"])
    assert back.connect()
    requests = back.ctrl_requests()
    assert [request.index for request in requests] == list(range(len(requests)))
    request = requests[0]
    assert (request.index, request.type) == (0, XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM)
    back.answer_ctrl(request.id, request.type, status=XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED)
    assert back.ctrl_events
    assert back.push_ctrl()
    back.settle()
    assert setup.host.vifs[0].netfront.error is None
    back.close()
    end(setup)


def test_nodes_can_be_left_out_or_be_other_ones() -> None:
    setup, front = facing_netback()
    assert not front.connect({"tx-ring-ref": None, "feature-sg": "no"})
    assert front.read("tx-ring-ref") is None
    assert front.read("feature-sg") == "no"
    assert front.otherend_state == 5
    assert front.close() == []
    end(setup)


def test_a_backend_names_the_key_that_it_misses() -> None:
    setup, back = facing_netfront()
    back.announce()
    back.settle()
    setup.host.store.rm("/local/domain/1/device/vif/0/rx-ring-ref")
    with pytest.raises(XenbusError, match="rx-ring-ref"):
        back.attach()
    back.detach()
    assert back.queues == []
    setup.host.destroy()


def test_a_page_that_the_backend_holds_is_kept_until_it_is_given_back() -> None:
    setup, front = facing_netback()
    assert front.connect()
    page = front.page(b"mine")
    mapping = setup.host.dom0.kernel.map_grant(1, page.gref)
    gref = page.gref
    assert front.close() == [f"gref {gref}"]
    setup.host.dom0.kernel.unmap_grant(mapping)
    assert front.release() == []
    end(setup)


def test_they_face_each_other_on_the_minimal_machine() -> None:
    machine = MinimalMachine()
    guest, host = machine.domain(1), machine.domain(0)
    for hv, node, key, other in (
        (guest, "device/vif/0", "backend", "/local/domain/0/backend/vif/1/0"),
        (host, "backend/vif/1/0", "frontend", "/local/domain/1/device/vif/0"),
    ):
        hv.store.write(f"{node}/{key}", other)
        hv.store.write(f"{node}/{key}-id", 1 - hv.domid)
        hv.store.write(f"{node}/state", 1)
    front = RawFrontend(guest, settle=machine.run)
    back = RawBackend(host, "backend/vif/1/0", settle=machine.run)
    back.announce()
    assert not front.connect(queues=2, split=True, start=0xFFFFFFFF, ctrl=True)
    assert back.connect()
    assert front.connected
    for number in range(2):
        front.send(padded(9000), queue=number)
        front.post_rx(3, queue=number)
        front.push_tx(number)
        front.push_rx(number)
        assert [packet.frame for packet in back.packets(number)] == [padded(9000)]
        assert front.statuses(number) == [0, 0, 0]
        back.deliver(padded(5000), gso_size=1000, queue=number)
        back.push_rx(number)
        (packet,) = front.packets(number)
        assert (packet.frame, len(packet.extras), packet.status) == (padded(5000), 1, 0)
    machine.run()
    assert [(q.tx_events, q.rx_events) for q in front.queues] == [(1, 1)] * 2
    back.close()
    assert front.close() == []
    assert machine.held() == []


# -- raw things ------------------------------------------------------------------------------------


def test_slots_are_answered_one_by_one() -> None:
    setup, front = facing_netback()
    assert front.connect()
    front.tx(60, ident=11)
    front.tx(60, ident=12, offset=4090)  # F5: fatal
    front.push_tx()
    front.settle()
    (first,) = front.responses()
    assert (first.index, first.id, first.status) == (0, 11, 0)
    assert first.raw[:4] == bytes((11, 0, 0, 0))
    assert front.connected  # Linux disables a vif in silence
    front.tx(60)
    front.push_tx()
    front.settle()
    assert front.responses() == []
    assert front.reconnect()
    assert front.echo(FRAME) is not None
    assert front.close() == []
    end(setup)


def test_packets_of_several_slots_and_with_extras_are_well_formed() -> None:
    setup, front = facing_netback()
    assert front.connect()
    frame = padded(3000)
    front.post_rx(4)
    front.push_rx()
    assert len(front.send(frame, sizes=(100, 1, 1000))) == 4
    front.push_tx()
    front.settle()
    assert front.statuses() == [0, 0, 0, 0]
    (packet,) = front.packets()
    assert packet.frame == frame
    front.send(FRAME, NETTXF_csum_blank, gso_size=1000)
    front.push_tx()
    front.settle()
    assert front.statuses() == [0, 1]
    assert front.close() == []
    end(setup)


def test_a_backend_writes_whatever_it_likes() -> None:
    setup, back = facing_netfront()
    assert back.connect()
    posted = back.buffers()
    assert posted > 100
    request = back.buffer(2)
    assert request.index == 2
    back.rx(FRAME, status=-1)
    back.rx(FRAME, offset=100)
    back.raw_rx(RX_RESPONSE.pack(0, 4000, 0, 200))
    back.push_rx()
    back.settle()
    (packet,) = back.packets()
    assert packet.frame == FRAME
    back.deliver(FRAME, gso_size=1000)
    back.extra(XEN_NETIF_EXTRA_TYPE_GSO)
    mapping = back.hold(back.buffer().gref)
    back.unmap(mapping)
    back.answer(300)  # B3
    back.push_tx()
    back.settle()
    assert setup.host.vifs[0].netfront.error is not None
    with pytest.raises(LookupError, match=r"\d+ buffers are needed, \d+ are posted"):
        back.deliver(bytes(65000), sizes=[1] * 300)
    back.close()
    end(setup)


def test_any_index_can_be_set() -> None:
    setup, front = facing_netback()
    assert front.connect()
    front.set_index("req_prod", -1)
    assert front.index("req_prod") == 0xFFFFFFFF
    front.set_index("rsp_cons", 5)
    assert front.index("rsp_cons") == 5
    with pytest.raises(RingOverflowError, match="rsp_prod 0 is more than 256"):
        front.responses()
    with pytest.raises(ValueError, match="no index 'req_cons'"):
        front.set_index("req_cons", 5)
    with pytest.raises(LookupError, match="has no queue 1: it has 1"):
        front.ring("tx", 1)
    with pytest.raises(LookupError, match="has no control ring"):
        front.ring("ctrl")
    assert front.close() == []
    end(setup)


def test_a_page_whose_grant_has_ended_is_not_used_again() -> None:
    setup, front = facing_netback()
    assert front.connect()
    page = front.page(b"x")
    gref = page.gref
    assert front.end(page)
    front.tx(60, gref=gref)
    front.push_tx()
    front.settle()
    assert front.statuses() == [-1]
    with pytest.raises(ValueError, match="has been ended"):
        front.end(page)
    assert front.close() == []
    end(setup)


# -- what they note --------------------------------------------------------------------------------


def test_all_that_is_done_is_noted() -> None:
    setup, front = facing_netback()
    assert front.connect(split=True)
    said = [str(note) for note in front.notes]
    assert said[0].startswith("granted gref ")
    assert "node device/vif/0/state: 4" in said
    assert "bound port 2" in said
    del front.notes[:]
    front.tx(60, ident=3, gref=8)
    assert front.push_tx()
    front.settle()
    front.responses()
    assert not front._announce(False, "tx", 0)
    assert [str(note) for note in front.notes] == [
        "wrote queue 0 tx ring, index 0: 00000008 00000000 003c0003",
        "set queue 0 tx ring, req_prod: 1",
        "sent queue 0 tx ring, event",
        "took queue 0 tx ring, index 0: 00000003 00000000 003c0003",
        "kept queue 0 tx ring, event",
    ]
    setup.host.destroy()


def test_two_runs_differ_in_what_was_done_differently() -> None:
    runs = []
    for flags in (NETTXF_more_data, 0):
        setup, front = facing_netback()
        assert front.connect()
        front.slot(TX_REQUEST.pack(front.gref, 0, flags, 0, 60))
        front.push_tx()
        front.settle()
        front.responses()
        runs.append(front.notes)
        setup.host.destroy()
    assert slot_diff(*runs) == [
        "wrote queue 0 tx ring, index 0: 00000008 00040000 003c0000 | 00000008 00000000 003c0000"
    ]
    assert slot_diff(runs[0], runs[0]) == []
    assert slot_diff([Note("set", "x", b"1")], []) == ["set x: 1 | -"]
