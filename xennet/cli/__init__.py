"""The command ``xennet``: thin commands over the library.

Exit codes: 0 done, and the verdict is good; 1 the verdict is not good; 2 bad input or usage, or the
system refuses; 70 an error of xennet's own (EX_SOFTWARE; ``python -X dev -m xennet`` shows the
traceback); 130 interrupted, 143 terminated (128 and the signal's number). An error is one line on
stderr; behind an error of usage a second line names the help.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, cast

import click

from xennet import __version__
from xennet.cli.group import CommandGroup, did_you_mean
from xennet.cli.output import open_standard_streams
from xennet.cli.process_start import collect_garbage
from xennet.errors import EngineError, LinkError, PluginError, PortError
from xennet.run.printable import printable
from xennet.run.streams import discard, reader_has_left

if TYPE_CHECKING:
    from xennet.cli.run import Link

EXIT_BAD_INPUT = 2
EXIT_SOFTWARE = 70
EXIT_INTERRUPTED = 130

#: The environment variable by which the shell's completion script asks (click's name for it).
COMPLETE_VARIABLE = "_XENNET_COMPLETE"

#: The commands, and what the help of the group says of each. Each is in a module of its own, and
#: only the one that is called is imported.
_COMMANDS = {
    "run": "Carry frames between ports through vifs and report.",
    "host": "A machine that stays up, to attach vifs and programs to.",
    "exec": "Run a program that opens device files of Xen or netmap.",
    "back": "Serve vifs of a domain of a real Xen host.",
    "front": "Drive vifs of a guest of a real Xen host.",
    "fuzz": "Let coverage guide inputs into a target.",
    "info": "Show versions, default arena and engine.",
    "check": "Test a netfront or a netback against the protocol.",
    "course": "Lessons, with questions and exercises.",
    "lifecycle": "Play one of a vif's lives and tell it.",
    "netmap": "netmap's rings, pipes and VALE switches.",
    "ring": "Read a dumped page of a ring.",
    "shmif": "An Ethernet bus in a file, as NetBSD's shmif has it.",
    "step": "Make a run's deliveries one at a time.",
    "trace": "Record every step of a machine.",
    "why": "Why a vif of a real host passes no traffic.",
    "xs": "Read and change a running XenStore.",
    "xenstored": "Serve a XenStore on a unix socket.",
}

#: Commands that import most of what they need when they know what that is, and then collect garbage
#: themselves.
_IMPORT_MORE = {"run"}

#: Errors in writing output, and of resources that the system has run out of: no errors of xennet.
_NO_OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
_RUN_OUT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_EXIT_CODES = """\b
Exit codes:
  0    done; of run and lifecycle: the verdict is good
  1    the verdict is not good, or a driver of your own raised; of host:
       a vif is not connected, or something is not gone; of back and
       front: a vif broke; of xs: refused, or not there; of shmif
       inject: some frames could not be sent; of netmap replay: the
       device differs from a record; of ring and why: something is
       wrong; of fuzz: something was found; of check: a check is not as
       expected; of course check: the exercise is not right
  2    bad input or usage, or the system refuses (no file, no memory ...)
  70   an error of xennet's own
  129  hung up (SIGHUP)
  130  interrupted (Ctrl-C, SIGINT)
  143  terminated (SIGTERM)
"""


class _Commands(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"xennet.cli.{cmd_name}")
        command = cast(click.Command, getattr(module, cmd_name))
        command.short_help = _COMMANDS[cmd_name]
        if cmd_name not in _IMPORT_MORE:
            collect_garbage()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXIT_CODES,
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def group() -> None:
    """The Xen paravirtual network, byte for byte, in an ordinary process."""


def main(args: Sequence[str] | None = None, *, link: Link | None = None) -> int:
    """Run the command line ``args`` (default: the process's own). Returns the exit code.

    ``link`` carries the frames in place of the Xen vif.
    """
    open_standard_streams()
    if (instruction := os.environ.get(COMPLETE_VARIABLE)) is not None:
        from xennet.cli.completion import answer

        return answer(group, COMPLETE_VARIABLE, instruction)
    try:
        # Not click's own main(): it returns 1 if the reader of the output has left.
        with group.make_context(
            "xennet", list(sys.argv[1:] if args is None else args), obj=link
        ) as ctx:
            code = group.invoke(ctx)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.NoSuchOption as e:
        near = did_you_mean(e.option_name, e.possibilities or ())
        return _failed(f"No such option {e.option_name!r}.{near}", e.exit_code, e.ctx)
    except click.UsageError as e:
        return _failed(e.format_message(), e.exit_code, e.ctx)
    except click.ClickException as e:
        return _failed(e.format_message(), e.exit_code)
    except (PortError, EngineError, LinkError, PluginError) as e:
        return _failed(str(e), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            click.echo(err=True)  # behind the ^C that the terminal shows
        return _failed("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        if not reader_has_left(sys.stdout):
            return _failed(os.strerror(errno.EPIPE), EXIT_BAD_INPUT)
        # The reader of the output has left, as head does: there is no reader for a message.
        discard(sys.stdout)
        return 0
    except MemoryError as e:
        return _failed(f"out of memory{': ' if str(e) else ''}{e}", EXIT_BAD_INPUT)
    except OSError as e:
        if e.errno not in _NO_OUTPUT | _RUN_OUT or _is_of_own_driver(e):
            return _unexpected(e)
        if e.filename is not None:
            return _failed(f"{e.filename}: {os.strerror(e.errno)}", EXIT_BAD_INPUT)
        if e.errno in _RUN_OUT:
            return _failed(os.strerror(e.errno), EXIT_BAD_INPUT)
        discard(sys.stdout)
        return _failed(f"standard output: {os.strerror(e.errno)}", EXIT_BAD_INPUT)
    except Exception as e:
        return _unexpected(e)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception) -> int:
    """Tell of an exception that no command raises to say something; raises it in Python's
    development mode."""
    if sys.flags.dev_mode:
        raise error
    if _is_of_own_driver(error):
        from xennet.host.own_code import error_and_place

        said = f"the driver raised {error_and_place(error)} ({'; '.join(error.__notes__)})"
        return _failed(said, 1)
    return _failed(f"internal error: {type(error).__name__}: {error}", EXIT_SOFTWARE)


def _is_of_own_driver(error: Exception) -> bool:
    """Whether a driver of the user's own raised it."""
    if not getattr(error, "__notes__", ()):
        return False  # without an import
    from xennet.host.own_code import is_raised_by_own_driver

    return is_raised_by_own_driver(error)


def _failed(message: str, code: int, usage: click.Context | None = None) -> int:
    """Print one line on stderr, and after an error of usage one more about the help of that
    command."""
    with suppress(OSError):  # stderr may be closed as well
        click.echo(f"xennet: {printable(' '.join(message.splitlines()))}", err=True)
        if usage is not None:
            click.echo(f"Try '{usage.command_path} --help'.", err=True)
    return code
