"""What commands raise; the command line shows it on one line."""

from __future__ import annotations

import click


class BadInputError(click.ClickException):
    """What the user named is of no use (a socket where nobody answers ...): exit code 2, and no
    hint at the help, for the usage is right."""

    exit_code = 2
