"""The command ``xennet``: thin commands over the library.

Exit codes: 0 the verdict is good, 1 it is bad, 2 bad input or usage, 70 an error of xennet's own
(EX_SOFTWARE; ``python -X dev -m xennet`` shows where), 130 interrupted. An error is one line on
stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from xennet.cli.info import info
from xennet.cli.lifecycle import lifecycle
from xennet.cli.run import Link, run
from xennet.cli.xenstored import xenstored
from xennet.cli.xs import xs
from xennet.engine import EngineError
from xennet.port.base import PortError
from xennet.report.printable import printable

EXIT_BAD_INPUT = 2
EXIT_SOFTWARE = 70
EXIT_INTERRUPTED = 130


@click.group(invoke_without_command=True)
@click.version_option(package_name="xennet", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    """The Xen paravirtual network, byte for byte, in an ordinary process."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


group.add_command(run)
group.add_command(info)
group.add_command(lifecycle)
group.add_command(xs)
group.add_command(xenstored)


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
