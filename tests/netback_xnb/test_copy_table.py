"""The copy table and the pointers into it are the bytes of struct gnttab_copy."""

from __future__ import annotations

import pytest

from xennet.abi.grant_table import gnttab_copy
from xennet.netback.xnb import GNTTAB_LEN, GnttabCopyTable


def test_sixty_four_elements_of_forty_bytes():
    table = GnttabCopyTable()
    assert (len(table), GNTTAB_LEN, len(table.u8), len(table.u32)) == (64, 64, 2560, 640)


def test_every_field_is_where_the_structure_has_it():
    table = GnttabCopyTable()
    entry = table[3]
    entry.source_gmfn, entry.source_domid, entry.source_offset = 0x123456789A, 1, 2
    entry.dest_ref, entry.dest_domid, entry.dest_offset = 3, 4, 5
    entry.len, entry.flags, entry.status = 6, 2, -10
    parsed = gnttab_copy.parse(bytes(table.u8[120:160]))
    source, dest = parsed.source, parsed.dest
    assert (source.u.gmfn, source.domid, source.offset) == (0x123456789A, 1, 2)
    assert (dest.u.ref, dest.domid, dest.offset) == (3, 4, 5)
    assert (parsed.len, parsed.flags, parsed.status) == (6, 2, -10)
    assert bytes(table.u8[:120]) == bytes(120)


def test_a_gref_written_over_a_frame_number_leaves_the_high_half():
    entry = GnttabCopyTable()[0]
    entry.dest_gmfn = 0x5_0000_0007
    entry.dest_ref = 9
    assert entry.dest_gmfn == 0x5_0000_0009


def test_fields_truncate_like_c():
    entry = GnttabCopyTable()[0]
    entry.len = 0x1_0005
    entry.source_offset = -1
    assert (entry.len, entry.source_offset) == (5, 0xFFFF)


@pytest.mark.parametrize("index", [-1, 64])
def test_there_is_nothing_outside_the_table(index):
    with pytest.raises(IndexError, match=f"element {index} of a table of 64"):
        GnttabCopyTable()[index]
