"""A link joins two ports: what one gives, the other gets."""

from __future__ import annotations

from typing import Protocol

#: The methods of a frame endpoint.
_CALLS = ("pull", "push", "negotiated")


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


class LimitError(LinkError):
    """What was asked for is beyond a limit, which it names; nothing was begun. ``quota``: it is one
    of the store, which can be raised."""

    def __init__(self, text: str, *, quota: bool = False) -> None:
        super().__init__(text)
        self.quota = quota


def require_endpoint(what: str, end: object) -> None:
    """TypeError, with the way out, unless ``end`` is a frame endpoint; ``what`` it was given as."""
    if isinstance(end, str):
        raise TypeError(f"{what}: {end!r} is a port's specification; open_port({end!r}) opens it")
    missing = [name for name in _CALLS if not callable(getattr(end, name, None))]
    if missing:
        raise TypeError(
            f"{what}: {end!r} is no port or other xennet.frames.FrameEndpoint, "
            f"it has no {', '.join(missing)}"
        )
