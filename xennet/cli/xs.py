"""``xennet xs``: read and change a running XenStore, without Debian's xenstore-utils.

Output, options and escapes are those of xenstore-ls and the other xenstore-* tools.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup
from xennet.cli.seconds import Seconds
from xennet.cli.whole_number import WholeNumber
from xennet.cli.xs_text import ListStyle, list_line
from xennet.run.printable import printable
from xennet.xenstore.value_text import parse_value, show_value

if TYPE_CHECKING:
    from xennet.xenstore import Client, XsError
    from xennet.xenstore.client.nodes import NodeOperations

_P = ParamSpec("_P")
_T = TypeVar("_T")

DEFAULT_WIDTH = 80
EXIT_REFUSED = 1
_GONE = ("ETIMEDOUT", "ECONNRESET", "EPROTO")

PATH = click.argument("paths", nargs=-1, required=True, metavar="PATH...")


@click.group(
    cls=CommandGroup,
    epilog="Exit code: 0 done, 1 refused or not there, 2 no server or bad usage.",
)
@click.option(
    "--socket",
    metavar="PATH",
    help="Socket of the server [default: as libxenstore finds it, $XENSTORED_PATH first].",
)
@click.option(
    "--timeout",
    type=Seconds(positive=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an answer.",
)
@click.pass_context
def xs(ctx: click.Context, socket: str | None, timeout: float) -> None:
    """Read and change a running XenStore."""
    ctx.obj = (socket, timeout)


def _command(work: Callable[Concatenate[Client, _P], int | None]) -> Callable[..., None]:
    """Make ``work(client, ...)`` a command: with a connected client, and errors as one line."""

    @functools.wraps(work)
    @click.pass_context
    def connected(ctx: click.Context, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        from xennet.xenstore import Client, XsError

        socket, timeout = ctx.obj
        try:
            client = Client.connect(socket, timeout=timeout, name="xennet xs")
        except XsError as error:
            raise BadInputError(_message(error)) from error
        try:
            with client:
                code = work(client, *args, **kwargs)
            sys.stdout.flush()
        except XsError as error:
            failed = BadInputError if error.errno in _GONE else click.ClickException
            raise failed(_message(error)) from error
        ctx.exit(code or 0)

    return connected


def _message(error: XsError) -> str:
    why = os.strerror(error.number) if error.number else "unknown error"
    where = f"{error.path}: " if error.path else ""
    return f"{where}{why} ({error.errno}, {error.detail})"


# --- looking --------------------------------------------------------------------------------------


@xs.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "-f",
    "full",
    is_flag=True,
    help="Full paths, no indentation; values cut only to fit a terminal.",
)
@click.option("-p", "perms", is_flag=True, help="Show permissions.")
@_command
def ls(client: Client, paths: Sequence[str], full: bool, perms: bool) -> None:
    """Show all that is below PATH (default: /)."""
    style = ListStyle(_width(full), full, perms)
    for top in paths or ("/",):
        for path, depth in _below(client, top):
            entries = _tried(client.get_perms, path) if perms else None
            click.echo(list_line(style, path, depth, _tried(client.read, path), entries))


@xs.command()
@PATH
@click.option("-p", "prefix", is_flag=True, help="Show the path before each value.")
@click.option("-R", "--raw", is_flag=True, help="The bytes as they are, no newline.")
@_command
def read(client: Client, paths: Sequence[str], prefix: bool, raw: bool) -> None:
    """Show values."""

    def body(tx: NodeOperations, say: Callable[[bytes], None]) -> None:
        for path in paths:
            value = tx.read(path)
            before = os.fsencode(f"{printable(path)}: ") if prefix else b""
            say(before + (value if raw else show_value(value).encode() + b"\n"))

    _shown(client, body, alone=len(paths) == 1)


@xs.command("list")
@PATH
@click.option("-p", "prefix", is_flag=True, help="Show the path before each name.")
@_command
def list_(client: Client, paths: Sequence[str], prefix: bool) -> None:
    """Show the names of children, one a line."""

    def body(tx: NodeOperations, say: Callable[[bytes], None]) -> None:
        for path in paths:
            before = f"{path}/" if prefix else ""
            for name in tx.directory(path):
                say(printable(before + name).encode() + b"\n")

    _shown(client, body, alone=False)


@xs.command()
@PATH
@_command
def exists(client: Client, paths: Sequence[str]) -> int:
    """Exit code 0 if every PATH exists, 1 if not."""
    return client.transact(lambda tx: 0 if all(map(tx.exists, paths)) else EXIT_REFUSED)


@xs.command(short_help="Show the path, or the value too, of every change.")
@PATH
@click.option("-n", "count", type=WholeNumber(min=1), help="Stop after N events.")
@click.option(
    "-v",
    "--values",
    is_flag=True,
    help="Show the value that is found there then, or that the node is gone.",
)
@_command
def watch(client: Client, paths: Sequence[str], count: int | None, values: bool) -> None:
    """Show the path of every change at or below each PATH, and of PATH itself first.

    An event carries no value: with -v it is read when the event comes, and may be newer.
    """
    shown = 0

    def show(path: str, token: str) -> None:
        nonlocal shown
        shown += 1
        click.echo(_with_value(client, path) if values else printable(path))

    for path in paths:
        client.watch(path, path, show)
    client.wait(lambda: shown == count)


# --- changing -------------------------------------------------------------------------------------


@xs.command(short_help="Set values, all or none.")
@click.argument("pairs", nargs=-1, required=True, metavar="PATH VALUE [PATH VALUE]...")
@click.option("-R", "--raw", is_flag=True, help="Backslashes in a value mean themselves.")
@_command
def write(client: Client, pairs: Sequence[str], raw: bool) -> None:
    r"""Set values, all or none; \n, \t, \r, \\, \ooo and \xhh in them are understood."""
    if len(pairs) % 2:
        raise click.UsageError(f"PATH {pairs[-1]!r} without a VALUE")
    values = [os.fsencode(value) for value in pairs[1::2]]
    nodes = list(zip(pairs[::2], values if raw else map(parse_value, values), strict=True))

    def body(tx: NodeOperations) -> None:
        for path, value in nodes:
            tx.write(path, value)

    client.transact(body)


@xs.command()
@PATH
@click.option("-t", "tidy", is_flag=True, help="Remove parents that are left empty as well.")
@_command
def rm(client: Client, paths: Sequence[str], tidy: bool) -> None:
    """Remove nodes and all below them, all or none."""

    def body(tx: NodeOperations) -> None:
        for path in paths:
            tx.rm(path)
            if tidy:
                _tidy(tx, path)

    client.transact(body)


@xs.command(short_help="Set permissions.")
@click.argument("path")
@click.argument("modes", nargs=-1, required=True, metavar="MODE...")
@click.option("-r", "recursive", is_flag=True, help="Change all nodes below as well.")
@click.option("-u", "up", is_flag=True, help="Change all nodes above as well, but not /.")
@_command
def chmod(client: Client, path: str, modes: Sequence[str], recursive: bool, up: bool) -> None:
    """Set permissions, owner first: n5 r0 (n none, r read, w write, b both; then the domain).

    ENOENT: there is no such node, or no such domain that could own it.
    """
    from xennet.xenstore.perms import parse_perms

    # Checked here to name the bad one: a server refuses all of them with one EINVAL.
    parse_perms(modes)

    def body(tx: NodeOperations) -> None:
        tx.set_perms(path, modes)
        for above in _above(path) if up else ():
            tx.set_perms(above, modes)
        if recursive:
            for node, _ in _below(tx, path):
                tx.set_perms(node, modes)

    client.transact(body)


# --- helpers --------------------------------------------------------------------------------------


def _width(full: bool) -> int | None:
    if sys.stdout.isatty():
        return max(os.get_terminal_size(sys.stdout.fileno()).columns - 2, 0)
    return None if full else DEFAULT_WIDTH


def _below(nodes: NodeOperations, top: str) -> Iterator[tuple[str, int]]:
    """Yield (path, depth) of everything below ``top``, parents first; a node that vanishes is left
    out."""
    levels = [_children(nodes, top)]
    while levels:
        path = next(levels[-1], None)
        if path is None:
            levels.pop()
            continue
        yield path, len(levels) - 1
        below = _tried(functools.partial(_children, nodes), path)
        levels.append(iter(()) if below is None else below)


def _children(nodes: NodeOperations, path: str) -> Iterator[str]:
    names = nodes.directory(path)
    return (f"{path}{name}" if path.endswith("/") else f"{path}/{name}" for name in names)


def _tried(request: Callable[[str], _T], path: str) -> _T | None:
    """The answer to a request; None if the node has vanished or may not be read."""
    from xennet.xenstore import XsError

    try:
        return request(path)
    except XsError as error:
        if error.errno not in ("ENOENT", "EACCES"):
            raise
        return None


def _with_value(client: Client, path: str) -> str:
    """The line of a node as ``ls -f`` shows it, or one that says that the node is gone.

    A special name has no value.
    """
    from xennet.xenstore import XsError
    from xennet.xenstore.path import is_special

    if is_special(path):
        return printable(path)
    try:
        return list_line(ListStyle(None, True, False), path, 0, client.read(path), None)
    except XsError as error:
        if error.errno not in ("ENOENT", "EACCES"):
            raise
        return f"{printable(path)}: {'gone' if error.errno == 'ENOENT' else 'not to be read'}"


def _shown(
    client: Client, body: Callable[[NodeOperations, Callable[[bytes], None]], None], alone: bool
) -> None:
    """Run ``body`` and print what it says, also if it fails half way.

    It runs in a transaction, unless it is a single request (``alone``).
    """
    said: list[bytes] = []

    def attempt(tx: NodeOperations) -> None:
        said.clear()
        body(tx, said.append)

    try:
        if alone:
            attempt(client)
        else:
            client.transact(attempt)
    finally:
        click.echo(b"".join(said), nl=False)


def _above(path: str) -> Iterator[str]:
    """The parents of ``path``, nearest first, without the root."""
    while path := path[: max(path.rfind("/"), 0)]:
        yield path


def _tidy(tx: NodeOperations, path: str) -> None:
    for above in _above(path):
        if tx.read(above) or tx.directory(above):
            break
        tx.rm(above)
