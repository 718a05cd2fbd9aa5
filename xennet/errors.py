"""A link joins two ports: what one gives, the other gets."""

from __future__ import annotations

#: The methods of a frame endpoint.
_CALLS = ("pull", "push", "negotiated")


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
