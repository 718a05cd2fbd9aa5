"""A whole number as an option or an argument of a command."""

from __future__ import annotations

import click


class WholeNumber(click.IntRange):
    """A whole number in a range. Help shows the value of such an option as N."""

    name = "whole number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        return "N" if isinstance(param, click.Option) else None
