"""A link joins two ports: what one gives, the other gets."""

from __future__ import annotations


class LinkError(Exception):
    """The link did not come up, or broke; one line that names the evidence."""


class LimitError(LinkError):
    """What was asked for is beyond a limit, which it names; nothing was begun. ``quota``: it is one
    of the store, which can be raised."""

    def __init__(self, text: str, *, quota: bool = False) -> None:
        super().__init__(text)
        self.quota = quota
