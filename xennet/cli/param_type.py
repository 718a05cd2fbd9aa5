"""click's ParamType with the type of what it converts to, which older clicks do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click import ParamType as ParamType
else:

    class ParamType(click.ParamType):
        """A click.ParamType that takes a type argument, and does nothing with it."""

        def __class_getitem__(cls, _type):
            return cls
