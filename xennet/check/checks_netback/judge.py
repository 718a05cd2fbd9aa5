"""How a backend's answers are judged: responses by their ids, frames by what the echo gives back.

Everything here raises :class:`~xennet.check.check.Violation` with the slot that shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from attrs import frozen

from xennet.abi.netif import (
    NETIF_RSP_DROPPED,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_XDP,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.check.check import Violation
from xennet.check.checks_netback.tx_packets import (
    Fate,
    TxPacket,
    Written,
    chain,
    pages,
    put,
)
from xennet.check.ip_frames import Flow, Sum, judge_sum, payload, without_sum
from xennet.check.peers import FrontendPeer
from xennet.testing.raw_frontend import RxResponse, TxResponse
from xennet.testing.raw_peer import packet_slots

_RX_FLAGS = (
    NETRXF_data_validated
    | NETRXF_csum_blank
    | NETRXF_more_data
    | NETRXF_extra_info
    | NETRXF_gso_prefix
)
_RX_EXTRAS = (XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_TYPE_XDP)
_STATUSES = (NETIF_RSP_DROPPED, NETIF_RSP_ERROR, NETIF_RSP_OKAY)
RX_SLOTS = 256
PROBES_NEED = 16


@frozen
class Came:
    """A packet that the backend gave: its bytes, the flags of its first slot, its extra infos
    (type -> the 6 bytes behind type and flags), its data slots, and the first negative status."""

    frame: bytes
    flags: int
    extras: Mapping[int, bytes]
    slots: tuple[RxResponse, ...]
    status: int

    @property
    def gso_size(self) -> int:
        """The segment size, 0 if it is no GSO packet."""
        body = self.extras.get(XEN_NETIF_EXTRA_TYPE_GSO, bytes(6))
        return int.from_bytes(body[:2], "little")

    @property
    def gso_type(self) -> int:
        """The GSO type, 0 if it is no GSO packet."""
        return self.extras.get(XEN_NETIF_EXTRA_TYPE_GSO, bytes(6))[2]


# -- receiving -------------------------------------------------------------------------------------


def post(peer: FrontendPeer, buffers: int, queue: int = 0) -> None:
    """Post receive buffers, as far as the ring has room but for those of a few probes, and publish
    them."""
    front = peer.ring("rx", queue)
    room = RX_SLOTS - PROBES_NEED - ((front.req_prod_pvt - front.rsp_cons) & 0xFFFFFFFF)
    peer.post_rx(max(0, min(room, buffers)), queue=queue)
    peer.push_rx(queue)


def receive(
    peer: FrontendPeer, queue: int = 0, *, ids: Mapping[int, int] | None = None
) -> list[Came]:
    """All packets that have come, each slot of them judged. ``ids``: index -> id of a request that
    has another id than its slot's number."""
    found = []
    for data, extras in packet_slots(peer.rx_responses(queue)):
        for slot in data:
            place = slot.index & (RX_SLOTS - 1)
            _judge_slot(slot, (ids or {}).get(slot.index, place), first=slot is data[0])
        _judge_extras(data[0], extras)
        if data[-1].flags & NETRXF_more_data:
            raise _rx(data[-1], "more_data is set, but no slot of the packet is behind it")
        found.append(
            Came(
                b"".join(_bytes_of(peer, slot, queue) for slot in data),
                data[0].flags,
                {extra.raw[0]: extra.raw[2:8] for extra in extras},
                tuple(data),
                next((slot.status for slot in data if slot.status < 0), 0),
            )
        )
    peer.frames += [(peer.hv.now, one.frame) for one in found]
    return found


def _judge_slot(slot: RxResponse, ident: int, *, first: bool) -> None:
    if slot.id != ident:
        raise _rx(slot, f"the response has id {slot.id}, the request in its slot had {ident}")
    if slot.flags & ~_RX_FLAGS:
        raise _rx(slot, f"flags {slot.flags:#06x} has bits that no flag is")
    if slot.flags & NETRXF_extra_info and not first:
        raise _rx(slot, "extra_info is set in a slot that is not the first of its packet")
    if slot.status >= 0 and slot.offset + slot.status > PAGE_SIZE:
        raise _rx(slot, f"offset {slot.offset} + status {slot.status} reach beyond the page")
    if not slot.status:
        raise _rx(slot, "a data slot with no bytes in it")


