"""Codecs derived from Construct definitions: equal to Construct, strict about what to derive."""

from __future__ import annotations

import random
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from abi_c_program import codecs, definitions
from construct import Const, Int8ul, Int16ub, Int16ul, Struct, VarInt
from hypothesis import given, settings
from hypothesis import strategies as st

import xennet.abi
from xennet.abi.codec import Codec, derive, layout
from xennet.abi.grant_table import (
    GNTTAB_COPY,
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    grant_entry_v2,
)
from xennet.abi.netif import EXTRA_GSO, TX_REQUEST, netif_extra_info, netif_tx_request
from xennet.abi.ring import SRING_HEADER_SIZE, ring_size

_READINGS = [
    pytest.param(definition, codec, id=f"{name}-{number}")
    for name, definition in definitions().items()
    for number, codec in enumerate(codecs(definition))
]


def _at(parsed: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        parsed = parsed[int(part) if part.isdigit() else part]
    return parsed


def _nested(values: Mapping[str, Any]) -> Any:
    """{"u.gso.size": 1, "data.0": 2} as Construct wants it: {"u": {"gso": ...}, "data": [2]}."""
    if list(values) == [""]:
        return values[""]
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        inner.setdefault(head, {})[rest] = value
    built = {head: _nested(rest) for head, rest in inner.items()}
    return list(built.values()) if all(head.isdigit() for head in built) else built


def _raw(size: int) -> st.SearchStrategy[bytes]:
    """Random bytes; a whole page of them is drawn as a seed, Hypothesis is slow with long ones."""
    if size <= 128:
        return st.binary(min_size=size, max_size=size)
    return st.integers(0).map(lambda seed: random.Random(seed).randbytes(size))


@pytest.mark.parametrize(("definition", "codec"), _READINGS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_codec_reads_and_writes_what_construct_does(
    definition: Any, codec: Codec, data: st.DataObject
) -> None:
    size = definition.sizeof()
    raw = data.draw(_raw(size))
    before = data.draw(st.integers(0, 8))

    values = codec.unpack_from(b"\xee" * before + raw, before)
    parsed = definition.parse(raw)
    assert values == tuple(_at(parsed, field) for field in codec.fields)
    assert tuple(codec.read(raw)) == values

    built = definition.build(_nested(dict(zip(codec.fields, values, strict=True))))
    assert codec.size == size
    assert codec.pack(*values) == built
    buffer = bytearray(b"\xee" * (before + size + 1))
    codec.pack_into(buffer, before, *values)
    assert buffer == b"\xee" * before + built + b"\xee"


@pytest.mark.parametrize(("definition", "codec"), _READINGS)
def test_codec_knows_the_offset_and_size_that_the_layout_has(definition: Any, codec: Codec) -> None:
    known = layout(definition)
    for field in filter(known.__contains__, codec.fields):
        assert (codec.offsets[field], codec.sizes[field]) == known[field]
    assert set(codec.offsets) == set(codec.sizes) == set(codec.fields)


def test_record_is_named_like_the_structure_and_its_fields() -> None:
    request = TX_REQUEST.read(TX_REQUEST.pack(8, 64, 4, 7, 1514))
    assert type(request).__name__ == "netif_tx_request"
    assert (request.gref, request.offset, request.flags, request.id, request.size) == (
        8,
        64,
        4,
        7,
        1514,
    )
    assert EXTRA_GSO.read(EXTRA_GSO.pack(1, 0, 1448, 1, 0, 0)).u_gso_size == 1448


def test_layout_lists_every_member_of_a_union() -> None:
    places = layout(netif_extra_info)
    assert {places[f"u.{member}"][0] for member in ("gso", "mcast", "hash", "pad", "xdp")} == {2}
    assert places["u.gso.features"] == (6, 2)


@pytest.mark.parametrize("flags", range(4))
def test_copy_reads_each_end_as_its_flag_says(flags: int) -> None:
    fields = GNTTAB_COPY_BY_FLAGS[flags].fields
    assert ("source.u.ref" in fields) == bool(flags & GNTCOPY_source_gref)
    assert ("dest.u.ref" in fields) == bool(flags & GNTCOPY_dest_gref)
    assert {"source.u.ref", "dest.u.ref"} <= set(GNTTAB_COPY.fields)


@pytest.mark.parametrize(
    ("definition", "choice", "evidence"),
    [
        (netif_extra_info, None, r"netif_extra_info: union 'u' read as None.*'gso'"),
        (netif_extra_info, {"u": "vlan"}, r"union 'u' read as 'vlan'.*'mcast'"),
        (netif_tx_request, {"u": "gso"}, r"netif_tx_request: no union at \['u'\]"),
        (grant_entry_v2, {"u": "full_page"}, r"grant_entry_v2: union '' read as None"),
    ],
)
def test_choice_that_fits_no_union_is_refused(
    definition: Any, choice: Mapping[str, str] | None, evidence: str
) -> None:
    with pytest.raises(ValueError, match=evidence):
        derive(definition, union=choice)


@pytest.mark.parametrize("field", [VarInt, Int16ub, Const(1, Int8ul)])
def test_what_is_no_little_endian_c_layout_is_refused(field: Any) -> None:
    definition = "odd" / Struct("good" / Int16ul, "bad" / field)
    with pytest.raises(TypeError, match="no C layout"):
        layout(definition)
    with pytest.raises(TypeError, match="no C layout"):
        derive(definition)


@given(pages=st.integers(1, 64), request=st.integers(1, 128), response=st.integers(1, 128))
def test_ring_is_the_largest_power_of_two_that_fits(
    pages: int, request: int, response: int
) -> None:
    slots, slot = ring_size(pages * 4096, request, response), max(request, response)
    assert slots.bit_count() == 1
    assert SRING_HEADER_SIZE + slots * slot <= pages * 4096 < SRING_HEADER_SIZE + 2 * slots * slot


@pytest.mark.parametrize(
    ("page_bytes", "request_size"), [(64, 12), (75, 12), (4096, 0), (4096, -8)]
)
def test_ring_without_a_slot_is_refused(page_bytes: int, request_size: int) -> None:
    with pytest.raises(ValueError, match=rf"{request_size}|{page_bytes}"):
        ring_size(page_bytes, request_size, 4)


def test_big_endian_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(ImportError, match=r"little-endian host.*'big'"):
        runpy.run_path(str(Path(xennet.abi.__file__)))
