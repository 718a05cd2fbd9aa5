"""The generated dissector says in tshark what the decoder in Python says, field by field."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from captures import capture, columns, decoded, needs_tshark, require_same
from construct import Int32ul, Struct
from many_records import all_of_them, size_of

from xennet.abi import grant_table, netif, ring, xs_wire
from xennet.check.rule_book import rule_book
from xennet.trace import record_rules, records, store_arguments
from xennet.trace.dissector import dissector_text, write_dissector
from xennet.trace.record_decoder import CUT, UNKNOWN, decode
from xennet.trace.records import Kind, Role

#: How many times as many records as usual; the seed is another one then.
TIMES = int(os.environ.get("XENNET_WIRESHARK_TIMES", "1"))


@needs_tshark
def test_every_field_is_that_of_the_decoder(tmp_path: Path) -> None:
    packets = all_of_them(seed=TIMES, size=TIMES)
    assert len(packets) >= 10_000
    wanted = [decode(data) for data in packets]
    rules = {rule for values in wanted for rule in values.get("xennet.broken", ())}
    assert rules == {one.rule for one in record_rules.RULES}
    assert sum(CUT in values for values in wanted) > 1000
    assert sum(UNKNOWN in values for values in wanted) > 5
    capture(tmp_path / "all.pcapng", packets)
    require_same(decoded(tmp_path / "all.pcapng"), wanted)


def tx(size: int, flags: int = 0, offset: int = 0) -> bytes:
    return netif.TX_REQUEST.pack(8, offset, flags, 1, size)


def rx(status: int, flags: int = 0, offset: int = 0) -> bytes:
    return netif.RX_RESPONSE.pack(1, offset, flags, status)


def header(req_prod: int, rsp_prod: int) -> bytes:
    return struct.pack("<4I", req_prod, 1, rsp_prod, 1).ljust(ring.SRING_HEADER_SIZE, b"\0")


def extra(kind: int, size: int = 0, gso: int = 0, pad: int = 0, features: int = 0) -> bytes:
    return struct.pack("<BBHBBH", kind, 0, size, gso, pad, features)


def message(kind: int, length: int) -> bytes:
    return struct.pack("<4I", kind, 0, 0, length) + bytes(min(length, 40))


MORE, EXTRA = netif.NETTXF_more_data, netif.NETTXF_extra_info
FIRST, LATER = Role.FIRST_SLOT, Role.LATER_SLOT
IN_PAGE, EMPTY = "netif.tx.slot-in-page", "netif.front.tx.no-empty-slot"
SHORT, TX_FLAGS = "netif.tx.short-packet", "netif.front.tx.flags"

#: Kind, role, structure, and the rules that it breaks.
VERDICTS = [
    (Kind.RING_HEADER, 0, header(256, 0), ()),
    (Kind.RING_HEADER, 0, header(257, 0), ("ring.request-overflow",)),
    (Kind.RING_HEADER, 0, header(10, 0xFFFF_FFF0), ()),
    (Kind.RING_HEADER, 0, header(5, 6), ("ring.request-overflow",)),
    (Kind.TX_REQUEST, FIRST, tx(60), ()),
    (Kind.TX_REQUEST, FIRST, tx(4096), ()),
    (Kind.TX_REQUEST, 0, tx(14, offset=4082), ()),
    (Kind.TX_REQUEST, 0, tx(15, offset=4082), (IN_PAGE,)),
    (Kind.TX_REQUEST, FIRST, tx(0xFFFF, offset=0xFFFF), (IN_PAGE,)),
    (Kind.TX_REQUEST, FIRST, tx(9000, MORE), ()),  # the size of the whole packet
    (Kind.TX_REQUEST, FIRST, tx(9000, MORE, offset=4097), (IN_PAGE,)),
    (Kind.TX_REQUEST, LATER, tx(4097, MORE), (IN_PAGE,)),
    (Kind.TX_REQUEST, 0, tx(0), (EMPTY,)),
    (Kind.TX_REQUEST, FIRST, tx(0, EXTRA), ()),  # of a multicast address
    (Kind.TX_REQUEST, FIRST, tx(13), (SHORT,)),
    (Kind.TX_REQUEST, LATER, tx(13), ()),
    (Kind.TX_REQUEST, FIRST, tx(60, 0x10), (TX_FLAGS,)),
    (Kind.TX_REQUEST, FIRST, tx(60, 0x8003), (TX_FLAGS,)),
    (Kind.TX_REQUEST, LATER, tx(60, netif.NETTXF_csum_blank), (TX_FLAGS,)),
    (Kind.TX_RESPONSE, 0, struct.pack("<Hh", 1, netif.NETIF_RSP_OKAY), ()),
    (Kind.TX_RESPONSE, 0, struct.pack("<Hh", 1, netif.NETIF_RSP_NULL), ()),
    (Kind.TX_RESPONSE, 0, struct.pack("<Hh", 1, netif.NETIF_RSP_ERROR), ()),
    (Kind.TX_RESPONSE, 0, struct.pack("<Hh", 1, 2), ("netif.tx.status",)),
    (Kind.RX_REQUEST, 0, struct.pack("<HHI", 1, 0, 8), ()),
    (Kind.RX_REQUEST, 0, struct.pack("<HHI", 1, 7, 8), ("netif.front.rx.request-pad",)),
    (Kind.RX_RESPONSE, 0, rx(4096), ()),
    (Kind.RX_RESPONSE, 0, rx(4096, offset=1), ("netif.rx.status-size",)),
    (Kind.RX_RESPONSE, 0, rx(-1, offset=0xFFFF), ()),
    (Kind.RX_RESPONSE, 0, rx(60, netif.NETRXF_gso_prefix), ()),
    (Kind.RX_RESPONSE, 0, rx(60, 0x20), ("netif.rx.every-byte",)),
    (Kind.EXTRA_INFO, 0, extra(0), ("netif.tx.extra-type",)),
    (Kind.EXTRA_INFO, 0, extra(255), ("netif.tx.extra-type",)),
    (Kind.EXTRA_INFO, 0, extra(netif.XEN_NETIF_EXTRA_TYPE_HASH), ()),
    (Kind.EXTRA_INFO, 0, extra(netif.XEN_NETIF_EXTRA_TYPE_XDP), ()),
    (Kind.EXTRA_INFO, 0, extra(1, 1448, 1), ()),
    (Kind.EXTRA_INFO, 0, extra(1, 0, 2), ("netif.tx.gso-size",)),
    (Kind.EXTRA_INFO, 0, extra(1, 1448, 0), ("netif.tx.gso-type",)),
    (Kind.EXTRA_INFO, 0, extra(1, 1448, 3), ("netif.tx.gso-type",)),
    (Kind.EXTRA_INFO, 0, extra(1, 1448, 1, pad=1), ("netif.front.tx.gso-extra",)),
    (Kind.EXTRA_INFO, 0, extra(1, 1448, 1, features=256), ("netif.front.tx.gso-extra",)),
    (Kind.EXTRA_INFO, 0, extra(2, 0, 0, pad=9), ()),
    (Kind.CTRL_REQUEST, 0, struct.pack("<HH3I", 1, 10, 0, 0, 0), ()),
    (Kind.CTRL_REQUEST, 0, struct.pack("<HH3I", 1, 0, 0, 0, 0), ("netif.ctrl.unknown-type",)),
    (Kind.CTRL_REQUEST, 0, struct.pack("<HH3I", 1, 11, 0, 0, 0), ("netif.ctrl.unknown-type",)),
    (Kind.CTRL_RESPONSE, 0, struct.pack("<HHII", 1, 0, 3, 0), ()),
    (Kind.CTRL_RESPONSE, 0, struct.pack("<HHII", 1, 3, 4, 0), ("netif.front.ctrl.response",)),
    (Kind.CTRL_RESPONSE, 0, struct.pack("<HHII", 1, 99, 1, 0), ()),  # NOT_SUPPORTED
    (Kind.GRANT_ENTRY_V1, 0, struct.pack("<HHI", grant_table.GTF_permit_access, 0, 9), ()),
    (
        Kind.GRANT_ENTRY_V1,
        0,
        struct.pack("<HHI", grant_table.GTF_accept_transfer, 0, 9),
        ("grant.no-transfer",),
    ),
    (Kind.GRANT_ENTRY_V2, 0, struct.pack("<HH3I", grant_table.GTF_transitive, 0, 9, 0, 0), ()),
    (
        Kind.GRANT_ENTRY_V2,
        0,
        struct.pack("<HH3I", grant_table.GTF_accept_transfer | 0x100, 0, 9, 0, 0),
        ("grant.no-transfer",),
    ),
    (Kind.XENSTORE, Role.TO_STORE, message(xs_wire.XS_READ, 4096), ()),
    (Kind.XENSTORE, Role.TO_STORE, message(xs_wire.XS_READ, 4097), ("xs-wire.header",)),
]


def test_verdicts_are_those_of_the_rule_book() -> None:
    for kind, role, body, rules in VERDICTS:
        shown = decode(records.encode(kind, body, role=role))
        assert tuple(shown.get("xennet.broken", ())) == rules, (kind, body.hex())
    assert {rule for *_, rules in VERDICTS for rule in rules} == {
        one.rule for one in record_rules.RULES
    }
    assert {one.rule for one in record_rules.RULES} <= rule_book().keys()


@needs_tshark
def test_rules_that_are_broken_are_expert_items(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.pcapng"
    capture(path, [records.encode(kind, body, role=role) for kind, role, body, _ in VERDICTS])
    shown = columns(path, "", "xennet.broken", "_ws.expert.message", "_ws.expert.severity")
    assert [line[0] for line in shown] == [",".join(rules) for *_, rules in VERDICTS]
    for line, (*_, rules) in zip(shown, VERDICTS, strict=True):
        assert all(f"{rule}: " in line[1] for rule in rules)
        assert bool(rules) == ("6291456" in line[2])  # PI_WARN


@needs_tshark
def test_a_record_cut_at_any_length_is_no_error_of_lua(tmp_path: Path) -> None:
    rng = random.Random(2)
    kinds = [kind for kind in Kind if kind in records.STRUCTURES]
    whole = [
        records.encode(
            kind, rng.randbytes(size_of(kind)), rule="F5", text="why", role=Role.TO_STORE
        )
        for kind in kinds
    ]
    whole += [
        records.encode(
            Kind.XENSTORE, struct.pack("<4I", kind, 1, 0, 9) + b"/a\0/b/c\0\0", role=role
        )
        for kind in range(30)
        for role in (Role.TO_STORE, Role.FROM_STORE)
    ]
    pieces = [data[:length] for data in whole for length in range(1, len(data) + 1)]
    capture(tmp_path / "cut.pcapng", pieces)
    require_same(decoded(tmp_path / "cut.pcapng"), [decode(data) for data in pieces])


def test_a_record_that_is_cut_says_so_and_a_whole_one_does_not() -> None:
    for kind in records.STRUCTURES:
        body = bytes(size_of(kind))
        data = records.encode(kind, body, rule="F5", text="why")
        assert CUT not in decode(data)
        assert all(CUT in decode(data[:length]) for length in range(1, len(data)))


@needs_tshark
@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ("xennet.tx && xennet.tx.flags.more_data == 1", ["1"]),
        (
            'xennet.rule == "F5" && xennet.broken == "netif.tx.slot-in-page" && xennet.expert.rule',
            ["2"],
        ),
        ('xennet.xs && xennet.xs.string == "/local" && xennet.xs.path == "/local"', ["3"]),
    ],
)
def test_display_filters(tmp_path: Path, wanted: str, numbers: list[str]) -> None:
    read = struct.pack("<4I", 2, 7, 0, 7) + b"/local\0"
    packets = [
        records.encode(Kind.TX_REQUEST, tx(60, netif.NETTXF_more_data)),
        records.encode(Kind.TX_REQUEST, tx(200, offset=4000), rule="F5", text="beyond the page"),
        records.encode(Kind.XENSTORE, read, role=Role.TO_STORE),
    ]
    capture(tmp_path / "few.pcapng", packets)
    shown = columns(tmp_path / "few.pcapng", wanted, "frame.number")
    assert [line[0] for line in shown] == numbers


@needs_tshark
def test_an_answer_of_the_store_is_matched_with_its_request(tmp_path: Path) -> None:
    said = [  # connection, role, type, req_id; which one it answers, in the order of the capture
        (1, Role.TO_STORE, xs_wire.XS_READ, 0, None),
        (2, Role.TO_STORE, xs_wire.XS_READ, 0, None),
        (1, Role.TO_STORE, xs_wire.XS_WRITE, 0, None),  # the same req_id once more
        (1, Role.FROM_STORE, xs_wire.XS_WATCH_EVENT, 0, None),
        (1, Role.FROM_STORE, xs_wire.XS_READ, 0, 1),
        (1, Role.FROM_STORE, xs_wire.XS_ERROR, 0, 3),
        (1, Role.FROM_STORE, xs_wire.XS_ERROR, 0, None),  # answers nothing
        (2, Role.FROM_STORE, xs_wire.XS_READ, 5, None),
        (2, Role.FROM_STORE, xs_wire.XS_READ, 0, 2),
    ]
    path = tmp_path / "talk.pcapng"
    capture(
        path,
        [
            records.encode(
                Kind.XENSTORE, struct.pack("<4I", kind, ident, 0, 0), role=role, index=connection
            )
            for connection, role, kind, ident, _ in said
        ],
    )
    names = ("xennet.xs.response_in", "xennet.xs.response_to", "xennet.xs.latency")
    shown = columns(path, "", *names, passes=2)
    to = [answers for *_, answers in said]
    for number, (line, answers) in enumerate(zip(shown, to, strict=True), 1):
        assert line[0] == (str(to.index(number) + 1) if number in to else "")
        assert line[1] == ("" if answers is None else str(answers))
        late = "" if answers is None else f"0.{number - answers:09}"  # packets are a ns apart
        assert line[2] == late


def test_the_parts_of_a_payload_have_names() -> None:
    parts = store_arguments.parts
    assert list(parts(xs_wire.XS_WRITE, True, b"/a\0x\0y")) == [("path", b"/a"), ("value", b"x\0y")]
    assert list(parts(xs_wire.XS_DIRECTORY, False, b"a\0\0b\0")) == [("name", b"a"), ("name", b"b")]
    assert list(parts(xs_wire.XS_WATCH_EVENT, False, b"/a\0t\0")) == [
        ("path", b"/a"),
        ("token", b"t"),
    ]
    assert list(parts(xs_wire.XS_ERROR, False, b"ENOENT\0")) == [("error", b"ENOENT")]
    assert list(parts(xs_wire.XS_READ, True, b"/a")) == [("path", b"/a")]
    assert list(parts(99, True, b"a\0b\0")) == [("argument", b"a"), ("argument", b"b")]
    assert store_arguments.ARGUMENTS.keys() <= xs_wire.XS_NAMES.keys()


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
    assert path.read_text() == dissector_text()
    assert list(path.parent.iterdir()) == [path]
    written = path.stat()
    assert write_dissector() == path
    assert path.stat() == written  # it was there
    path.write_text("damaged")
    assert write_dissector() == path
    assert path.read_text() == dissector_text()
    # Another process has other hashes of texts, and says the same; another text has another name.
    script = "from xennet.trace.dissector import write_dissector; print(write_dissector())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert done.stdout == f"{path}\n"
    monkeypatch.setattr(netif, "NETTXF_urgent", 1 << 9, raising=False)
    assert write_dissector() != path


def test_the_rules_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wireshark.md").read_text()
    table = page.partition("| rule | broken by |")[2].partition("\n\n")[0]
    told = [rule for row in table.splitlines() for rule in re.findall("`([^`]+)`", row)]
    assert told == list(dict.fromkeys(one.rule for one in record_rules.RULES))
