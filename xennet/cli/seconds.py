"""A time in seconds as an option of a command."""

from __future__ import annotations

import math

import click

from xennet.cli.param_type import ParamType

#: Seconds, about 11 days: the system calls that wait take 2^31 ms at most (poll(2), epoll_wait(2)).
MAX_SECONDS = 1e6


class Seconds(ParamType[float]):
    """Seconds from 0 (more than that if ``positive``) to MAX_SECONDS."""

    name = "seconds"

    def __init__(self, positive: bool = False) -> None:
        self.positive = positive

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        # Not a number is not in any range.
        if not 0 <= seconds <= MAX_SECONDS or (self.positive and not seconds):
            least = "0<x" if self.positive else "0<=x"
            self.fail(f"{value!r} is not in the range {least}<={MAX_SECONDS:.0f}", param, ctx)
        return seconds
