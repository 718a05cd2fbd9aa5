"""The control ring: its messages, what they refuse, and the hashes and queues that come of
them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xennet.abi.netif import (
    XEN_NETIF_CTRL_HASH_ALGORITHM_NONE,
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
    XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW,
    XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
    XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING,
    XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING,
    XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_SET_HASH_KEY,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
    XEN_NETIF_EXTRA_TYPE_HASH,
)
from xennet.check.check import Field, Side, Violation, check
from xennet.check.checks_netback.between_hypercalls import SENDS, at_hypercalls
from xennet.check.checks_netback.connecting import enter_with
from xennet.check.checks_netback.grefs import GREFS
from xennet.check.checks_netback.judge import post, receive
from xennet.check.checks_netback.rows import GOES_ON, SURVIVES
from xennet.check.ip_frames import IPV4, IPV6, TCP, UDP, Flow, packet, toeplitz
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer
from xennet.testing.raw_frontend import CtrlResponse

SUCCESS = XEN_NETIF_CTRL_STATUS_SUCCESS
NOT_SUPPORTED = XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED
INVALID = XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
OVERFLOW = XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW
ALGORITHM, TOEPLITZ = XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ
GET_FLAGS, SET_FLAGS = XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS
SET_KEY = XEN_NETIF_CTRL_TYPE_SET_HASH_KEY
GET_SIZE = XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE
SET_SIZE = XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE
SET_MAPPING = XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING

_NEEDS = frozenset({"ctrl-ring"})
_QUEUES = _NEEDS | {"multi-queue"}
_STATUSES = (SUCCESS, NOT_SUPPORTED, INVALID, OVERFLOW)
_SLOTS = 128
#: The key of the verification suite for RSS.
_KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
_TYPES = {
    (IPV4, False): XEN_NETIF_CTRL_HASH_TYPE_IPV4,
    (IPV4, True): XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP,
    (IPV6, False): XEN_NETIF_CTRL_HASH_TYPE_IPV6,
    (IPV6, True): XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
}


def _judge(kind: int, ident: int, answers: Sequence[CtrlResponse]) -> CtrlResponse:
    if len(answers) != 1:
        raise Violation(
            f"a control request of type {kind} has {len(answers)} responses", ring="ctrl"
        )
    (answer,) = answers
    if (answer.id, answer.type) != (ident, kind) or answer.status not in _STATUSES:
        raise Violation(
            f"id {ident}, type {kind} is answered by id {answer.id}, type {answer.type}, status "
            f"{answer.status}",
            ring="ctrl",
            index=answer.index,
            raw=answer.raw,
        )
    return answer


def ask(peer: FrontendPeer, kind: int, *data: int, ident: int = 0x1234) -> CtrlResponse:
    """The response to one message; raises Violation unless there is exactly one with its id and
    type."""
    peer.ctrl(kind, *data, ident=ident)
    peer.push_ctrl()
    peer.settle()
    return _judge(kind, ident, peer.ctrl_responses())


def expect(peer: FrontendPeer, statuses: Sequence[int], kind: int, *data: int) -> CtrlResponse:
    """As :func:`ask`; raises Violation also for another status."""
    answer = ask(peer, kind, *data)
    if answer.status not in statuses:
        wanted = " or ".join(map(str, statuses))
        raise Violation(
            f"type {kind} with {list(data)} has status {answer.status}, not {wanted}",
            ring="ctrl",
            index=answer.index,
            raw=answer.raw,
        )
    return answer


def _page(peer: FrontendPeer, content: bytes) -> int:
    return GREFS["readonly"](peer, content)


def _table(entries: Sequence[int]) -> bytes:
    return b"".join(entry.to_bytes(4, "little") for entry in entries)


def _enter(peer: FrontendPeer, queues: int = 1) -> None:
    enter_with(peer, ctrl=True, queues=queues)


# -- the ring --------------------------------------------------------------------------------------


@check(
    id="netback.ctrl.many",
    rule="netif.ctrl.balanced",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="one response for each request, with its id and type",
)
def many(peer: FrontendPeer, _: object) -> None:
    """A ring full of requests, three times: each gets one response, with its id."""
    _enter(peer)
    for turn in range(3):
        idents = [(turn * 0x5000 + 7 * number) & 0xFFFF for number in range(_SLOTS)]
        for ident in idents:
            peer.ctrl(GET_SIZE, ident=ident)
        peer.push_ctrl()
        peer.settle()
        answered = [answer.id for answer in peer.ctrl_responses()]
        if sorted(answered) != sorted(idents):
            raise Violation(f"{len(idents)} requests have {len(answered)} responses", ring="ctrl")


@check(
    id="netback.ctrl.event",
    rule="netif.ctrl.balanced",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="events of the control ring come by event-channel-ctrl",
)
def event(peer: FrontendPeer, _: object) -> None:
    """The frontend is told of a response by the control ring's own channel, if it asks."""
    _enter(peer)
    for _number in range(3):
        before = peer.ctrl_events
        ask(peer, GET_SIZE)
        if peer.ctrl_events == before:
            raise Violation("a response came, and no event", ring="ctrl")


