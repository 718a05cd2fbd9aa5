"""xnb's output about its own state: lines on the console, and the rings on request."""

from __future__ import annotations

from collections.abc import Callable

from xennet.abi.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xennet.netback.xnb.mbuf import Mbuf
from xennet.netback.xnb.pkt import Pkt
from xennet.netback.xnb.slots import GnttabCopy, TxRequest
from xennet.ring import BackRing

#: Called with each console line, without its newline. None: the console is not read.
Log = Callable[[str], None] | None


def printf(log: Log, function: str, text: str) -> None:
    """Print one console line that begins with the function of netback.c."""
    if log is not None:
        log(f"xnb({function}): {text}")


def dump_pkt(pkt: Pkt, log: Log) -> None:
    """xnb_dump_pkt: one line per field; the extra info is left out, as in netback.c."""
    for name in ("size", "car_size", "flags", "list_len", "car", "cdr", "error"):
        value = int(getattr(pkt, name))
        shown = f"{value:#06x}" if name == "flags" else str(value)
        printf(log, "xnb_dump_pkt", f"pkt.{name} = {shown}")


def dump_txreq(idx: int, txreq: TxRequest, log: Log) -> None:
    """xnb_dump_txreq: six lines per slot, without any limit (defect A18)."""
    printf(log, "xnb_dump_txreq", f"netif_tx_request at index {idx}")
    for name in ("gref", "offset", "flags", "id", "size"):
        printf(log, "xnb_dump_txreq", f"netif_tx_request.{name} = {getattr(txreq, name)}")


def dump_gnttab_copy(entry: GnttabCopy, log: Log) -> None:
    """xnb_dump_gnttab_copy: each side by gref or by frame, as the flags say."""
    for side, by_gref in (("dest", GNTCOPY_dest_gref), ("source", GNTCOPY_source_gref)):
        kind = "ref" if entry.flags & by_gref else "gmfn"
        for name in (kind, "offset", "domid"):
            value = getattr(entry, f"{side}_{name}")
            printf(log, "xnb_dump_gnttab_copy", f"{side} {name} = {value}")
    for name in ("len", "flags", "status"):
        printf(log, "xnb_dump_gnttab_copy", f"{name} = {getattr(entry, name)}")


def dump_mbuf(mbuf: Mbuf, log: Log) -> None:
    """xnb_dump_mbuf: header, lengths and the valid bytes of one segment, 16 to a line."""
    header = mbuf.pkthdr
    if header is not None:
        printf(
            log,
            "xnb_dump_mbuf",
            f"len = {header.len}, csum_flags = {header.csum_flags:#x}, "
            f"csum_data = {header.csum_data:#x}, tso_segsz = {header.tso_segsz}, "
            f"flowid = {header.flowid}",
        )
    printf(
        log,
        "xnb_dump_mbuf",
        f"m_len = {mbuf.len}, frame = {mbuf.frame_at(0):#x}, offset = {mbuf.offset_at(0)}",
    )
    valid = mbuf.valid()
    for at in range(0, mbuf.len, 16):
        printf(log, "xnb_dump_mbuf", bytes(valid[at : at + 16]).hex(" "))


def dump_rings(txb: BackRing | None, rxb: BackRing | None) -> str:
    """xnb_dump_rings (sysctl dev.xnb.N.dump_rings): a table of both rings' indices.

    The empty string while a ring is not connected. The row of netback.c that shows where the shared
    pages are mapped shows the rings' names. Indices are printed signed, as %d does.
    """
    if txb is None or rxb is None:
        return ""
    rows: list[tuple[str, object, object]] = [
        ("req_cons", _signed(txb.req_cons), _signed(rxb.req_cons)),
        ("nr_ents", txb.nr_ents, rxb.nr_ents),
        ("rsp_prod_pvt", _signed(txb.rsp_prod_pvt), _signed(rxb.rsp_prod_pvt)),
        ("sring", txb.sring.name, rxb.sring.name),
    ]
    for name in ("req_prod", "req_event", "rsp_prod", "rsp_event"):
        tx, rx = (_signed(getattr(ring.sring, name)) for ring in (txb, rxb))
        rows.append((f"sring->{name}", tx, rx))
    lines = [f"\n\t{'TX':>35} {'RX':>18}"]
    lines += [f"\t{name:>16} {left!s:>18} {right!s:>18}" for name, left, right in rows]
    return "\n".join(lines) + "\n"


def _signed(value: int) -> int:
    """A 32-bit word as %d shows it."""
    return value - (1 << 32) if value & 1 << 31 else value
