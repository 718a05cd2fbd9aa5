"""What a hand-driven peer did and saw, for evidence and for comparing two runs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from attrs import frozen


def raw_words(raw: bytes) -> str:
    """The bytes of a slot as little-endian 32-bit words in hexadecimal, the last one padded."""
    padded = raw + bytes(-len(raw) % 4)
    return " ".join(padded[at : at + 4][::-1].hex() for at in range(0, len(padded), 4))


@frozen
class Note:
    """One thing that a peer did or saw.

    ``what``: "wrote" or "took" (a slot), "set" (an index), "sent" or "kept" (an event: one that a
    publication does not call for is kept), "granted", "ended", "mapped", "unmapped", "bound",
    "closed", "node" or "removed" (in the store), "read" or "filled" (a page of the other end);
    "move" (a named one begins), "step" (of a life), "could not" (a move or step that the peer lacks
    something for).
    ``where``: "queue 0 tx ring, index 5", "queue 0 tx ring, req_prod", a path, "gref 8", "port 3",
    the name of the move or step. ``raw``: the bytes of the slot, of the node, of the index in
    decimal, why it could not.
    """

    what: str
    where: str
    raw: bytes = b""

    @property
    def is_slot(self) -> bool:
        """Whether it is about a slot of a ring."""
        return self.what in ("wrote", "took")

    @property
    def value(self) -> str:
        """``raw`` in words of the ring for a slot, else as text; bytes that are not ASCII are
        escaped."""
        return raw_words(self.raw) if self.is_slot else self.raw.decode("ascii", "backslashreplace")

    def __str__(self) -> str:
        return f"{self.what} {self.where}" + (f": {self.value}" if self.raw else "")


def slot_diff(notes: Iterable[Note], others: Iterable[Note]) -> list[str]:
    """What two runs of one peer did that differs: slots written, indices and nodes set, events.

    Returns a line for each: what and where, then its value in either run, "-" where there is none.
    What is done several times at one place is compared in its order.
    """
    first, second = _done(notes), _done(others)
    lines = []
    for place in {**first, **second}:
        pairs = zip_longest(first.get(place, ()), second.get(place, ()), fillvalue="-")
        lines += [f"{place}: {one} | {other}" for one, other in pairs if one != other]
    return lines


def _done(notes: Iterable[Note]) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {}
    for note in notes:
        if note.what in ("wrote", "set", "node", "removed", "sent"):
            done.setdefault(f"{note.what} {note.where}", []).append(note.value)
    return done
