"""The generated dissector says in tshark what the decoder in Python says, field by field."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from construct import Int32ul, Struct

from xennet.abi import netif
from xennet.trace import records
from xennet.trace.dissector import dissector_text, write_dissector
from xennet.trace.records import Kind

PACKETS = 10_000
LIMIT_S = 300

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="there is no tshark")


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def capture(path: Path, packets: Sequence[bytes]) -> None:
    with path.open("wb") as out:
        out.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        out.write(block(1, struct.pack("<HHI", 147, 0, 0)))
        for data in packets:
            out.write(block(6, struct.pack("<5I", 0, 0, 0, len(data), len(data)) + data))


def tshark(path: Path, *arguments: str) -> list[list[str]]:
    """The columns of each line that tshark prints for the capture."""
    script = path.with_suffix(".lua")
    script.write_text(dissector_text())
    done = subprocess.run(
        ["tshark", "-r", str(path), "-X", f"lua_script:{script}", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert "ua error" not in (done.stdout + done.stderr).lower()
    return [line.split("\t") for line in done.stdout.splitlines()]


def columns(names: Sequence[str]) -> list[str]:
    return ["-T", "fields", *(argument for name in names for argument in ("-e", name))]


def a_record(rng: random.Random, number: int) -> bytes:
    kind = rng.choice(list(Kind))
    structure = records.STRUCTURES.get(kind)
    body = rng.randbytes(structure.codec(structure.otherwise).size) if structure else b""
    if kind is Kind.EXTRA_INFO and number % 4:  # a type that is known
        body = bytes([rng.randrange(7)]) + body[1:]
    if kind is Kind.XENSTORE:
        payload = rng.randbytes(rng.randrange(1, 60))
        body = struct.pack("<4I", rng.randrange(40), number, rng.getrandbits(32), len(payload))
        body += payload
    return records.encode(
        kind,
        body,
        domid=rng.getrandbits(16),
        sequence=rng.getrandbits(64),
        cause=rng.getrandbits(64),
        delivery=rng.getrandbits(32),
        index=rng.getrandbits(32),
        rule=rng.choice(("", "", "F5", "B8")),
        text=rng.choice(("", "offset + size reach beyond the page")),
    )


def same(shown: str, value: int | str | None) -> bool:
    if value is None or isinstance(value, str):
        return shown == (value or "")
    return int({"True": "1", "False": "0"}.get(shown, shown), 0) == value


@needs_tshark
def test_every_field_is_that_of_the_decoder(tmp_path: Path) -> None:
    rng = random.Random(1)
    packets = [a_record(rng, number) for number in range(PACKETS)]
    wanted = [records.decode(data) for data in packets]
    names = sorted({name for values in wanted for name in values})
    capture(tmp_path / "all.pcapng", packets)
    lines = tshark(tmp_path / "all.pcapng", *columns([*names, "_ws.lua.error"]))
    assert len(lines) == PACKETS
    for line, values in zip(lines, wanted, strict=True):
        assert line[-1] == ""
        for name, shown in zip(names, line, strict=False):
            assert same(shown, values.get(name)), (name, shown, values.get(name))


@needs_tshark
def test_a_record_cut_at_any_length_is_no_error_of_lua(tmp_path: Path) -> None:
    rng = random.Random(2)
    whole = [a_record(rng, number) for number in range(40)]
    cut = [data[:length] for data in whole for length in range(1, len(data))]
    capture(tmp_path / "cut.pcapng", [*cut, *whole])
    lines = tshark(tmp_path / "cut.pcapng", *columns(["xennet.expert.cut", "_ws.lua.error"]))
    assert len(lines) == len(cut) + len(whole)
    assert {line[-1] for line in lines} == {""}
    assert all(line[0] for line in lines[: len(cut)])
    assert not any(line[0] for line in lines[len(cut) :])


@needs_tshark
@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ("xennet.tx.flags.more_data == 1", ["1"]),
        ("xennet.expert.rule", ["2"]),
        ('xennet.rule == "F5"', ["2"]),
        ('xennet.xs.string == "/local"', ["3"]),
    ],
)
def test_display_filters(tmp_path: Path, wanted: str, numbers: list[str]) -> None:
    more = netif.TX_REQUEST.pack(8, 0, netif.NETTXF_more_data, 1, 60)
    bad = netif.TX_REQUEST.pack(8, 4000, 0, 1, 200)
    read = struct.pack("<4I", 2, 7, 0, 7) + b"/local\0"
    packets = [
        records.encode(Kind.TX_REQUEST, more),
        records.encode(Kind.TX_REQUEST, bad, rule="F5", text="beyond the page"),
        records.encode(Kind.XENSTORE, read),
    ]
    capture(tmp_path / "few.pcapng", packets)
    shown = tshark(tmp_path / "few.pcapng", "-Y", wanted, *columns(["frame.number"]))
    assert [line[0] for line in shown] == numbers


def test_a_new_field_of_a_structure_is_in_the_dissector(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dissector_text()
    assert "xennet.tx.colour" not in before
    longer = "netif_tx_request" / Struct(*netif.netif_tx_request.subcons, "colour" / Int32ul)
    monkeypatch.setattr(netif, "netif_tx_request", longer)
    monkeypatch.setattr(netif, "NETTXF_urgent", 1 << 9, raising=False)
    text = dissector_text()
    assert '"xennet.tx.colour", 12, 4, "UINT32"' in text
    assert '{512, "urgent"}' in text


def test_the_text_is_the_same_each_time_and_is_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    path = write_dissector()
    assert path.parent.parent == tmp_path
    assert path.read_text() == dissector_text() == dissector_text()
    assert list(path.parent.iterdir()) == [path]
