"""What the other end's driver makes of a dumped ring: the kernels of netback and netfront judge it.

The packets on a transmit ring are read as netback reads them, those on a receive ring as netfront
does, so rules and words are theirs (docs/hardening.md). Nothing is copied: whether a reference
grants a page is not in the ring.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from attrs import frozen

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
    NETTXF_extra_info,
)
from xennet.abi.words import RX_SLOTS, TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.dumps.ring_dump import RingKind, RingPage, Slot
from xennet.engine.kernel import Frames
from xennet.netback import guest_tx
from xennet.netback.verdict import tx_error
from xennet.netback.vif_config import new_vif_config
from xennet.netfront import guest_rx
from xennet.ring import MASK32
from xennet.vif.ring_events import RingEvent, new_log, take

#: Reads the slots of a packet that lies at these indices.
_SlotsOf: TypeAlias = "Callable[[RingPage, Sequence[int]], list[Slot]]"
_GOES_ON = NETRXF_more_data | NETRXF_extra_info | NETRXF_gso_prefix
_PREFIXES = 1 << XEN_NETIF_GSO_TYPE_TCPV4 | 1 << XEN_NETIF_GSO_TYPE_TCPV6


@frozen
class Problem:
    """Something wrong: its ``rule`` (docs/hardening.md), the ring ``index`` where it is, if it is
    at one, and words for people."""

    rule: str
    index: int | None
    text: str


@frozen
class Packet:
    """Slots that belong together: of one packet of ``size`` bytes (0: no packet), of a multicast
    request, or of a control message. ``fate`` is what the other end does with it, "" if nothing is
    to be said."""

    slots: tuple[Slot, ...]
    size: int
    fate: str


@frozen
class Judgement:
    """What a ring page holds: the ``requests`` that await a response, the ``responses`` that the
    page still has (of a receive ring as packets), and what is wrong."""

    requests: tuple[Packet, ...] = ()
    responses: tuple[Packet, ...] = ()
    problems: tuple[Problem, ...] = ()


def judge(page: RingPage, start: int | None = None) -> Judgement:
    """Read all that ``page`` holds. ``start``: the index at which the backend goes on reading, if
    that is not rsp_prod (its req_cons is private); it concerns a transmit ring's requests only."""
    if not page.sound:
        ring = page.sring
        text = (
            f"req_prod {ring.req_prod} is {page.unanswered} past rsp_prod {ring.rsp_prod}: more "
            f"than the {page.nr_ents} slots that there are, so no slot can be believed"
        )
        return Judgement(problems=(Problem("F1", None, text),))
    return _JUDGES[page.kind](page, start)


def _tx(page: RingPage, start: int | None) -> Judgement:
    """Requests as netback's take_requests sees them; responses one by one."""
    begin = page.sring.rsp_prod if start is None else start
    res, log = array("q", bytes(8 * guest_tx.RESULTS)), new_log()
    state = array("q", bytes(8 * guest_tx.STATES))
    state[guest_tx.S_CREDIT] = guest_tx.UNLIMITED
    words = [_words(TX_SLOTS) for _ in range(4)]
    guest_tx.read_requests(
        TX_SLOTS,
        log,
        (page.words, memoryview(array("I", (begin, begin)))),
        new_vif_config(),
        (words[0], words[1], words[2], words[3], _words(guest_tx.EXTRA_WORDS)),
        _frames(PAGE_SIZE, TX_SLOTS),
        state,
        res,
    )
    read = [(begin + i) & MASK32 for i in range(res[guest_tx.R_SLOTS])]
    packets, problems = _packets(page, log, read, _request_slots)
    if res[guest_tx.R_VERDICT]:
        error = tx_error(res)
        text = f"{error.args[0]}: the vif is given up, and nothing behind it is read"
        problems.append(Problem(error.rule, error.index, text))
    if start is None and packets and problems and problems[0].index == begin:
        behind = (begin + len(packets[0].slots)) & MASK32
        hint = f"if rsp_prod stands inside a packet whose head is answered: --start {behind}"
        problems[0] = Problem(problems[0].rule, begin, f"{problems[0].text} ({hint})")
    left = (page.sring.req_prod - begin) & MASK32
    unread = range(len(read), left if left <= page.nr_ents else 0)
    packets += [
        Packet((page.request((begin + i) & MASK32),), 0, "not read any more") for i in unread
    ]
    return Judgement(tuple(packets), _singles(page.response, page.responses()), tuple(problems))


