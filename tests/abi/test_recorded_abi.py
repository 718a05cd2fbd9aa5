"""Our definitions against the table of sizes, offsets and values that a compiler printed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from abi_c_program import constants, definitions

from xennet.abi import event_channel, grant_table, netif, ring, xen, xs_wire
from xennet.abi.codec import layout

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "xen_abi.json").read_text()
)

# Limits of the Linux drivers, not of a public header: the drivers' own tests know them.
_DRIVER_LIMITS = {"linux_netback_limits", "linux_netfront_limits"}

_STRUCTS = {
    name.split(" (")[0]: recorded
    for name, recorded in RECORDED["structs"].items()
    if "private, not wire" not in name
}


def _recorded_constants() -> dict[str, int]:
    values: dict[str, int] = {}
    for group, members in RECORDED["constants"].items():
        if group in _DRIVER_LIMITS:
            continue
        for name, value in (members if isinstance(members, dict) else {group: members}).items():
            if isinstance(value, str):  # "alias of XS_CONTROL (0)"
                value = values[value.removeprefix("alias of ").split()[0]]
            values[name] = value["value"] if isinstance(value, dict) else value
    return values


@pytest.mark.parametrize("name", _STRUCTS)
def test_structure_has_the_recorded_size_and_fields(name: str) -> None:
    recorded = _STRUCTS[name]
    found = layout(definitions()[name])
    assert definitions()[name].sizeof() == recorded["size"]
    for field, place in recorded.get("fields", {}).items():
        if place.get("source", "").startswith("xen-master"):
            continue  # the form with evtchn_port has its own test
        assert found[field] == (
            place["offset"],
            place.get("size", place.get("element_size")),
        ), field


def test_newer_store_page_has_the_event_channel_port_behind_the_old_fields() -> None:
    recorded = _STRUCTS["xenstore_domain_interface"]
    newer = xs_wire.xenstore_domain_interface_evtchn_port
    place = recorded["fields"]["evtchn_port"]
    assert newer.sizeof() == recorded["size_in_xen_master"]
    assert layout(newer) == layout(xs_wire.xenstore_domain_interface) | {
        "evtchn_port": (place["offset"], place["size"])
    }


@pytest.mark.parametrize(("name", "value"), _recorded_constants().items())
def test_constant_has_the_recorded_value(name: str, value: int) -> None:
    assert constants()[name] == value


def test_ring_header_is_the_recorded_one() -> None:
    recorded = RECORDED["rings"]["sring_header"]
    offsets = ring.SRING_HEADER.offsets
    assert recorded["size"] == ring.SRING_HEADER_SIZE == recorded["ring"]
    assert {
        name: recorded[name] for name in ("req_prod", "req_event", "rsp_prod", "rsp_event")
    } == {
        "req_prod": 4 * ring.SRING_WORD_req_prod,
        "req_event": 4 * ring.SRING_WORD_req_event,
        "rsp_prod": 4 * ring.SRING_WORD_rsp_prod,
        "rsp_event": 4 * ring.SRING_WORD_rsp_event,
    }
    assert (offsets["pvt.pvt_pad"], offsets["__pad"]) == (recorded["pvt"], recorded["pad"])


def test_ring_header_begins_with_the_recorded_values_and_zeroes() -> None:
    recorded = RECORDED["rings"]["sring_header"]["initial_values"]
    initial = ring.SRING_HEADER.read(ring.SRING_INITIAL)
    for name in ("req_prod", "req_event", "rsp_prod", "rsp_event"):
        assert getattr(initial, name) == recorded[name]
    assert not any(initial.pvt_pvt_pad + initial.pad)


@pytest.mark.parametrize(
    ("name", "slots", "stride"),
    [
        ("netif_tx", ring.NETIF_TX_RING_SIZE, ring.NETIF_TX_SLOT_SIZE),
        ("netif_rx", ring.NETIF_RX_RING_SIZE, ring.NETIF_RX_SLOT_SIZE),
        ("xen_netif_ctrl", ring.NETIF_CTRL_RING_SIZE, ring.NETIF_CTRL_SLOT_SIZE),
    ],
)
def test_ring_of_one_page_has_the_recorded_slots(name: str, slots: int, stride: int) -> None:
    recorded = RECORDED["rings"]["page_4096"][name]
    assert (slots, stride) == (recorded["RING_SIZE"], recorded["entry"])
    assert RECORDED["rings"]["bytes_used"][name] == ring.SRING_HEADER_SIZE + slots * stride


@pytest.mark.parametrize(("pages", "slots"), RECORDED["rings"]["multi_page_tx_RING_SIZE"].items())
def test_transmit_ring_of_many_pages_has_the_recorded_slots(pages: str, slots: int) -> None:
    request, response = netif.netif_tx_request.sizeof(), netif.netif_tx_response.sizeof()
    assert ring.ring_size(int(pages) * xen.PAGE_SIZE, request, response) == slots


def test_store_errors_are_in_the_recorded_order() -> None:
    assert [(error["linux_errno"], error["name"]) for error in RECORDED["xsd_errors_in_order"]] == [
        *xs_wire.xsd_errors
    ]


def test_tables_of_one_page_have_the_recorded_entries() -> None:
    recorded = RECORDED["grant_semantics_short"]["entries_per_4096_frame"]
    fifo = RECORDED["event_channel_fifo_word"]
    assert recorded["v1"] == grant_table.GRANT_ENTRIES_V1_PER_PAGE
    assert recorded["v2"] == grant_table.GRANT_ENTRIES_V2_PER_PAGE
    assert recorded["status_words_v2_per_frame"] == grant_table.GRANT_STATUS_PER_PAGE
    assert fifo["words_per_4096_page"] == event_channel.EVTCHN_FIFO_WORDS_PER_PAGE


def test_status_and_message_names_cover_the_recorded_numbers() -> None:
    statuses = RECORDED["constants"]["GNTST"]
    assert {name: status for status, name in grant_table.GNTST_NAMES.items()} == statuses
    counted = RECORDED["constants"]["XS_message_type"]["XS_TYPE_COUNT_in_master"]
    assert sorted(xs_wire.XS_NAMES) == list(range(counted))
