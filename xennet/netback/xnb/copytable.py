"""xnb's gnttab_copy_table: a fixed array of grant copy operations that is used again and again."""

from __future__ import annotations

from xennet.netback.xnb.slots import COPY_BY_GREF, GnttabCopy

#: Elements in a table (GNTTAB_LEN in netback.c).
GNTTAB_LEN = 64


class GnttabCopyTable:
    """``GNTTAB_LEN`` byte-exact struct gnttab_copy, 40 bytes each.

    ``u8`` and ``u32`` view the same bytes; ``u32`` is what the copy hypercall takes. ``table[i]``
    is a pointer to element ``i``. Nothing ever clears an element: what an earlier packet left
    there is still there (defect B2 reads it).
    """

    __slots__ = ("u8", "u32")

    def __init__(self) -> None:
        self.u8 = memoryview(bytearray(GNTTAB_LEN * COPY_BY_GREF.size))
        self.u32 = self.u8.cast("I")

    def __len__(self) -> int:
        return GNTTAB_LEN

    def __getitem__(self, index: int) -> GnttabCopy:
        """Element ``index``; IndexError outside 0..GNTTAB_LEN-1 (in C: the next object's bytes)."""
        if not 0 <= index < GNTTAB_LEN:
            raise IndexError(f"element {index} of a table of {GNTTAB_LEN}")
        return GnttabCopy(self.u8, index * COPY_BY_GREF.size)
