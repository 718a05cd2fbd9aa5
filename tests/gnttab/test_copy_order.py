"""Xen's order of checks in GNTTABOP_copy, as a table: what is wrong, and which status wins.

Each row spoils an element in two ways at once. The order (gnttab_copy_one in Xen): length 0;
the domain of the source, of the destination; the claim of the source, of the destination; the two
ranges against their pages; against the granted parts.
"""

from __future__ import annotations

import pytest
from gnttab_world import Own, Ref, World, element

# Sources and destinations by what is wrong with them; "gref" and "frame" are good ones.
ROWS = [
    # source, destination, which range leaves what -> status
    ("not self", "no domain", "", "permission_denied"),
    ("no domain", "not self", "", "bad_domain"),
    ("not self", "beyond table", "", "permission_denied"),
    ("no domain", "beyond table", "", "bad_domain"),
    ("beyond table", "not self", "", "permission_denied"),
    ("beyond table", "no domain", "", "bad_domain"),
    ("another's grant", "no domain", "", "bad_domain"),
    ("another's page", "no domain", "", "bad_domain"),
    ("foreign frame", "no domain", "", "bad_domain"),
    ("foreign frame", "not self", "", "permission_denied"),
    ("beyond table", "another's grant", "", "bad_gntref"),
    ("another's grant", "beyond table", "", "general_error"),
    ("another's page", "beyond table", "", "bad_page"),
    ("another's page", "readonly", "", "bad_page"),
    ("foreign frame", "readonly", "", "bad_page"),
    ("foreign frame", "beyond table", "", "bad_page"),
    ("another's grant", "foreign frame", "", "general_error"),
    ("beyond table", "foreign frame", "", "bad_gntref"),
    ("beyond table", "gref", "source leaves page", "bad_gntref"),
    ("another's page", "gref", "dest leaves page", "bad_page"),
    ("not self", "gref", "source leaves page", "permission_denied"),
    ("no domain", "frame", "source leaves page", "bad_domain"),
    ("gref", "beyond table", "source leaves page", "bad_gntref"),
    ("gref", "readonly", "source leaves page", "general_error"),
    ("gref", "another's page", "dest leaves page", "bad_page"),
    ("frame", "foreign frame", "dest leaves page", "bad_page"),
    ("gref", "no domain", "source leaves page", "bad_domain"),
    ("gref", "not self", "source leaves page", "permission_denied"),
    ("sub-page", "beyond table", "source leaves part", "bad_gntref"),
    ("sub-page", "another's page", "source leaves part", "bad_page"),
    ("sub-page", "gref", "source leaves page", "bad_copy_arg"),
    ("sub-page", "sub-page", "source leaves part, dest leaves page", "bad_copy_arg"),
    ("sub-page", "sub-page", "dest leaves part, source leaves page", "bad_copy_arg"),
    ("sub-page", "sub-page", "source leaves part, dest leaves part", "general_error"),
    ("gref", "sub-page", "dest leaves part", "general_error"),
    ("sub-page", "gref", "source leaves part", "general_error"),
    ("sub-page", "sub-page", "", "okay"),
    ("gref", "gref", "source leaves page, dest leaves page", "bad_copy_arg"),
    ("gref", "gref", "", "okay"),
    ("frame", "gref", "", "okay"),
    ("gref", "frame", "", "okay"),
]

#: Offsets that leave the page, or the part (bytes 100..199) of a sub-page grant; else 100 is good.
OFFSETS = {"leaves page": 4095, "leaves part": 195}
LENGTH = 10


def end(world: World, domid: int, kind: str, offset: int) -> Ref | Own:
    """One end of an element that domain 0 issues; the granter is ``domid``."""
    table, page = world.table[domid], world.page[domid]
    match kind:
        case "gref":
            return Ref(domid, table.grant_access(0, page), offset)
        case "sub-page":
            return Ref(domid, table.grant_sub_page(0, page, 100, 100), offset)
        case "frame":
            return Own(world.page[0], offset)
        case "not self":
            return Own(world.page[0], offset, domid=domid)
        case "no domain":
            return Ref(9, 8, offset)
        case "beyond table":
            return Ref(domid, 10**6, offset)
        case "another's grant":
            return Ref(domid, table.grant_access(3 - domid, page), offset)
        case "another's page":
            return Ref(domid, table.grant_access(0, world.page[3 - domid]), offset)
        case "readonly":
            return Ref(domid, table.grant_access(0, page, readonly=True), offset)
        case "foreign frame":
            return Own(world.page[3 - domid], offset)
    raise AssertionError(kind)


def offset_of(which: str, ranges: str) -> int:
    for part, offset in OFFSETS.items():
        if f"{which} {part}" in ranges:
            return offset
    return 100


@pytest.mark.parametrize(("source", "dest", "ranges", "status"), ROWS)
def test_the_first_failing_check_decides(source: str, dest: str, ranges: str, status: str) -> None:
    versions = [(2, 2, 2)] if "sub-page" in (source, dest) else [(1, 1, 1), (2, 2, 2)]
    for version in versions:
        world = World(version)
        op = element(
            end(world, 1, source, offset_of("source", ranges)),
            end(world, 2, dest, offset_of("dest", ranges)),
            LENGTH,
        )
        untouched = [world.bytes_of(world.page[domid]) for domid in range(3)]
        assert world.copy(0, op) == [status]
        if status != "okay":
            assert [world.bytes_of(world.page[domid]) for domid in range(3)] == untouched
        assert [world.pins(domid) for domid in range(3)] == [{}, {}, {}]


@pytest.mark.parametrize(("source", "dest", "ranges", "status"), ROWS)
def test_length_zero_wins_over_everything(source: str, dest: str, ranges: str, status: str) -> None:
    world = World((2, 2, 2))
    ends = [
        end(world, domid, kind, offset_of(which, ranges))
        for domid, kind, which in ((1, source, "source"), (2, dest, "dest"))
    ]
    assert world.copy(0, element(*ends, 0)) == ["okay"]