@check(
    id="netback.ctrl.published-while-it-answers",
    rule="ring.final-check",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="look for requests once more behind the store of req_event",
)
def published_meanwhile(peer: FrontendPeer, _: object) -> None:
    """A request that is published in the middle of the backend's work is answered."""
    _enter(peer)
    left = [20]

    def more() -> None:
        if left[0]:
            left[0] -= 1
            peer.set_index("rsp_event", peer.index("rsp_prod", ring="ctrl") + 1, ring="ctrl")
            peer.ctrl(GET_SIZE, ident=left[0])
            peer.push_ctrl()

    with at_hypercalls(peer, SENDS, more):
        more()
        peer.settle()
    answered = len(peer.ctrl_responses())
    if answered != 20 - left[0]:
        raise Violation(f"{20 - left[0]} requests have {answered} responses", ring="ctrl")


for _start in (1, 127, (1 << 32) - 3):

    @check(
        id=f"netback.ctrl.start-{_start:#x}",
        rule="netif.ctrl.layout",
        side=Side.NETBACK,
        needs=_NEEDS,
        connect=False,
        hint="the control ring has 128 slots of 16 bytes; its indices begin anywhere",
    )
    def start_index(peer: FrontendPeer, _: object, start: int = _start) -> None:
        """A control ring whose indices begin elsewhere than at 0 is entered there."""
        enter_with(peer, ctrl=True, start=start)
        for number in range(5):
            ask(peer, GET_SIZE, ident=number)


for _name, _ahead in (("129", _SLOTS + 1), ("half", 1 << 31), ("backwards", (1 << 32) - 1)):

    @check(
        id=f"netback.ctrl.overflow-{_name}",
        rule="ring.request-overflow",
        side=Side.NETBACK,
        needs=_NEEDS,
        connect=False,
        field=Field("req_prod - rsp_prod of the control ring", _ahead, 1),
        accepts=SURVIVES,
        hint="compare the unsigned distance with the size of the ring",
    )
    def overflow(peer: FrontendPeer, value: int) -> None:
        """A req_prod of the control ring that cannot be is no work."""
        _enter(peer)
        base = peer.index("rsp_cons", ring="ctrl")
        for number in range(100):
            peer.write_slot(base + number, bytes([number, 0, GET_SIZE, 0]) + bytes(12), ring="ctrl")
        peer.set_index("req_prod_pvt", base + 1, ring="ctrl")
        peer.set_index("req_prod", base + value, ring="ctrl")
        peer.notify("ctrl")
        peer.settle()
        produced = (peer.index("rsp_prod", ring="ctrl") - base) & 0xFFFFFFFF
        if produced > 1:
            raise Violation(f"{produced} responses to one request", ring="ctrl", index=base)


@check(
    id="netback.ctrl.none",
    rule="netif.ctrl.optional",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    field=Field("event-channel-ctrl", "missing", "written"),
    accepts=frozenset({Outcome.SHUT_DOWN}),
    hint="ctrl-ring-ref without event-channel-ctrl is an error of the device",
)
def without_port(peer: FrontendPeer, value: str) -> None:
    """A control ring without its event channel is refused; both missing is no control ring."""
    peer.settle()
    peer.allocate(ctrl=True)
    peer.connect({"event-channel-ctrl": None} if value == "missing" else {})
    peer.wait(lambda: peer.connected)


# -- messages --------------------------------------------------------------------------------------

