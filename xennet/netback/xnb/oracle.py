"""Which of xnb's defects an input comes to: the oracle of a fuzz target.

Many defects show no panic: a response too many, a packet that is never announced again, an extra
info that is taken for a request. They are recognised by what a fixed driver makes of the same
input. :func:`rows_met` plays it once as it is; each row that the driver came to on the way
(``XnbPoller.met``) is then played as known, and counts if the outcome is another one.

    poller = XnbPoller()

    def play(poller):
        poller.load(page)
        poller.poll()

    rows_met(poller, play)                   # {"A5": "tx cons 2 instead of 3; ..."}
    rows_met(poller, play, known={"A5"})     # what is behind it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xennet.abi.ring import SRING_HEADER, SRING_HEADER_SIZE
from xennet.netback.xnb.poller import XnbPoller

#: Writes an input into a poller that has been reset, and makes a pass.
Play = Callable[[XnbPoller], object]
Outcome = dict[str, object]


def outcome(poller: XnbPoller) -> Outcome:
    """All that the last pass of ``poller`` left behind, by name.

    "panic": its rows, "" for none. "waiting": packets that still wait for the guest, "sent" those
    that count as sent. "tx cons" and "rx cons": req_cons, "tx produced" and "rx produced":
    rsp_prod_pvt. "lines": console lines. "list_len in error": of packets in error, the longest.
    """
    xnb, panic = poller.softc, poller.error()
    tx, rx = bytes(poller.ring_page), bytes(poller.rx_page)
    return {
        "panic": panic.rule if panic else "",
        "packets": poller.packets(),
        "disabled": not xnb.carrier,
        "tx cons": xnb.txb.req_cons,
        "tx produced": xnb.txb.rsp_prod_pvt,
        "rx cons": xnb.rxb.req_cons,
        "rx produced": xnb.rxb.rsp_prod_pvt,
        "waiting": len(xnb.ifp.if_snd),
        "sent": xnb.ifp.opackets,
        "lines": xnb.rows.lines,
        "list_len in error": xnb.rows.list_len_in_error,
        **_header("tx", tx),
        "tx slots": tx[SRING_HEADER_SIZE:],
        **_header("rx", rx),
        "rx slots": rx[SRING_HEADER_SIZE:],
        "pages": bytes(poller.pages),
    }


def _header(ring: str, page: bytes) -> Outcome:
    """The indices of a ring, by name."""
    names = ("req_prod", "req_event", "rsp_prod", "rsp_event")
    return {f"{ring} {name}": SRING_HEADER.unpack_from(page)[i] for i, name in enumerate(names)}


def difference(seen: Outcome, fixed: Outcome) -> str:
    """What is different in ``fixed``, the outcome with a row known; "" if nothing is."""
    return "; ".join(
        f"{name} {_shown(mine, fixed[name])} instead of {_shown(fixed[name], mine)}"
        for name, mine in seen.items()
        if mine != fixed[name]
    )


def rows_met(poller: XnbPoller, play: Play, known: Iterable[str] = ()) -> dict[str, str]:
    """The rows that make a difference to what ``play`` does, with the difference that each makes.

    ``known`` rows are fixed from the start. Raises ValueError that lists the rows if one of them is
    unknown. The poller is left with ``known``, as ``play`` left it.
    """
    base = frozenset(known)
    found = {}
    shipped = _played(poller, play, base)
    for row in sorted(poller.met):
        said = difference(shipped, _played(poller, play, base | {row}))
        if said:
            found[row] = said
    if found:
        _played(poller, play, base)
    return found


def _played(poller: XnbPoller, play: Play, known: frozenset[str]) -> Outcome:
    poller.reset()
    poller.known = known
    play(poller)
    return outcome(poller)


def _shown(value: object, other: object) -> str:
    """A value in a sentence; of bytes, those that differ first."""
    if isinstance(value, bytes) and isinstance(other, bytes):
        at = next(i for i, pair in enumerate(zip(value, other, strict=True)) if len(set(pair)) > 1)
        return f"{value[at : at + 12].hex()} at byte {at}"
    return str(value) or "none"