def _judge_extras(first: RxResponse, extras: Sequence[RxResponse]) -> None:
    if not extras and first.flags & NETRXF_extra_info:
        raise _rx(first, "extra_info is set, but no slot is behind it")
    for extra in extras:
        if extra.raw[0] not in _RX_EXTRAS:
            raise _rx(extra, f"an extra info of type {extra.raw[0]}")
    if extras and extras[-1].raw[1] & XEN_NETIF_EXTRA_FLAG_MORE:
        raise _rx(extras[-1], "XEN_NETIF_EXTRA_FLAG_MORE is set, but no slot is behind it")


def _bytes_of(peer: FrontendPeer, slot: RxResponse, queue: int) -> bytes:
    page = peer.queues[queue].buffers.get(slot.index & (RX_SLOTS - 1))
    if page is None or slot.status < 0:
        return b""
    return bytes(page.run.u8[slot.offset : slot.offset + slot.status])


def _rx(slot: RxResponse, message: str) -> Violation:
    return Violation(message, ring="rx", index=slot.index, raw=slot.raw)


# -- what was sent ---------------------------------------------------------------------------------


def play(peer: FrontendPeer, packets: Sequence[TxPacket], queue: int = 0) -> None:
    """Publish ``packets`` together, and judge what becomes of them."""
    post(peer, pages(packets) + 4, queue)
    written = [put(peer, packet, queue) for packet in packets]
    peer.push_tx(queue)
    peer.settle()
    judge(peer, written, queue)


def judge(peer: FrontendPeer, written: Sequence[Written], queue: int = 0) -> list[Came]:
    """Judge the responses to ``written``, and what came back. Returns what came.

    A packet behind one that is refused may be missing, if the vif is given up: then nothing else is
    answered either.
    """
    answered, came = _gather(peer, len(written), queue)
    statuses = judge_responses(written, answered)
    left = match(written, came)
    suspect = any(one.fate is not Fate.DELIVER for one in written)
    for one in written:
        missing, okay = one in left, _are_okay(one, statuses)
        if one.fate is Fate.REFUSE and okay:
            raise _tx(one, "a packet that has to be refused is answered OKAY in every slot")
        if one.fate is not Fate.DELIVER or (okay and not missing):
            continue
        if not missing:
            raise _tx(one, "it was delivered, and is not answered OKAY in every slot")
        if not suspect:
            raise _tx(one, "a packet that keeps every rule is not delivered")
        _look_again(peer, one, queue)
        break
    return came


def _gather(peer: FrontendPeer, packets: int, queue: int) -> tuple[list[TxResponse], list[Came]]:
    """The responses and packets that have come; those of more packets than the rx ring has room for
    come when more buffers are posted."""
    answered, came = peer.responses(queue), receive(peer, queue)
    more = came
    while more and len(came) < packets and packets > RX_SLOTS - PROBES_NEED:
        post(peer, packets, queue)
        peer.settle()
        answered += peer.responses(queue)
        more = receive(peer, queue)
        came += more
    return answered, came


def _are_okay(one: Written, statuses: Counter[tuple[int, int]]) -> bool:
    return all(statuses[ident, NETIF_RSP_OKAY] for ident in one.idents)


def _look_again(peer: FrontendPeer, missing: Written, queue: int) -> None:
    """Raises Violation if a backend that has forgotten a good packet goes on: with the next one, or
    when it gets an event that it has not asked for."""
    post(peer, 2, queue)
    put(peer, chain(60), queue)
    peer.push_tx(queue)
    peer.settle()
    if not _came(peer, queue):
        peer.notify(queue=queue)
        peer.settle()
        if not _came(peer, queue):
            return
    raise _tx(missing, "a good packet beside a wrong one is lost, or served at the next event only")


def _came(peer: FrontendPeer, queue: int) -> bool:
    return bool(peer.responses(queue)) or bool(peer.rx_responses(queue))


