"""Records of all kinds: slots of test vectors, of rings of real hosts and of the fuzzer's inputs,
grants, messages of a real XenStore session and damaged ones."""

from __future__ import annotations

import json
import random
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

from xennet.abi import grant_table
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.check.vectors import rx_vectors, tx_vectors
from xennet.fuzz import ring_mutations
from xennet.trace import records
from xennet.trace.records import Kind, Role

DATA = Path(__file__).parents[1] / "data"
_SLOT = {
    ring_mutations.TX_REQUESTS: Kind.TX_REQUEST,
    ring_mutations.RX_REQUESTS: Kind.RX_REQUEST,
    ring_mutations.TX_RESPONSES: Kind.TX_RESPONSE,
    ring_mutations.RX_RESPONSES: Kind.RX_RESPONSE,
    ring_mutations.CTRL_REQUESTS: Kind.CTRL_REQUEST,
    ring_mutations.GRANT_COPIES: Kind.GRANT_COPY,
}
_ROLES = (Role.NONE, Role.FIRST_SLOT, Role.LATER_SLOT)


def size_of(kind: Kind) -> int:
    """Bytes of the structure of a kind."""
    structure = records.STRUCTURES[kind]
    return structure.codec(structure.otherwise).size


def _slot(kind: Kind, slot: bytes, number: int) -> bytes:
    role = _ROLES[number % len(_ROLES)] if kind in (Kind.TX_REQUEST, Kind.RX_RESPONSE) else 0
    return records.encode(kind, slot[: size_of(kind)], index=number, sequence=number, role=role)


def of_vectors() -> Iterator[bytes]:
    """Slots and headers of the test vectors' pages; each slot as an extra info too."""
    cases = [(Kind.TX_REQUEST, tx_vectors.ring_page(c), c.slots) for c in tx_vectors.cases()]
    cases += [(Kind.RX_RESPONSE, rx_vectors.ring_page(c), c.slots) for c in rx_vectors.cases()]
    for kind, page, slots in cases:
        yield records.encode(Kind.RING_HEADER, page[:SRING_HEADER_SIZE])
        for number, slot in enumerate(slots):
            yield _slot(kind, slot, number)
            yield _slot(Kind.EXTRA_INFO, slot, number)


def of_real_rings() -> Iterator[bytes]:
    """All slots of recorded ring pages, leftovers included, as each thing that they can be."""
    for path in sorted(DATA.glob("rings/**/*.bin")):
        page = path.read_bytes()
        tx = path.suffixes[-2] == ".tx"
        kinds = (Kind.TX_REQUEST, Kind.TX_RESPONSE) if tx else (Kind.RX_REQUEST, Kind.RX_RESPONSE)
        size = 12 if tx else 8
        yield records.encode(Kind.RING_HEADER, page[:SRING_HEADER_SIZE])
        for number in range(256):
            at = SRING_HEADER_SIZE + number * size
            for kind in (*kinds, Kind.EXTRA_INFO):
                yield _slot(kind, page[at : at + size], number)


