"""``xennet xenstored``: a XenStore server for the programs of a Xen host."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from xennet.cli.whole_number import WholeNumber

if TYPE_CHECKING:
    from xennet.xenstore.tap import Tap

# Names in xennet.xenstore.likeness, which is not imported for every command.
DAEMONS = ("4.17", "4.20", "oxenstored")

QUOTAS = {
    "nodes": "Nodes that a domain may own.",
    "node_size": "Bytes of a node's record: header, permissions, value, names of children.",
    "watches": "Watches of a domain.",
    "transactions": "Transactions a domain may have open.",
    "transaction_nodes": "Nodes in one transaction.",
    "perms": "Permissions of a node.",
    "path_max": "Characters of a path behind /local/domain/N/.",
    "outstanding": "Requests of a domain whose replies were not read.",
    "memory": "Bytes of watch events that a domain did not read.",
}


def _limits(command: click.Command) -> click.Command:
    for name, meaning in reversed(QUOTAS.items()):
        option = click.Option(
            [f"--quota-{name.replace('_', '-')}", name],
            type=WholeNumber(min=0),
            help=f"{meaning} 0: no limit.",
        )
        command.params.append(option)
    return command


@click.command()
@click.option(
    "--socket",
    "path",
    metavar="PATH",
    help="Where to listen  [default: $XENSTORED_PATH, or socket in $XENSTORED_RUNDIR or in "
    "/var/run/xenstored].",
)
@click.option(
    "--like",
    type=click.Choice(DAEMONS),
    default="4.20",
    show_default=True,
    help="The daemon to take after, see docs/xenstore.md.",
)
@click.option("--newer", is_flag=True, help="Answer GET/SET_FEATURE and GET/SET_QUOTA as well.")
@click.option("--trace-file", metavar="FILE", help="Write all requests to FILE.")
@click.option(
    "--trace-pcap",
    metavar="FILE",
    help="Write all messages to FILE.pcapng, for Wireshark (docs/wireshark.md).",
)
@click.option("--quiet", is_flag=True, help="Do not tell where it listens.")
def xenstored(
    path: str | None,
    like: str,
    newer: bool,
    trace_file: str | None,
    trace_pcap: str | None,
    quiet: bool,
    **quotas: int | None,
) -> None:
    """Serve a XenStore on a unix socket until SIGTERM, SIGINT or SIGHUP.

    Debian's xenstore-* tools, libxenstore and pyxs use it unchanged; their users are domain 0.
    """
    gc.disable()  # what is imported stays: there is nothing to collect
    from contextlib import ExitStack

    from attrs import evolve

    from xennet.xenstore.client.socket import socket_path
    from xennet.xenstore.daemon import Daemon
    from xennet.xenstore.epoll_loop import EpollLoop
    from xennet.xenstore.errors import SocketError, XsError
    from xennet.xenstore.handlers import Server
    from xennet.xenstore.likeness import likeness
    from xennet.xenstore.quota import UNLIMITED
    from xennet.xenstore.store import Store

    gc.freeze()
    gc.enable()
    limits = {name: value or UNLIMITED for name, value in quotas.items() if value is not None}
    server = Server(
        Store(evolve(likeness(like).quota, **limits), like=like),
        newer=newer,
        say=_tell,
        trace_file=trace_file,
    )
    loop = EpollLoop()
    daemon = Daemon(server, path or socket_path(), loop)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: loop.stop())
    try:
        with ExitStack() as left:
            left.callback(server.trace.off)
            left.callback(loop.close)
            if trace_file is not None:
                server.trace.on()
            left.callback(daemon.stop)
            daemon.start()
            if trace_pcap is not None:
                server.tap = left.enter_context(_capture(trace_pcap))
                left.callback(daemon.stop)  # sessions end while their ends can be written
            if not quiet:
                click.echo(f"XenStore on {daemon.path}")
                sys.stdout.flush()
            loop.run(daemon.tell_events)
    except SocketError as error:
        raise click.UsageError(str(error)) from None
    except XsError as error:
        raise click.UsageError(f"--trace-file {error.path}: {error.detail}") from None


def _tell(text: str) -> None:
    """Print a line on stderr. Nobody may read it, and the store goes on."""
    with suppress(OSError):
        click.echo(text, err=True)


@contextmanager
def _capture(path: str) -> Iterator[Tap]:
    """A capture in the new file ``path``. Raises UsageError if it cannot be made."""
    from xennet.trace.xenstore_capture import XenStoreCapture

    try:
        capture = XenStoreCapture(path, _tell)
    except ValueError as error:
        raise click.UsageError(f"--trace-pcap {error}") from None
    except OSError as error:
        raise click.UsageError(f"--trace-pcap {path}: {error.strerror}") from None
    try:
        yield capture
    finally:
        capture.close()


_limits(xenstored)
