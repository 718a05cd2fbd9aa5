"""Records as a capture, and what tshark shows of them with the generated dissector."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from xennet.trace import pcapng_blocks
from xennet.trace.dissector import dissector_text
from xennet.trace.record_decoder import Fields

#: Only a tshark that hangs takes as long.
LIMIT_S = 300

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="there is no tshark")


def capture(path: Path, packets: Iterable[bytes]) -> None:
    """Write records into a file, a ns apart."""
    blocks = (pcapng_blocks.packet(at, data) for at, data in enumerate(packets))
    start = pcapng_blocks.section() + pcapng_blocks.interface("xennet")
    path.write_bytes(start + b"".join(blocks))


def packets(path: Path, interface: int = 0) -> list[bytes]:
    """The packets of an interface of a file, which has to be one of whole blocks."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, size = struct.unpack_from("<2I", data, at)
        assert size >= 12
        assert data[at + size - 4 : at + size] == data[at + 4 : at + 8]
        if kind == 6 and struct.unpack_from("<I", data, at + 8)[0] == interface:
            length = struct.unpack_from("<I", data, at + 20)[0]
            found.append(data[at + 28 : at + 28 + length])
        at += size
    return found


def tshark(path: Path, *arguments: str) -> str:
    """What tshark prints of a capture."""
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
    return done.stdout


def columns(path: Path, wanted: str, *names: str, passes: int = 1) -> list[list[str]]:
    """The fields ``names`` of the packets that the filter ``wanted`` takes ("": of all)."""
    arguments = ["-2", "-R", wanted or "frame"] if passes == 2 else ["-Y", wanted or "frame"]
    fields = [argument for name in names for argument in ("-e", name)]
    out = tshark(path, *arguments, "-T", "fields", *fields)
    return [line.split("\t") for line in out.splitlines()]


#: What the dissector shows of several records together.
_OF_SEVERAL = ("xennet.xs.response_in", "xennet.xs.response_to", "xennet.xs.latency")
#: Beside each xennet.broken, which says the same.
_EXPERT = "xennet.expert.rule"


def decoded(path: Path) -> list[Fields]:
    """All fields of each record, as texts, in the form of xennet.trace.record_decoder; fails at a
    Lua error."""
    shown = json.loads(tshark(path, "-T", "json", "--no-duplicate-keys", "-J", "xennet"))
    layers = [packet["_source"]["layers"] for packet in shown]
    return [_decoded(one) for one in layers if "xennet" in one]


def _decoded(layers: dict[str, Any]) -> Fields:
    assert "_ws.lua.error" not in json.dumps(layers)
    found: Fields = {}
    for name, value in _walk(layers.get("xennet", {})):
        found.setdefault(name, []).append(value)
    experts = found.pop(_EXPERT, [])
    rules = len(found.get("xennet.broken", ())) + len(found.get("xennet.rule", ()))
    assert len(experts) == rules, found
    return {name: values for name, values in found.items() if name not in _OF_SEVERAL}


def _walk(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in node.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                if name.startswith("xennet.") and not name.endswith("_tree"):
                    yield name, ""  # a structure, with fields below it
                yield from _walk(one)
            elif name.startswith("xennet."):
                yield name, one


def require_same(shown: Sequence[Fields], wanted: Sequence[Fields]) -> None:
    """That tshark shows these fields, each with all its values in this order."""
    assert len(shown) == len(wanted)
    for number, (some, others) in enumerate(zip(shown, wanted, strict=True), 1):
        assert some.keys() == others.keys(), number
        for name, values in others.items():
            pairs = zip(some[name], values, strict=True)
            for one, other in pairs:
                assert _same(str(one), other), (number, name, one, other)


def _same(shown: str, value: int | str) -> bool:
    if isinstance(value, int):
        return int(shown, 0) == value
    return value in (shown, shown.replace(":", ""))