for _kind in (0, 11, 99, 0xFFFF):

    @check(
        id=f"netback.ctrl.unknown-type-{_kind:#x}",
        rule="netif.ctrl.unknown-type",
        side=Side.NETBACK,
        needs=_NEEDS,
        connect=False,
        field=Field("type of the request", _kind, GET_SIZE),
        accepts=frozenset({Outcome.REFUSED}),
        hint="answer XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED",
    )
    def unknown_type(peer: FrontendPeer, value: int) -> None:
        """A request of a type that is none is NOT_SUPPORTED."""
        _enter(peer)
        known = value == GET_SIZE
        expect(peer, (SUCCESS,) if known else (NOT_SUPPORTED,), value, 1, 2, 3)


def _message(
    name: str,
    rule: str,
    summary: str,
    field: Field,
    statuses: Sequence[int],
    play: Callable[[FrontendPeer, int], tuple[int, ...]],
    hint: str,
) -> None:
    """A check of one message: ``play(peer, value)`` returns its type and data; with the hostile
    value its answer has one of ``statuses``, with the control value SUCCESS."""

    def message(peer: FrontendPeer, value: int) -> None:
        _enter(peer)
        expect(peer, (SUCCESS,), ALGORITHM, TOEPLITZ)
        kind, *data = play(peer, value)
        expect(peer, statuses if value == field.hostile else (SUCCESS,), kind, *data)

    message.__doc__ = summary
    check(
        id=f"netback.ctrl.{name}",
        rule=rule,
        side=Side.NETBACK,
        needs=_NEEDS,
        connect=False,
        field=field,
        accepts=frozenset({Outcome.REFUSED}),
        hint=hint,
    )(message)


_REFUSED = (INVALID, OVERFLOW)

for _value in (2, 0xFF, 0xFFFFFFFF):
    _message(
        f"algorithm-{_value:#x}",
        "netif.ctrl.hash-algorithm",
        "A hash algorithm that is none is refused.",
        Field("algorithm", _value, TOEPLITZ),
        (INVALID, NOT_SUPPORTED),
        lambda peer, value: (ALGORITHM, value),
        "answer INVALID_PARAMETER",
    )
for _value in (0x10, 0x80000000, 0xFFFFFFFF):
    _message(
        f"flags-{_value:#x}",
        "netif.ctrl.hash-flags",
        "Hash types that are none are refused.",
        Field("types", _value, XEN_NETIF_CTRL_HASH_TYPE_IPV4),
        (INVALID,),
        lambda peer, value: (SET_FLAGS, value),
        "answer INVALID_PARAMETER if a bit is not supported",
    )
for _value in (4097, 65536, 0x80000000, 0xFFFFFFFF):
    _message(
        f"key-size-{_value:#x}",
        "netif.ctrl.hash-key",
        "A key that is larger than its page is refused.",
        Field("size of the key", _value, 40),
        _REFUSED,
        lambda peer, value: (SET_KEY, _page(peer, _KEY), value),
        "compare the size before anything is copied",
    )
for _value in (0x10000, 0x80000000, 0xFFFFFFFF):
    _message(
        f"mapping-size-{_value:#x}",
        "netif.ctrl.mapping-size",
        "A mapping table that is larger than the backend's is refused.",
        Field("entries", _value, 16),
        _REFUSED,
        lambda peer, value: (SET_SIZE, value),
        "compare with what GET_HASH_MAPPING_SIZE says",
    )
for _name, _bad in (("unused", "unused"), ("foreign", "foreign"), ("all-ones", "all-ones")):
    _message(
        f"key-gref-{_name}",
        "netif.ctrl.key-grant",
        "A key in a page that cannot be read is refused.",
        Field("reference", _bad, "granted"),
        (INVALID,),
        lambda peer, value: (SET_KEY, GREFS[str(value)](peer, _KEY), 40),
        "look at the status of the copy before the key is used",
    )


def _with_size(peer: FrontendPeer, entries: int) -> None:
    expect(peer, (SUCCESS,), SET_SIZE, entries)


def _mapping(
    peer: FrontendPeer, entries: Sequence[int], count: int, offset: int
) -> tuple[int, ...]:
    _with_size(peer, 64)
    return SET_MAPPING, _page(peer, _table(entries)), count, offset


