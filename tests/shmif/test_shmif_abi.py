"""The layout of a bus against what a C compiler printed of NetBSD's shmifvar.h."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xennet.abi import shmifvar as shmif
from xennet.abi.codec import layout

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "shmif_abi.json").read_text()
)
_HEADERS = {"x86_64": shmif.shmif_pkthdr, "i386": shmif.shmif_pkthdr_i386}


def places(recorded: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The fields that have a size, as xennet.abi.codec.layout has them."""
    return {
        name: (place["off"], place["size"])
        for name, place in recorded.items()
        if isinstance(place, dict) and "size" in place
    }


@pytest.mark.parametrize("abi", _HEADERS)
def test_the_head_of_a_bus_is_the_recorded_one(abi: str) -> None:
    recorded = RECORDED[abi]["shmif_mem"]
    assert shmif.shmif_mem.sizeof() == recorded["sizeof"]
    assert layout(shmif.shmif_mem) == places(recorded)
    assert recorded["shm_data"]["off"] == shmif.IFMEM_DATA


@pytest.mark.parametrize("abi", _HEADERS)
def test_a_packet_header_is_the_recorded_one(abi: str) -> None:
    recorded = RECORDED[abi]["shmif_pkthdr"]
    assert _HEADERS[abi].sizeof() == recorded["sizeof"]
    assert layout(_HEADERS[abi]) == places(recorded)


def test_the_header_of_armv7_is_that_of_x86_64() -> None:
    recorded = RECORDED["armv7_eabihf"]
    assert shmif.PKTHDR.size == recorded["shmif_pkthdr_sizeof"]
    assert shmif.PKTHDR.offsets["sp_sender"] == recorded["sp_sender_off"]


@pytest.mark.parametrize("abi", _HEADERS)
@pytest.mark.parametrize(
    "name",
    [
        "SHMIF_MAGIC",
        "SHMIF_VERSION",
        "BUSMEM_SIZE",
        "BUSMEM_DATASIZE",
        "IFMEM_DATA",
        "IFMEM_WAKEUP",
        "LOCK_UNLOCKED",
        "LOCK_LOCKED",
        "LOCK_COOLDOWN",
    ],
)
def test_constant_has_the_recorded_value(abi: str, name: str) -> None:
    assert getattr(shmif, name) == RECORDED[abi][name]


def test_limits_are_the_recorded_ones() -> None:
    from xennet.frames import ETHERNET_HEADER
    from xennet.shmif import bus_ops, shared_bus

    recorded = RECORDED["limits"]
    assert recorded["max_frame_kernel_asserts"] == shared_bus.MAX_BUS_FRAME
    assert recorded["min_frame_delivered"] == ETHERNET_HEADER
    assert recorded["busread_buswrite_len_strictly_less_than"] == bus_ops._LONGEST + 1
    mac = shared_bus.Station.random().mac
    assert mac[:2].hex(":") == recorded["mac_prefix"]
    assert len(mac) == 6