def _rx(page: RingPage, _start: int | None) -> Judgement:
    """Requests one by one; responses as netfront's take_packets sees them."""
    indices = page.responses()
    torn = 0
    if indices and page.begun_before:  # the oldest may end a packet whose beginning is gone
        flags = [int(page.response(index).values["flags"]) for index in indices]
        torn = next((i for i, bits in enumerate(flags) if not bits & _GOES_ON), len(flags) - 1) + 1
    problems: list[Problem] = []
    packets: list[Packet] = []
    if indices[torn:]:
        res, log = array("q", bytes(8 * guest_rx.RESULTS)), new_log()
        guest_rx.take_packets(
            indices[torn],
            page.sring.rsp_prod,
            RX_SLOTS,
            log,
            page.words,
            (memoryview(bytes(RX_SLOTS * PAGE_SIZE)), _words(RX_SLOTS), memoryview(b"")),
            (page.words, 0, page.words, 0, 0, 0),  # granted for life: no entry is looked at
            _frames(RX_SLOTS * PAGE_SIZE + guest_rx.MAX_CHAIN_BYTES, RX_SLOTS),
            (_PREFIXES, 0),
            array("q", bytes(8 * guest_rx.EXTRAS)),
            res,
        )
        packets, problems = _packets(page, log, indices[torn:], _response_slots)
    early = [
        Packet((page.response(at),), 0, "may belong to a packet whose beginning is gone")
        for at in indices[:torn]
    ]
    posted: dict[int, int] = {}
    for at in page.requests():
        gref = int(page.request(at).values["gref"])
        if gref in posted:
            text = f"gref {gref} was posted at index {posted[gref]} already: one page for two"
            problems.append(Problem("B1", at, text))
        posted.setdefault(gref, at)
    requests = _singles(page.request, page.requests())
    return Judgement(requests, (*early, *packets), tuple(problems))


def _ctrl(page: RingPage, _start: int | None) -> Judgement:
    """Messages one by one; each stands for itself."""
    return Judgement(
        _singles(page.request, page.requests()), _singles(page.response, page.responses())
    )


_JUDGES: Mapping[RingKind, Callable[[RingPage, int | None], Judgement]] = MappingProxyType(
    {RingKind.TX: _tx, RingKind.RX: _rx, RingKind.CTRL: _ctrl}
)


def _singles(read: Callable[[int], Slot], indices: Sequence[int]) -> tuple[Packet, ...]:
    return tuple(Packet((read(index),), 0, "") for index in indices)


def _packets(
    page: RingPage, log: array[int], indices: Sequence[int], slots_of: _SlotsOf
) -> tuple[list[Packet], list[Problem]]:
    """The packets that a kernel logged, which lie at ``indices``, and what it found wrong. What
    lies between them are multicast requests, which are no packets (rule F11)."""
    events = {event.index: event for event in take(0, log) if isinstance(event, RingEvent)}
    found: list[Packet] = []
    problems: list[Problem] = []
    place = 0
    while place < len(indices):
        event = events.get(indices[place])
        if event is None:
            count = 1 + len(_extras(page, indices[place + 1 :]))
            fate, size = "multicast request", 0
        else:
            values = dict(event.values)
            count, size = int(values["slots"]), int(values["bytes"])
            fate = f"{event.what}: {event.why} [{event.rule}]" if event.rule else ""
            if event.rule:
                problems.append(Problem(event.rule, event.index, f"{event.what}: {event.why}"))
        found.append(Packet(tuple(slots_of(page, indices[place : place + count])), size, fate))
        place += count
    return found, problems


def _request_slots(page: RingPage, indices: Sequence[int]) -> list[Slot]:
    return _slots(page, page.request, indices, 1, NETTXF_extra_info)


def _response_slots(page: RingPage, indices: Sequence[int]) -> list[Slot]:
    # A slot with gso_prefix stands in front of the packet's first one.
    prefixed = int(page.response(indices[0]).values["flags"]) & NETRXF_gso_prefix
    return _slots(page, page.response, indices, 2 if prefixed else 1, NETRXF_extra_info)


def _slots(
    page: RingPage,
    read: Callable[[int], Slot],
    indices: Sequence[int],
    head: int,
    extra_info: int,
) -> list[Slot]:
    """The slots of a packet: ``head`` of them, extra infos if the last one of those says so, then
    more data (xen/io/netif.h, "Extra Info")."""
    slots = [read(index) for index in indices[:head]]
    if int(slots[-1].values["flags"]) & extra_info:
        slots += _extras(page, indices[head:])
    return slots + [read(index) for index in indices[len(slots) :]]


def _extras(page: RingPage, indices: Sequence[int]) -> list[Slot]:
    found: list[Slot] = []
    for index in indices:
        found.append(page.extra(index))
        if not int(found[-1].values["flags"]) & XEN_NETIF_EXTRA_FLAG_MORE:
            break
    return found


def _words(count: int) -> memoryview:
    return memoryview(bytearray(4 * count)).cast("I")


def _frames(size: int, count: int) -> Frames:
    """The columns of ``count`` frames that have ``size`` bytes together."""
    data = _words(size // 4)
    columns = [_words(count) for _ in range(7)]
    return (data.cast("B"), data, *columns)  # type: ignore[return-value]