for _name, _what, _field, _play in (
    (
        "offset-wraps",
        "Offset and count that are small only in 32 bits",
        Field("offset", 0xFFFFFFFF, 0),
        lambda peer, value: _mapping(peer, [0] * 8, 8, value),
    ),
    (
        "offset",
        "An offset behind the table",
        Field("offset", 64, 56),
        lambda peer, value: _mapping(peer, [0] * 8, 8, value),
    ),
    (
        "offset-by-one",
        "An offset that leaves one entry too few",
        Field("offset", 57, 56),
        lambda peer, value: _mapping(peer, [0] * 8, 8, value),
    ),
    (
        "count",
        "More entries than the table has",
        Field("count", 65, 64),
        lambda peer, value: _mapping(peer, [0] * 65, value, 0),
    ),
    (
        "count-of-a-page",
        "More entries than a page has",
        Field("count", 1025, 8),
        lambda peer, value: _mapping(peer, [0] * 64, value, 0),
    ),
    (
        "count-wraps",
        "A count whose bytes are few only in 32 bits",
        Field("count", 0x40000001, 8),
        lambda peer, value: _mapping(peer, [0] * 64, value, 0),
    ),
    (
        "queue",
        "An entry that is no queue",
        Field("entry", 1, 0),
        lambda peer, value: _mapping(peer, [0, 0, value, 0], 4, 0),
    ),
    (
        "queue-max",
        "An entry of 2^32 - 1",
        Field("entry", 0xFFFFFFFF, 0),
        lambda peer, value: _mapping(peer, [0, 0, value, 0], 4, 0),
    ),
):
    _message(
        f"mapping-{_name}",
        "netif.ctrl.mapping",
        f"{_what}: the mapping is refused.",
        _field,
        _REFUSED,
        _play,
        "judge offset + count in more than 32 bits, and entries in your copy (XSA-270)",
    )


@check(
    id="netback.ctrl.needs-algorithm",
    rule="netif.ctrl.hash-flags",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    accepts=GOES_ON,
    hint="without an algorithm neither succeeds",
)
def needs_algorithm(peer: FrontendPeer, _: object) -> None:
    """Types cannot be asked for or set before there is an algorithm, or after NONE."""
    _enter(peer)
    for _turn in range(2):
        expect(peer, (NOT_SUPPORTED, INVALID), GET_FLAGS)
        expect(peer, (NOT_SUPPORTED, INVALID), SET_FLAGS, XEN_NETIF_CTRL_HASH_TYPE_IPV4)
        expect(peer, (SUCCESS,), ALGORITHM, TOEPLITZ)
        expect(peer, (SUCCESS,), GET_FLAGS)
        expect(peer, (SUCCESS,), ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_NONE)


@check(
    id="netback.ctrl.settings",
    rule="netif.ctrl.hash-key",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="a key may be shorter than the longest, and empty",
)
def settings(peer: FrontendPeer, _: object) -> None:
    """What may be set can be set: types, keys of any length, sizes of the table down to 0."""
    _enter(peer)
    expect(peer, (SUCCESS,), ALGORITHM, TOEPLITZ)
    supported = expect(peer, (SUCCESS,), GET_FLAGS).data
    expect(peer, (SUCCESS,), SET_FLAGS, supported)
    expect(peer, (SUCCESS,), SET_FLAGS, 0)
    for size in (40, 16, 1, 0):
        expect(peer, (SUCCESS,), SET_KEY, _page(peer, _KEY), size)
    largest = expect(peer, (SUCCESS,), GET_SIZE).data
    for entries in (largest, 1, 0):
        expect(peer, (SUCCESS,), SET_SIZE, entries)


@check(
    id="netback.ctrl.page-free-after-response",
    rule="netif.ctrl.key-grant",
    side=Side.NETBACK,
    needs=_NEEDS,
    connect=False,
    hint="copy, then answer",
)
def page_free(peer: FrontendPeer, _: object) -> None:
    """When a key is answered, its page is not in use any more."""
    _enter(peer)
    expect(peer, (SUCCESS,), ALGORITHM, TOEPLITZ)
    page = peer.page(_KEY, readonly=True)
    expect(peer, (SUCCESS,), SET_KEY, page.gref or 0, 40)
    if not peer.end(page):
        raise Violation("the page of a key is in use behind its response", ring="ctrl")


for _name, _kind in (
    ("get-size", XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE),
    ("add", XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING),
    ("delete", XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING),
):

    @check(
        id=f"netback.ctrl.gref-{_name}",
        rule="netif.ctrl.gref-mapping",
        side=Side.NETBACK,
        needs=_NEEDS,
        connect=False,
        field=Field("queue", 1000, 0),
        accepts=frozenset({Outcome.REFUSED}),
        control_accepts=GOES_ON,
        hint="NOT_SUPPORTED if there are no static grants; a queue that is none is "
        "INVALID_PARAMETER",
    )
    def static_grants(peer: FrontendPeer, value: int, kind: int = _kind) -> None:
        """A message about static grants of a queue that is none is refused."""
        _enter(peer)
        listed = peer.page(bytes(8))
        statuses = (NOT_SUPPORTED, INVALID) if value else _STATUSES
        expect(peer, statuses, kind, value, listed.gref or 0, 1)


