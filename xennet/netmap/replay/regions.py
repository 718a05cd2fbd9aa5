"""Records of memory: what a client finds in the region of a port that it has just opened."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Any

from xennet.abi.netmap import IF
from xennet.netmap.address_space import ClientMemory
from xennet.netmap.replay.play import Difference, Outcome, Played
from xennet.netmap.replay.record_limits import MOST_BYTES
from xennet.netmap.replay.recorded_machine import Machine
from xennet.netmap.user.nmport import Port
from xennet.netmap.user.port_name import PortName

_NAME_BYTES = 16
#: Counts of a reply that a request asks for.
_COUNTS = [(way, what) for way in ("tx", "rx") for what in ("slots", "rings")]


def are_regions(record: Any) -> bool:
    """Whether a record is a table of regions."""
    wanted = {"memsize", "reply", "netmap_if", "rings"}
    return (
        isinstance(record, dict)
        and bool(record)
        and all(isinstance(one, dict) and wanted <= one.keys() for one in record.values())
    )


def play_regions(record: dict[str, Any]) -> Played:
    """Open the port of each region, each on a machine of its own, and compare byte by byte.

    What is behind the NUL of a name in the netmap_if is left over from other names, and not
    compared.
    """
    played = Played()
    for name, recorded in record.items():
        try:
            difference = _compared(recorded)
        except Exception as e:
            difference = Difference(0, "region", "the region cannot be compared", None, repr(e))
        played.outcomes.append(Outcome(name, difference=difference))
    return played


def _compared(recorded: dict[str, Any]) -> Difference | None:
    reply = recorded["reply"]
    name = bytes.fromhex(recorded["netmap_if"])[:_NAME_BYTES].partition(b"\0")[0].decode("latin-1")
    fields = {"nr_mode": reply["mode"], "nr_ringid": reply["ringid"], "nr_flags": reply["flags"]}
    fields |= {f"nr_{way}_{what}": reply[f"{way}_{what}"] for way, what in _COUNTS}
    wanted = PortName(name, fields)
    with Port(name, wanted, Machine().device, ClientMemory()) as port:
        for key, was, here in _found(recorded, port):
            if was != here:
                return Difference(0, f"region of {name}", key, was, here)
    return None


def _found(recorded: dict[str, Any], port: Port) -> Iterator[tuple[str, Any, Any]]:
    """What was compared: its name, what was recorded, what is here."""
    region, at = port.region, int(port.reply.nr_offset)
    yield "memsize", recorded["memsize"], len(region)
    head = IF.read(region, at)
    counts = head.ni_tx_rings, head.ni_rx_rings, head.ni_host_tx_rings, head.ni_host_rx_rings
    begin, end = at + _NAME_BYTES, at + IF.size + 8 * sum(counts)
    was = bytes.fromhex(recorded["netmap_if"])[_NAME_BYTES : end - at]
    yield "netmap_if", was.hex(), region[begin:end].hex()
    rings = {(ring.tx, ring.ringid): ring.at for ring in (*port.tx_rings, *port.rx_rings)}
    for ring, (offset, text) in recorded["rings"].items():
        kind = ring.rstrip("0123456789")
        tx = kind.endswith("tx")
        nic = head.ni_tx_rings if tx else head.ni_rx_rings
        number = int(ring[len(kind) :]) + (nic if kind.startswith("h") else 0)
        here = rings[tx, number]
        yield f"{ring}: offset", offset, here
        yield ring, text, region[here : here + len(text) // 2].hex()
    if (packed := recorded.get("first_64k_zlib_b64")) is not None:
        first = zlib.decompressobj().decompress(base64.b64decode(packed), MOST_BYTES)
        yield "first bytes", first.hex(), region[: len(first)].hex()
