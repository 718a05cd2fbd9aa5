"""Errors of the seam."""

from __future__ import annotations

from xennet.errors import LinkError


class ExecError(LinkError):
    """A program cannot be run in a domain. The message is one line that names the evidence."""