def judge_responses(
    written: Sequence[Written], answered: Sequence[TxResponse]
) -> Counter[tuple[int, int]]:
    """Judge that each slot is answered once at most. Returns how often each (id, status) came."""
    expected = Counter(ident for one in written for ident in one.idents)
    nulls = sum(len(one.packet.extras) for one in written)
    statuses: Counter[tuple[int, int]] = Counter()
    for response in answered:
        if response.status == NETIF_RSP_NULL:
            nulls -= 1
            if nulls < 0:
                raise _response(response, "NETIF_RSP_NULL for a slot that is no extra info")
            continue
        if response.status not in _STATUSES:
            raise _response(response, f"status {response.status} is no NETIF_RSP_*")
        if not expected[response.id]:
            raise _response(response, f"a response with id {response.id}, which awaits none")
        expected[response.id] -= 1
        statuses[response.id, response.status] += 1
    delivered = [one for one in written if one.fate is Fate.DELIVER and _are_okay(one, statuses)]
    if len(delivered) == len(written) and nulls:
        raise _tx(written[0], f"{nulls} extra info slots are not answered by NETIF_RSP_NULL")
    return statuses


def match(written: Sequence[Written], came: Sequence[Came]) -> list[Written]:
    """Find each frame that came among those written, in their order. Returns those that did not
    come; raises Violation for a frame that nobody has sent, or that has to be refused."""
    left = list(written)
    missing: list[Written] = []
    at = 0
    while at < len(came):
        if came[at].status < 0:
            raise _rx(came[at].slots[0], f"a good buffer is answered with {came[at].status}")
        for number, one in enumerate(left):
            used = _is(one, came[at:])
            if used:
                if one.fate is Fate.REFUSE:
                    raise _tx(one, "a packet that has to be refused was delivered")
                for packet in came[at : at + used]:
                    _judge_came(one, packet)
                missing += left[:number]
                del left[: number + 1]
                at += used
                break
        else:
            size = len(came[at].frame)
            raise _rx(came[at].slots[0], f"a packet of {size} bytes came that nobody has sent")
    return missing + left


def _is(one: Written, came: Sequence[Came]) -> int:
    """How many of the packets that came are ``one``: 0 if the first is another, several if it was
    segmented."""
    flow = one.packet.flow
    if flow is None:
        return int(came[0].frame == one.frame)
    if without_sum(came[0].frame, flow) == without_sum(one.frame, flow):
        return 1
    wanted, used = payload(one.frame, flow), 0
    while wanted and used < len(came):
        part = payload(came[used].frame, flow)
        if not part or not wanted.startswith(part):
            return 0
        wanted = wanted[len(part) :]
        used += 1
    return used if not wanted else 0


def _judge_came(one: Written, came: Came) -> None:
    """Judge the checksum of a packet, and what its first slot and extra infos say of it."""
    flow = one.packet.flow
    if flow is None:
        return
    blank = bool(came.flags & NETRXF_csum_blank)
    found = judge_sum(came.frame, flow)
    if found is not (Sum.BLANK if blank else Sum.RIGHT):
        said = "csum_blank" if blank else "no csum_blank"
        raise _rx(came.slots[0], f"the packet has {said}, and {found} in its checksum field")
    if came.gso_size and not came.flags & NETRXF_data_validated:
        raise _rx(came.slots[0], "a GSO packet without data_validated")
    _judge_gso(one, came, flow)


def _judge_gso(one: Written, came: Came, flow: Flow) -> None:
    """Judge that a packet that was to be segmented comes back with the same segment size and
    type."""
    wanted = [extra.body for extra in one.packet.extras if extra.kind == XEN_NETIF_EXTRA_TYPE_GSO]
    if not wanted:
        return
    size, kind = int.from_bytes(wanted[-1][:2], "little"), wanted[-1][2]
    if len(payload(came.frame, flow)) > size and (came.gso_size, came.gso_type) != (size, kind):
        said = f"size {came.gso_size}, type {came.gso_type}" if came.gso_size else "no GSO"
        raise _rx(
            came.slots[0],
            f"a packet with segments of {size} bytes, type {kind}, comes back whole with {said}",
        )


def _tx(one: Written, message: str) -> Violation:
    return Violation(message, ring="tx", index=one.index)


def _response(response: TxResponse, message: str) -> Violation:
    return Violation(message, ring="tx", index=response.index, raw=response.raw)
