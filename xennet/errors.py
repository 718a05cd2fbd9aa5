"""Errors that a command shows as one line, each raised by the room that it is about; nothing is
imported to catch them."""

from __future__ import annotations


class EngineError(Exception):
    """The wanted engine is not there; the message says what to do."""


class PluginError(Exception):
    """An entry point cannot be used. The message is one line that names its distribution."""


class PortError(Exception):
    """A port specification, a file or a device cannot be used. The message is one line with the
    evidence."""


class LinkError(Exception):
    """A link did not come up, or broke. The message is one line that names the evidence."""


class LimitError(LinkError):
    """A request exceeds a limit, which the message names; nothing was begun.

    ``quota``: it is a quota of the store, which can be raised.
    """

    def __init__(self, text: str, *, quota: bool = False) -> None:
        super().__init__(text)
        self.quota = quota
