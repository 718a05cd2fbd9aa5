"""The command ``xennet``: thin commands over the library.

Exit codes: 0 the verdict is good, 1 it is bad, 2 bad input or usage, 70 an error of xennet's own
(EX_SOFTWARE; ``python -X dev -m xennet`` shows where), 130 interrupted. An error is one line on
stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

import click

from xennet.engine import EngineError
from xennet.port.base import PortError
from xennet.report.printable import printable

if TYPE_CHECKING:
    from xennet.cli.run import Link

EXIT_BAD_INPUT = 2
EXIT_SOFTWARE = 70
EXIT_INTERRUPTED = 130


#: The commands, each in a module of its own; only the one that is called is imported.
_COMMANDS = ("run", "info", "lifecycle", "xs", "xenstored")


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"xennet.cli.{cmd_name}")
        return cast(click.Command, getattr(module, cmd_name))


@click.group(cls=_Commands, invoke_without_command=True)
@click.version_option(package_name="xennet", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    """The Xen paravirtual network, byte for byte, in an ordinary process."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None, *, link: Link | None = None) -> int:
    """Run the command line ``args`` (default: the process's own); returns the exit code.

    ``link``: what carries the frames instead of the Xen vif.
    """
    try:
        code = group.main(args, prog_name="xennet", standalone_mode=False, obj=link)
    except click.ClickException as e:
        return _failed(e.format_message(), e.exit_code)
    except (PortError, EngineError) as e:
        return _failed(str(e), EXIT_BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        return _failed("interrupted", EXIT_INTERRUPTED)
    except Exception as e:
        if sys.flags.dev_mode:
            raise
        return _failed(f"internal error: {type(e).__name__}: {e}", EXIT_SOFTWARE)
    return code if isinstance(code, int) else 0


def _failed(message: str, code: int) -> int:
    click.echo(f"xennet: {printable(' '.join(message.splitlines()))}", err=True)
    return code
