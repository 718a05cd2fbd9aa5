"""What happens to the slots of a ring whose client breaks the contract."""

from __future__ import annotations

import pytest
from netmap_clients import opened

from xennet.netmap.device import Device

BUFFERS = 4098


@pytest.mark.parametrize("tx", [True, False])
@pytest.mark.parametrize(
    ("index", "length", "repaired"),
    [
        (0, 60, (0, 0)),
        (1, 60, (0, 0)),
        (2, 60, (2, 60)),
        (2, 2048, (2, 2048)),
        (2, 2049, (2, 0)),
        (BUFFERS - 1, 60, (BUFFERS - 1, 60)),
        (BUFFERS, 60, (0, 0)),
        (2**32 - 1, 60, (0, 0)),
    ],
)
def test_slots_are_repaired_after_a_refusal(
    tx: bool, index: int, length: int, repaired: tuple[int, int]
) -> None:
    client = opened(Device(), "vale0:a")
    assert client.region.bufs.layout.objtotal == BUFFERS
    client.set_slot(tx, 5, index, length, 6)
    client.write(tx, 8, 8)
    assert (client.txsync if tx else client.rxsync)() == 0
    assert client.slot(tx, 5) == (*repaired, 6)
    assert client.ring(tx).shown() == (0, 0, 7 if tx else 0)


def test_slots_are_as_they_were_without_one() -> None:
    client = opened(Device(), "vale0:a")
    client.set_slot(True, 5, 1, 60, 6)
    client.write(True, 3, 3)
    assert client.txsync() == 0
    assert client.slot(True, 5) == (1, 60, 6)
