"""The exceptions of commands; the command line shows them as one line."""

from __future__ import annotations

import click


class BadInputError(click.ClickException):
    """An argument is well formed and of no use (a socket that no server serves, say): exit code 2.

    The message has no hint at the help.
    """

    exit_code = 2
