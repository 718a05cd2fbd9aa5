"""The checksum flags of both rings, which are not the same bits."""

from __future__ import annotations

import pytest

from xennet.abi.netif import (
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETTXF_csum_blank,
    NETTXF_data_validated,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.vif.flags import CSUM_BITS, FRAME_OF_RX, FRAME_OF_TX, RX_OF_FRAME, TX_OF_FRAME

TX = {CSUM_BLANK: NETTXF_csum_blank, DATA_VALIDATED: NETTXF_data_validated}
RX = {CSUM_BLANK: NETRXF_csum_blank, DATA_VALIDATED: NETRXF_data_validated}
FRAMES = (0, CSUM_BLANK, DATA_VALIDATED, CSUM_BLANK | DATA_VALIDATED)


def named(flags: int, names: dict[int, int]) -> int:
    return sum(bit for flag, bit in names.items() if flags & flag)


def test_bits_0_and_1_swap_their_meaning_between_the_rings() -> None:
    assert NETTXF_csum_blank == NETRXF_data_validated == 1 << 0
    assert NETTXF_data_validated == NETRXF_csum_blank == 1 << 1


@pytest.mark.parametrize("flags", FRAMES)
def test_both_ends_of_the_tx_ring_mean_the_same(flags: int) -> None:
    assert TX_OF_FRAME[flags] == named(flags, TX)
    assert FRAME_OF_TX[named(flags, TX)] == flags


@pytest.mark.parametrize("flags", FRAMES)
def test_a_response_is_read_by_the_names_of_its_ring(flags: int) -> None:
    assert FRAME_OF_RX[named(flags, RX)] == flags


@pytest.mark.parametrize("flags", FRAMES)
def test_a_response_with_a_blank_checksum_is_validated(flags: int) -> None:
    implied = flags | DATA_VALIDATED if flags & CSUM_BLANK else flags
    assert RX_OF_FRAME[flags] == named(implied, RX)


def test_the_bits_are_the_index_of_a_table() -> None:
    for table in (TX_OF_FRAME, FRAME_OF_TX, RX_OF_FRAME, FRAME_OF_RX):
        assert len(table) == CSUM_BITS + 1
