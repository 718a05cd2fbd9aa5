"""The errors of links and hosts."""

from __future__ import annotations


class LinkError(Exception):
    """A link did not come up, or broke. The message is one line that names the evidence."""


class LimitError(LinkError):
    """A request exceeds a limit, which the message names; nothing was begun.

    ``quota``: it is a quota of the store, which can be raised.
    """

    def __init__(self, text: str, *, quota: bool = False) -> None:
        super().__init__(text)
        self.quota = quota
