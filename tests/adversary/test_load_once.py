"""Each word that a peer can write is loaded once in a step of a driver (XSA-155). What is loaded
again is written down here, with the reason why that is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import control_sites
import pytest
import scenes
from vif_peers import RawBackend, RawFrontend
from watching import Words, loads

from xennet import PagePoller, XnbPoller
from xennet.abi.netif import (
    TX_REQUEST,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
)
from xennet.adversary import STORE, record


def again(scene: Callable[[], Any], step: Callable[[Any], object], *must: str) -> Words:
    """The words that ``step`` loads more than once; it loads, or swaps, something of each memory in
    ``must``."""
    accesses = record(scene, step)[0]
    assert {access.memory for access in accesses if access.kind != STORE} >= set(must)
    return {word: count for word, count in loads(accesses).items() if count > 1}


# -- netback: guest transmit ---------------------------------------------------------------------


@pytest.mark.parametrize("name", scenes.GUEST_TX)
def test_taking_tx_requests_and_answering_loads_everything_once(name: str) -> None:
    scene = scenes.guest_tx(scenes.GUEST_TX[name])
    assert again(scene, lambda front: front.queue.tx.run(256), "tx ring") == {}


@pytest.mark.parametrize("seed", range(10))
def test_taking_tx_requests_and_answering_loads_random_slots_once(seed: int) -> None:
    scene = scenes.guest_tx(lambda front: scenes.random_requests(front, seed))
    assert again(scene, lambda front: front.queue.tx.run(256), "tx ring") == {}


def test_awaiting_tx_requests_loads_req_prod_again_which_is_its_final_check() -> None:
    found = again(RawFrontend, lambda front: front.queue.tx.await_requests())
    assert found == {("tx ring", "req_prod"): 2}


# -- netback: guest receive ----------------------------------------------------------------------

#: RxPass.run notes req_prod before take_requests loads it: await_requests asks for an event behind
#: the older one, which can only come too early, and looks once more.
NOTED = {("rx ring", "req_prod"): 2}


def pull_and_send(front: RawFrontend) -> None:
    rx = front.queue.rx
    front.stack.pull(rx.refill())
    rx.run()


@pytest.mark.parametrize("features", [{}, {"gso_types": 0, "gso_prefix_types": 6}])
@pytest.mark.parametrize("name", scenes.GUEST_RX)
def test_taking_rx_requests_and_answering_loads_everything_once(
    name: str, features: dict[str, int]
) -> None:
    scene = scenes.guest_rx(scenes.GUEST_RX[name], **features)
    assert again(scene, pull_and_send, "rx ring") == NOTED


def test_awaiting_rx_requests_loads_req_prod_once() -> None:
    def step(front: RawFrontend) -> None:
        pull_and_send(front)
        before.append(1)
        front.queue.rx.await_requests()

    before: list[int] = []
    words = loads(record(RawFrontend, step)[0])
    assert words[("rx ring", "req_prod")] == 3


def test_an_event_of_the_backend_costs_a_load_of_each_req_prod() -> None:
    words = loads(record(RawFrontend, lambda front: front.queue._event())[0])
    assert words == {("tx ring", "req_prod"): 1, ("rx ring", "req_prod"): 1}


# -- netfront ------------------------------------------------------------------------------------

#: take_responses looks once more when they have asked for an event.
FINAL_TX, FINAL_RX = {("tx ring", "rsp_prod"): 2}, {("rx ring", "rsp_prod"): 2}


@pytest.mark.parametrize("name", scenes.TX_RESPONSES)
def test_tx_responses_and_their_grants_are_loaded_once(name: str) -> None:
    found = again(
        scenes.tx_responses(scenes.TX_RESPONSES[name]),
        lambda back: back.queue.tx.take_responses(),
        "tx ring",
        "grant table",
    )
    assert found == ({} if name.startswith("B") else FINAL_TX)


@pytest.mark.parametrize("negotiated", [{}, {"gso_prefix_types": 6}, {"checksum_setup": True}])
@pytest.mark.parametrize("name", scenes.RX_RESPONSES)
def test_rx_responses_buffers_and_grants_are_loaded_once(
    name: str, negotiated: dict[str, Any]
) -> None:
    memories = ("rx ring", "rx buffers", "grant table")
    found = again(
        scenes.rx_responses(scenes.RX_RESPONSES[name], **negotiated),
        lambda back: back.queue.rx.take_responses(256),
        *memories,
    )
    assert found == ({} if name == "B5" else FINAL_RX)


@pytest.mark.parametrize("seed", range(10))
def test_random_rx_responses_are_loaded_once(seed: int) -> None:
    scene = scenes.rx_responses(lambda back: scenes.random_responses(back, seed))
    assert again(scene, lambda back: back.queue.rx.take_responses(256), "rx ring") == FINAL_RX


def test_put_requests_loads_nothing_but_the_two_indices_of_its_publication() -> None:
    def step(back: RawBackend) -> None:
        back.stack.gso = (400, 1)
        back.stack.to_send += [scenes.FRAME, scenes.TCP, bytes(9000)]
        back.stack.pull(back.queue.tx.refill())
        assert back.queue.tx.put_requests() == 3

    words = loads(record(RawBackend, step)[0])
    assert words == {("tx ring", "req_prod"): 1, ("tx ring", "req_event"): 1}


def test_put_multicast_request_loads_nothing_but_the_two_indices_of_its_publication() -> None:
    def step(back: RawBackend) -> None:
        assert (
            back.queue.tx.put_multicast_request(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, bytes(6))
            is not None
        )

    words = loads(record(RawBackend, step)[0])
    assert words == {("tx ring", "req_prod"): 1, ("tx ring", "req_event"): 1}


def test_posting_buffers_loads_nothing_but_the_two_indices_of_its_publication() -> None:
    words = loads(record(RawBackend, lambda back: back.queue.rx.put_requests())[0])
    assert words == {("rx ring", "req_prod"): 1, ("rx ring", "req_event"): 1}


def test_an_event_of_the_frontend_costs_a_load_of_each_rsp_prod() -> None:
    words = loads(record(RawBackend, lambda back: back.queue._event())[0])
    assert words == {("tx ring", "rsp_prod"): 1, ("rx ring", "rsp_prod"): 1}


def test_ending_a_grant_loads_its_marks_and_then_its_own_flags() -> None:
    def scene() -> Any:
        site: Any = control_sites.EmulatorSite()
        site.client = control_sites.ControlClient(site.guest, 0, lambda error: None)
        return site

    words = loads(record(scene, lambda site: site.client.disconnect())[0])
    # Marks and flags are in one word of a version 1 table; nobody but its owner writes the flags.
    assert [words[word] for word in words if word[0] == "grant table"] == [2, 2]


# -- the control ring ----------------------------------------------------------------------------


def test_the_backend_takes_a_control_request_in_one_load() -> None:
    def scene() -> control_sites.RawFrontend:
        front = control_sites.RawFrontend()
        front.connect()
        for ident in range(5):
            front.request(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, ident=ident)
        front.ring.push_requests()
        return front

    found = again(scene, lambda front: front.back.poll(), "ctrl ring")
    # What there is to do; then whether there is more, and whether there is after all.
    assert found == {("ctrl ring", "req_prod"): 3}


def test_the_frontend_takes_a_control_response_in_one_load() -> None:
    def scene() -> control_sites.RawBackend:
        back = control_sites.RawBackend()
        for _ in range(3):
            back.client.set_hash_key(b"key")
        for ident, kind, *_ in back.requests():
            back.answer(ident, kind)
        back.ring.push_responses()
        return back

    found = again(scene, lambda back: back.client.poll(), "ctrl ring", "ctrl page")
    assert found == {("ctrl ring", "rsp_prod"): 3}


# -- FreeBSD's netback, for comparison -----------------------------------------------------------


def test_xnb_loads_a_request_again_where_the_hardened_backend_does_not() -> None:
    def polled(make: type[PagePoller] | type[XnbPoller]) -> Words:
        def scene() -> Any:
            poller = make()
            raw = bytearray(4096)
            raw[0] = 1  # req_prod
            raw[64:76] = TX_REQUEST.pack(8, 0, 0, 7, 60)
            poller.load(bytes(raw))
            return poller

        words = loads(record(scene, lambda poller: poller.poll())[0])
        return {word: n for word, n in words.items() if word[0] == "tx ring" and "word" in word[1]}

    slot = [("tx ring", f"word {word}") for word in (16, 17, 18)]
    assert polled(PagePoller) == dict.fromkeys(slot, 1)
    found = polled(XnbPoller)
    assert max(found[word] for word in slot) > 1  # defect A16