# -- what comes of it ------------------------------------------------------------------------------


def _enter_hashing(peer: FrontendPeer, types: int, queues: int) -> None:
    """Connect with up to ``queues`` queues; packets of ``types`` are hashed."""
    _enter(peer, min(queues, int(peer.features().get("multi-queue-max-queues", "1"))))
    expect(peer, (SUCCESS,), ALGORITHM, TOEPLITZ)
    expect(peer, (SUCCESS,), SET_FLAGS, types)
    expect(peer, (SUCCESS,), SET_KEY, _page(peer, _KEY), len(_KEY))


def _came(peer: FrontendPeer, flow: Flow) -> tuple[int, bytes | None]:
    """The queue by which a packet of ``flow`` comes back, and its hash extra info."""
    for each in range(len(peer.queues)):
        post(peer, 3, each)
    peer.send(packet(200, flow))
    peer.push_tx()
    peer.settle()
    peer.responses()
    for each in range(len(peer.queues)):
        for came in receive(peer, each):
            return each, came.extras.get(XEN_NETIF_EXTRA_TYPE_HASH)
    raise Violation("a packet does not come back", ring="rx")


def _covered(flow: Flow, *, ports: bool) -> bytes:
    return flow.addresses + (flow.ports if ports else b"")


for _version in (IPV4, IPV6):
    for _ports in (False, True):

        @check(
            id=f"netback.ctrl.hash-ipv{_version}{'-tcp' if _ports else ''}",
            rule="netif.ctrl.toeplitz",
            side=Side.NETBACK,
            needs=_QUEUES,
            queues=2,
            connect=False,
            probe=False,
            hint="the key and the data are bit strings, most significant bit first; the value in "
            "the extra info is little-endian",
        )
        def hashed(
            peer: FrontendPeer, _: object, version: int = _version, ports: bool = _ports
        ) -> None:
            """The hash of a packet, its type and its algorithm are in its extra info."""
            _enter_hashing(peer, _TYPES[version, ports], 2)
            for number in range(4):
                flow = Flow(version, TCP, 1000 + 77 * number)
                _queue, extra = _came(peer, flow)
                if extra is None:
                    continue  # nobody has to send it
                value = int.from_bytes(extra[2:6], "little")
                if value != toeplitz(_KEY, _covered(flow, ports=ports)) or extra[1] != TOEPLITZ:
                    raise Violation(
                        f"the hash is {value:#010x}, its algorithm {extra[1]}", ring="rx", raw=extra
                    )
                if 1 << extra[0] != _TYPES[version, ports]:
                    raise Violation(f"the type of the hash is {extra[0]}", ring="rx", raw=extra)


def _steered(
    peer: FrontendPeer, flows: Sequence[Flow], table: Sequence[int], *, ports: bool
) -> None:
    queues = len(peer.queues)
    for flow in flows:
        value = toeplitz(_KEY, _covered(flow, ports=ports and flow.protocol == TCP))
        wanted = table[value % len(table)] if table else value % queues
        queue, _extra = _came(peer, flow)
        if queue != wanted:
            raise Violation(
                f"a packet with hash {value:#010x} came by queue {queue}, not {wanted}", ring="rx"
            )


_FLOWS = [Flow(IPV4, TCP, 1000 + 131 * number, 80 + number) for number in range(12)]

for _name, _entries in (("modulo", 0), ("table", 5), ("table-of-one", 1)):

    @check(
        id=f"netback.ctrl.steering-{_name}",
        rule="netif.ctrl.steering",
        side=Side.NETBACK,
        needs=_QUEUES,
        queues=4,
        connect=False,
        probe=False,
        hint="queue = mapping[hash % size], or hash % queues without a table",
    )
    def steering(peer: FrontendPeer, _: object, entries: int = _entries) -> None:
        """A packet goes to the queue that its hash says."""
        _enter_hashing(peer, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP, 4)
        table = [(3 * number + 1) % len(peer.queues) for number in range(entries)]
        if table:
            _with_size(peer, entries)
            expect(peer, (SUCCESS,), SET_MAPPING, _page(peer, _table(table)), entries, 0)
        _steered(peer, _FLOWS, table, ports=True)