def of_the_fuzzer(rng: random.Random, pages: int) -> Iterator[bytes]:
    """Slots of pages that the fuzzer's mutations make from one good slot, of each kind of ring."""
    for _ in range(pages):
        for ring, kind in _SLOT.items():
            page = array("I", bytes(4 * ring_mutations.RECORD))
            words = array("I", (rng.randrange(1, 1 << 32) for _ in range(4)))
            ring_mutations.put_good(words, page, ring, 0)
            ring_mutations.produce(page, ring, 1)
            others, operands = array("I", page), array("q", [60, 4242, 0, 0])
            for _ in range(rng.randrange(30)):
                ring_mutations.mutate(words, (words, page, others, 0, operands, ring))
            yield records.encode(Kind.RING_HEADER, page[: SRING_HEADER_SIZE // 4].tobytes())
            for slot in range(min(ring_mutations.used(page, ring), 20)):
                at = ring_mutations.place(page, ring, slot)
                yield _slot(kind, page[at : at + ring_mutations.STRIDES[ring]].tobytes(), slot)


def of_grants(rng: random.Random, count: int) -> Iterator[bytes]:
    """Entries of both versions and all types, copies, events."""
    for number in range(count):
        flags = rng.choice(
            (
                grant_table.GTF_permit_access,
                grant_table.GTF_permit_access | grant_table.GTF_sub_page,
                grant_table.GTF_permit_access | grant_table.GTF_reading,
                grant_table.GTF_accept_transfer,
                grant_table.GTF_transitive,
                rng.getrandbits(16),
            )
        )
        for kind in (Kind.GRANT_ENTRY_V1, Kind.GRANT_ENTRY_V2):
            entry = struct.pack("<H", flags) + rng.randbytes(size_of(kind) - 2)
            yield records.encode(kind, entry, index=number, domid=1)
        yield records.encode(Kind.GRANT_COPY, rng.randbytes(size_of(Kind.GRANT_COPY)))
        yield records.encode(Kind.EVENT_SEND, rng.randbytes(size_of(Kind.EVENT_SEND)))


def of_a_real_store() -> Iterator[bytes]:
    """Requests and answers of a recorded session with the C xenstored."""
    session = json.loads((DATA / "xenstored" / "wire.json").read_text())
    steps = [step for step in session["steps"] if "request" in step]
    for number, step in enumerate(steps):
        index = ord(step["conn"][0])
        yield records.encode(
            Kind.XENSTORE, bytes.fromhex(step["request"]), index=index, role=Role.TO_STORE
        )
        for _, answer in step["replies"]:
            if answer == "closed":
                continue
            yield records.encode(
                Kind.XENSTORE,
                bytes.fromhex(answer.removesuffix("..")),
                index=index,
                sequence=number,
                role=Role.FROM_STORE,
            )


def of_odd_messages(rng: random.Random, count: int) -> Iterator[bytes]:
    """Messages of all types with whatever payload, cut short, or longer than may be."""
    for number in range(count):
        pieces = [rng.choice((b"/a", b"", b"\\", b"x\xff\n", b"1", b"n0", rng.randbytes(5)))]
        pieces += [rng.choice((b"", b"T", b"/local/domain/1")) for _ in range(rng.randrange(4))]
        payload = b"\0".join(pieces) + rng.choice((b"", b"\0"))
        length = rng.choice((len(payload),) * 6 + (len(payload) + 3, 4096, 4097, 1 << 31))
        head = struct.pack("<4I", number % 30, rng.randrange(4), rng.getrandbits(32), length)
        role = rng.choice((Role.NONE, Role.TO_STORE, Role.FROM_STORE))
        yield records.encode(Kind.XENSTORE, head + payload, index=rng.randrange(3), role=role)


def of_any_bytes(rng: random.Random, count: int) -> Iterator[bytes]:
    """Records of all kinds, also of none that there is, and of another version."""
    for number in range(count):
        kind = rng.choice(list(Kind))
        body = rng.randbytes(size_of(kind)) if kind in records.STRUCTURES else b""
        record = records.encode(
            kind,
            body,
            domid=rng.getrandbits(16),
            sequence=rng.getrandbits(64),
            cause=rng.getrandbits(64),
            delivery=rng.getrandbits(32),
            index=rng.getrandbits(32),
            role=rng.getrandbits(8),
            rule=rng.choice(("", "", "F5", "B8")),
            text=rng.choice(("", "offset + size reach beyond \\x41 the page")),
        )
        if number % 50 == 0:
            record = bytes([record[0] + number % 2, rng.getrandbits(8)]) + record[2:]
        yield record


def cut(whole: list[bytes]) -> Iterator[bytes]:
    """Records at each length that is less than theirs."""
    for data in whole:
        for length in range(1, len(data)):
            yield data[:length]


def all_of_them(seed: int, size: int) -> list[bytes]:
    """All of the above; ``size`` 1 is about 10,000 records."""
    rng = random.Random(seed)
    found = [*of_vectors(), *of_real_rings(), *of_a_real_store()]
    found += of_the_fuzzer(rng, 20 * size)
    found += of_grants(rng, 150 * size)
    found += of_odd_messages(rng, 500 * size)
    found += of_any_bytes(rng, 500 * size)
    found += cut(rng.sample(found, 25 * size))
    return found
