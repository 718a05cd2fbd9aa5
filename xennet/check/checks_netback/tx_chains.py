"""Packets of several slots: sizes that have to add up, ends that have to be there, numbers of
slots."""

from __future__ import annotations

from xennet.check.check import Field
from xennet.check.checks_netback.grefs import GREFS
from xennet.check.checks_netback.rows import SURVIVES, Row, always, enter
from xennet.check.checks_netback.tx_packets import Data, M, chain, of

SG = frozenset({"sg"})
_SUM = "subtract the later sizes in more than 16 bits, and refuse what does not add up"

enter(
    Row(
        f"netback.chain.slots-{slots}",
        "netif.tx.slots-min" if slots > 2 else "netif.tx.more-data",
        f"A packet of {slots} slots is put together in the order of its slots.",
        always(chain(40, *[10 + n for n in range(slots - 1)])),
        needs=SG,
        hint="a backend takes 18 slots in a packet",
    )
    for slots in (2, 3, 5, 17, 18)
)

enter(
    [
        Row(
            "netback.chain.total-size",
            "netif.tx.total-size",
            "The first slot says the size of the whole packet, and holds what the later ones "
            "leave.",
            lambda _: [chain(1000, 2000, 96)],
            needs=SG,
            hint="the first slot's own size is its size field minus the sizes of the later slots",
        ),
        Row(
            "netback.chain.first-larger-than-a-page",
            "netif.tx.total-size",
            "The size of the first slot may be more than a page: what it holds itself is not.",
            lambda _: [chain(4096, 4096, 900)],
            needs=SG,
            hint="check offset + size of the first slot after the subtraction",
        ),
        Row(
            "netback.chain.largest",
            "netif.tx.max-size",
            "A packet of 65535 bytes in 16 slots is delivered whole.",
            lambda _: [chain(*[4096] * 15, 4095)],
            needs=SG,
            hint="16 bits of size are 65535 bytes; keep sums in more",
        ),
        Row(
            "netback.chain.small-first",
            "netif.tx.more-data",
            "A first slot of 14 bytes, the rest of the packet in the next one.",
            lambda _: [chain(14, 1400)],
            needs=SG,
            hint="the headers may be in any slot",
        ),
        Row(
            "netback.chain.header-in-pieces",
            "netif.tx.more-data",
            "Headers that are spread over many small slots are gathered before they are read "
            "(XSA-423, "
            "XSA-432).",
            lambda _: [chain(14, *[2] * 16), chain(14, *[7] * 17)],
            needs=SG,
            hint="gather what is parsed; many slots of few bytes overrun no table",
        ),
        Row(
            "netback.chain.offsets",
            "netif.tx.more-data",
            "Each slot has its own offset, up to the last byte of its page.",
            lambda _: [
                of(
                    Data(300, M, 4096 - 100),
                    Data(100, M, 3996),
                    Data(100, 0, 5),
                )
            ],
            needs=SG,
            hint="every slot has an offset of its own",
        ),
        Row(
            "netback.chain.many-packets",
            "netif.tx.more-data",
            "Chains one behind the other, 13 of 19 slots in one push, do not run into each other.",
            lambda _: [chain(100, *[1] * 17, number=n) for n in range(14)],
            needs=SG,
            hint="tables of a pass are for all packets of a ring, or are emptied between packets",
        ),
        Row(
            "netback.chain.single-behind-chain",
            "netif.tx.more-data",
            "A packet of one slot behind a chain is a packet of its own.",
            lambda _: [chain(60, 40), chain(61), chain(62, 42), chain(63)],
            needs=SG,
            hint="a slot without more_data ends its packet",
        ),
    ]
)

enter(
    Row(
        f"netback.chain.later-larger-{name}",
        "netif.tx.sizes-add-up",
        f"{what}: the packet is refused, and nothing of it delivered.",
        packets,
        field,
        needs=SG,
        hint=_SUM,
    )
    for name, what, packets, field in (
        (
            "by-100",
            "A later slot of 200 bytes in a packet of 100",
            lambda value: [of(Data(100, M), Data(value))],
            Field("size of the second slot", 200, 40),
        ),
        (
            "by-one",
            "Later slots that leave less than nothing for the first",
            lambda value: [of(Data(100, M), Data(50, M), Data(value))],
            Field("size of the third slot", 51, 36),
        ),
        (
            "all",
            "Later slots that leave nothing for the first",
            lambda value: [of(Data(100, M), Data(value))],
            Field("size of the second slot", 100, 86),
        ),
        (
            "all-but-a-header",
            "Later slots that leave 13 bytes for the first",
            lambda value: [of(Data(100, M), Data(value))],
            Field("size of the second slot", 87, 86),
        ),
        (
            "wide-slots",
            "Later slots of 65576 bytes, which are 40 in 16 bits, in a packet of 60",
            lambda value: [of(Data(60, M), Data(value[0], M), Data(value[1]))],
            Field("sizes of the later slots", (40000, 25576), (20, 20)),
        ),
        (
            "wraps",
            "Later slots of 65536 bytes, which are 0 in 16 bits, in a packet of 60",
            lambda value: [of(Data(60, M), *[Data(value, M)] * 15, Data(value))],
            Field("size of each later slot", 4096, 2),
        ),
        (
            "wraps-difference",
            "A packet that says 60 bytes with 65400 in its later slots, which leaves 196 in 16 "
            "bits",
            lambda value: [of(Data(value, M), *[Data(4096, M)] * 15, Data(3960))],
            Field("size of the first slot", 60, 65500),
        ),
        (
            "64k",
            "A packet of 65572 bytes, whose size says 36",
            lambda value: [of(Data(value, M), *[Data(4096, M)] * 14, Data(4096, M), Data(4032))],
            Field("size of the first slot", 36, 65514),
        ),
    )
)