@check(
    id="netback.ctrl.mapping-in-parts",
    rule="netif.ctrl.mapping",
    side=Side.NETBACK,
    needs=_QUEUES,
    queues=2,
    accepts=GOES_ON,
    connect=False,
    probe=False,
    hint="a part of the table leaves the rest as it is; a refused one changes nothing",
)
def in_parts(peer: FrontendPeer, _: object) -> None:
    """A table that is set in parts, with a wrong part between them."""
    _enter_hashing(peer, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP, 2)
    _with_size(peer, 8)
    table = [1, 1, 0, 1, 0, 0, 1, 0]
    for offset in (4, 0):
        part = _table(table[offset : offset + 4])
        expect(peer, (SUCCESS,), SET_MAPPING, _page(peer, part), 4, offset)
        expect(peer, _REFUSED, SET_MAPPING, _page(peer, _table([0, 9, 0, 0])), 4, offset)
    _steered(peer, _FLOWS, table, ports=True)


@check(
    id="netback.ctrl.new-table-is-zero",
    rule="netif.ctrl.mapping-size",
    side=Side.NETBACK,
    needs=_QUEUES,
    queues=2,
    connect=False,
    probe=False,
    hint="SET_HASH_MAPPING_SIZE makes a table of zeros",
)
def new_table(peer: FrontendPeer, _: object) -> None:
    """A table whose size is set anew has queue 0 everywhere."""
    _enter_hashing(peer, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP, 2)
    for entries in (4, 4):
        _with_size(peer, entries)
        _steered(peer, _FLOWS[:4], [0] * entries, ports=True)
        expect(peer, (SUCCESS,), SET_MAPPING, _page(peer, _table([1] * 4)), 4, 0)
        _steered(peer, _FLOWS[:2], [1] * 4, ports=True)


@check(
    id="netback.ctrl.maximal-type",
    rule="netif.ctrl.maximal-type",
    side=Side.NETBACK,
    needs=_QUEUES,
    queues=4,
    connect=False,
    probe=False,
    hint="TCP packets by ports and addresses, others by addresses",
)
def maximal_type(peer: FrontendPeer, _: object) -> None:
    """With both types of IPv4 a TCP packet is hashed with its ports, a UDP packet without."""
    _enter_hashing(peer, XEN_NETIF_CTRL_HASH_TYPE_IPV4 | XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP, 4)
    udp = [Flow(IPV4, UDP, 1000 + number, 53) for number in range(3)]
    _steered(peer, [*_FLOWS[:4], *udp], [], ports=True)


@check(
    id="netback.ctrl.empty-key",
    rule="netif.ctrl.hash-key",
    side=Side.NETBACK,
    needs=_QUEUES,
    queues=4,
    connect=False,
    probe=False,
    hint="a new key replaces all of the old one; what it does not give is zero",
)
def empty_key(peer: FrontendPeer, _: object) -> None:
    """With an empty key every hash is 0: all packets come by queue 0."""
    _enter_hashing(peer, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP, 4)
    expect(peer, (SUCCESS,), SET_KEY, _page(peer, _KEY), 0)
    for flow in _FLOWS[:4]:
        queue, _extra = _came(peer, flow)
        if queue:
            raise Violation(f"a packet with hash 0 came by queue {queue}", ring="rx")


@check(
    id="netback.ctrl.refused-changes-nothing",
    rule="netif.ctrl.hash-key",
    side=Side.NETBACK,
    needs=_QUEUES,
    queues=4,
    accepts=GOES_ON,
    connect=False,
    probe=False,
    hint="judge first, then change",
)
def refused_changes_nothing(peer: FrontendPeer, _: object) -> None:
    """Messages that are refused leave algorithm, types, key and table as they were."""
    _enter_hashing(peer, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP, 4)
    expect(peer, _REFUSED, SET_KEY, _page(peer, bytes(40)), 0xFFFF)
    expect(peer, _REFUSED, SET_KEY, GREFS["unused"](peer, b""), 40)
    expect(peer, _REFUSED, SET_SIZE, 0xFFFFFFFF)
    expect(peer, (INVALID,), SET_FLAGS, 0x80)
    expect(peer, (INVALID, NOT_SUPPORTED), ALGORITHM, 77)
    _steered(peer, _FLOWS[:6], [], ports=True)
