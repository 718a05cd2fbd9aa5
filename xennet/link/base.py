"""A link joins two ports: what one gives, the other gets."""

from __future__ import annotations

from typing import Protocol


class Link(Protocol):
    """One way for frames to get from one port to another and back.

    The ports are given when the link is made. All calls return at once or when nothing is left to
    do; none waits for the outside.
    """

    def open(self) -> None:
        """Bring the link up; LinkError says why it cannot."""
        ...

    def carry(self) -> None:
        """Move frames in both directions until neither port has anything more to give."""
        ...

    def close(self) -> None:
        """Take the link down in an orderly way. Idempotent."""
        ...


class LinkError(Exception):
    """The link did not come up, or broke; one line that names the evidence."""