enter(
    Row(
        f"netback.chain.page-end-{name}",
        "netif.tx.slot-in-page",
        f"{what} reaches beyond its page: nothing of the packet is delivered.",
        packets,
        field,
        needs=SG,
        hint="check offset + size of every slot, of the first one after the subtraction",
    )
    for name, what, packets, field in (
        (
            "second",
            "The second slot of a packet",
            lambda value: [of(Data(160, M), Data(100, 0, value))],
            Field("offset of the second slot", 4000, 3996),
        ),
        (
            "last",
            "The last slot of a packet of 18",
            lambda value: [of(Data(200, M), *[Data(10, M)] * 16, Data(10, 0, value))],
            Field("offset of the last slot", 4087, 4086),
        ),
        (
            "first",
            "What the first slot holds after the subtraction",
            lambda value: [of(Data(5000, M, value), Data(1000))],
            Field("offset of the first slot", 97, 96),
        ),
        (
            "later-of-40000",
            "A later slot of 40000 bytes",
            lambda value: [of(Data(value[0], M), Data(value[1]))],
            Field("sizes of both slots", (40060, 40000), (160, 100)),
        ),
    )
)

_TOO_MANY = "count slots before they go into a table; refuse the packet, or give the frontend up"
enter(
    Row(
        f"netback.chain.additional-{additional}",
        "netif.tx.slots-max",
        f"A packet with {additional} slots behind its first one: whole or not at all.",
        lambda value: [chain(60, *[1] * value), chain(61)],
        Field("additional slots", additional, 17),
        SURVIVES,
        needs=SG,
        hint=_TOO_MANY,
    )
    for additional in (18, 19, 20, 21, 22, 63, 64, 69, 128)
)

enter(
    [
        Row(
            "netback.chain.endless",
            "netif.tx.slots-max",
            "256 slots that all say more_data: the ring holds no end of the packet.",
            lambda value: (
                [of(*[Data(60, M)] * 256)]
                if value & M
                else [chain(60, number=n) for n in range(256)]
            ),
            Field("flags of every slot", M, 0),
            needs=SG,
            hint="a full ring without an end is an attack: answer it or give the vif up",
        ),
        Row(
            "netback.chain.half",
            "netif.tx.chain-ends",
            "more_data on the last slot there is: nothing of the packet is delivered.",
            lambda value: [chain(61), of(Data(60, value))],
            Field("flags of the last slot", M, 0),
            needs=SG,
            hint="do not read beyond req_prod: give the vif up, or wait for the rest with the "
            "right req_event",
        ),
        Row(
            "netback.chain.half-of-20",
            "netif.tx.chain-ends",
            "more_data on the last of 20 slots.",
            lambda value: [of(Data(100, M), *[Data(1, M)] * 15, Data(1, value))],
            Field("flags of the last slot", M, 0),
            needs=SG,
            hint="a packet without an end is no packet, however many slots it has",
        ),
    ]
)

enter(
    Row(
        f"netback.chain.empty-{name}",
        "netif.tx.empty-slot",
        f"{what}: it adds nothing, and is answered like any other (XSA-448).",
        packets,
        field,
        frozenset(SURVIVES),
        needs=SG,
        hint="a slot of size 0 is answered and skipped; nothing is mapped for it",
    )
    for name, what, packets, field in (
        (
            "last",
            "A last slot of no bytes",
            lambda value: [chain(60, 10, value), chain(61)],
            Field("size of the third slot", 0, 7),
        ),
        (
            "middle",
            "A slot of no bytes in the middle",
            lambda value: [chain(60, value, 10), chain(61)],
            Field("size of the second slot", 0, 7),
        ),
        (
            "all-later",
            "Seventeen later slots of no bytes",
            lambda value: [chain(100, *[value] * 17), chain(61)],
            Field("size of each later slot", 0, 1),
        ),
        (
            "first",
            "A first slot that holds nothing itself",
            lambda value: [of(Data(100, M), Data(value))],
            Field("size of the second slot", 100, 80),
        ),
        (
            "bad-gref",
            "A later slot of no bytes with a reference that grants nothing",
            lambda value: [of(Data(60, M), Data(0, M, gref=GREFS[value]), Data(20))],
            Field("reference of the second slot", "unused", "granted"),
        ),
    )
)
