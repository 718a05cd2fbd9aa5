"""The type of an option ``--choices``."""

from __future__ import annotations

import click

from xennet.cli.param_type import ParamType


class ChoicesType(ParamType[str]):
    """Choices as text (xennet.choices)."""

    name = "choices"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from xennet.choices import Choices, ChoicesError

        try:
            Choices.parse(value)
        except ChoicesError as error:
            self.fail(str(error), param, ctx)
        return value


CHOICES = ChoicesType()
