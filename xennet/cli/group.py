"""Groups of commands, and their answer to a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

#: Characters that the first sentence of a command's help has at most.
_SENTENCE = 300


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` Did you mean 'run'?``, to put behind an error message; "" if no known name is similar.

    ``cutoff``: how similar names have to be, from 0 to 1 (difflib.get_close_matches).
    """
    from difflib import get_close_matches

    near = get_close_matches(word, known, cutoff=cutoff)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


class CommandGroup(click.Group):
    """A group that shows its help if it is called alone (unless it does something then), and
    similar names for an unknown command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not (args or self.invoke_without_command or ctx.resilient_parsing):
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, each with the whole first sentence of its help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._told(ctx)))

    def _told(self, ctx: click.Context) -> Iterator[tuple[str, str]]:
        for name in self.list_commands(ctx):
            if (command := self.get_command(ctx, name)) is not None:
                yield name, command.get_short_help_str(_SENTENCE)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            near = did_you_mean(name, self.list_commands(ctx))
            raise click.UsageError(f"No such command {name!r}.{near}", ctx)
        return super().resolve_command(ctx, args)
