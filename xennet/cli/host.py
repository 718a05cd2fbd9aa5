"""``xennet host``: a host that stays up, and the commands that people give it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup
from xennet.cli.output import say, say_json
from xennet.cli.seconds import Seconds
from xennet.cli.whole_number import WholeNumber
from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.hostd.json_lines import Json

EXIT_NOT_GOOD = 1
#: Most guests to begin with, and most queues of a vif.
MAX_GUESTS, MAX_QUEUES = 1000, 8
#: Bytes: the least mtu of IPv4, and that of the longest frame.
MIN_MTU, MAX_MTU = 68, 65521
#: Seconds that a host waits at most where a command does not say it.
_USUAL_WAIT = 90.0
FRONTENDS = ("linux", "freebsd", "windows")
PARTS = ("none", "serves", "plugs")

#: A command function that gets an option.
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    epilog="Exit code: 0 done, 1 a vif does not pass traffic or is not gone yet, 2 no host, or one "
    "that refuses.",
)
@click.option(
    "--socket",
    "directory",
    metavar="DIR",
    help="Directory of its sockets  [default: a fresh one below $XDG_RUNTIME_DIR].",
)
@click.option(
    "--guests",
    type=WholeNumber(0, MAX_GUESTS),
    default=1,
    show_default=True,
    help="Begin with so many guests, domains 1 to N.",
)
@click.option(
    "--arena",
    type=WholeNumber(1),
    metavar="MIB",
    help="Memory of the machine.  [default: 512, or what 4 vifs of each guest can take]",
)
@click.option("--quiet", is_flag=True, help="Do not tell where its sockets are.")
@click.pass_context
def host(
    ctx: click.Context, directory: str | None, guests: int, arena: int | None, quiet: bool
) -> None:
    """A machine that stays up: domain 0 with store, toolstack and switch, and guests.

    Without COMMAND it runs until SIGTERM, SIGINT or SIGHUP. Commands act on one that runs: the one
    that their --host, --socket before them or $XENNET_HOST names, or else the only one in a
    directory of its own.

    \b
        xennet host --guests 2 &
        xennet host attach 1 --front tap:a
        xennet host attach 2 --front pcap:in.pcap --back echo:
        xennet host list
    """
    if ctx.invoked_subcommand is None:
        ctx.exit(_serve(directory, guests, arena, quiet))


def _serve(path: str | None, guests: int, arena: int | None, quiet: bool) -> int:
    from xennet.host.capacity import Capacity, mib_frames
    from xennet.hostd.host_directory import DirectoryError, HostDirectory
    from xennet.hostd.serve import ServedHost
    from xennet.interface import OutOfFramesError
    from xennet.xenstore.errors import SocketError

    ended: list[int] = []
    frames = None if arena is None else mib_frames(arena)
    left: list[str] = []
    try:
        directory = HostDirectory.at(path)
        try:
            directory.take()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, lambda number, _frame: ended.append(number))
            _have_many_descriptors()
            served = ServedHost(directory, Capacity(max(1, guests), vifs=4, frames=frames))
            try:
                for _ in range(guests):
                    served.live.create_guest()
                served.start()
                if not quiet:
                    _tell(directory.path, served.live.shared)
                served.run(lambda: bool(ended))
            finally:
                left = served.end(lambda: len(ended) > 1)
        finally:
            directory.leave()
    except (DirectoryError, SocketError, OutOfFramesError) as error:
        raise BadInputError(str(error)) from None
    for line in left:
        say(f"xennet: left behind: {line}", err=True)
    return EXIT_NOT_GOOD if left else 0


def _have_many_descriptors() -> None:
    """Have as many descriptors as the system allows: each domain takes some, each client one."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _tell(path: str, programs: bool) -> None:
    import os
    from shlex import quote

    from xennet.hostd.host_directory import HOST_VARIABLE, store_socket

    say(f"host {path} (process {os.getpid()})")
    say(f"  export {HOST_VARIABLE}={quote(path)}        # for xennet host COMMAND")
    store = quote(store_socket(path, 0))
    say(f"  export XENSTORED_PATH={store}        # for xenstore-ls and others")
    if programs:
        say(f"  xennet exec --host {quote(path)} --domain 1 -- PROGRAM")
    sys.stdout.flush()


# -- commands to a host ----------------------------------------------------------------------------


def _of_a_host(command: _F) -> _F:
    """The options of every command to a host."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print it as JSON."),
        click.option("--host", "directory", metavar="DIR", help="The directory of the host."),
    ):
        command = option(command)
    return command


def _wait(text: str) -> Callable[[_F], _F]:
    return click.option("--wait", type=Seconds(), metavar="SECONDS", help=text)


DOMAIN = click.argument("domain", metavar="DOMAIN")
VIF = click.argument("vif", metavar="[VIF]", required=False)


def _ask(directory: str | None, command: str, **arguments: Any) -> Json:
    """Have a host carry out a command. Raises BadInputError if there is none, or if it refuses."""
    from xennet.hostd.control_client import NoHostError, RefusedError, find_host, request

    ctx = click.get_current_context()
    above = ctx.parent.params.get("directory") if ctx.parent is not None else None
    given = {name: value for name, value in arguments.items() if value is not None}
    wait = arguments.get("wait")
    try:
        where = find_host(directory or above)
        return request(where, command, given, _USUAL_WAIT if wait is None else wait)
    except (NoHostError, RefusedError) as error:
        raise BadInputError(str(error)) from None


@host.command("list")
@_of_a_host
def list_(directory: str | None, as_json: bool) -> None:
    """Show domains and their vifs."""
    told = _ask(directory, "list")
    if as_json:
        say_json(told)
        return
    width = max(len(domain["name"]) for domain in told["domains"])
    say(f"{'Name':{width}}     ID  State")
    for domain in told["domains"]:
        say(f"{printable(domain['name']):{width}}  {domain['domid']:5}  {domain['state']}")
        for vif in domain["vifs"]:
            say(printable(f"  {_line(vif)}"))


def _line(vif: Mapping[str, Any]) -> str:
    """A vif in a line."""
    front, back = vif["frontend"], vif["backend"]
    state = "connected" if vif["connected"] else "not connected"
    where = f" of domain {vif['backend_domid']}" if vif["backend_domid"] else ""
    kind = "" if vif["type"] == "vif" else f" {vif['type']}"
    return (
        f"{vif['name']}  {vif['mac']}  {state}  front {front['end']} {front['state']}  "
        f"back{kind}{where} {back['end']} {back['state']}"
    )


@host.command()
@click.option("--name", metavar="NAME", help="Its name.  [default: domU and its number]")
@click.option("--frontend", type=click.Choice(FRONTENDS), help="Whose frontend it is like.")
@click.option(
    "--grant-version", type=WholeNumber(1, 2), help="Version of its grant table.  [default: 1]"
)
@click.option(
    "--drivers",
    type=click.Choice(("xennet", "other")),
    help="Whose drivers it has; other: a program is its kernel (docs/foreign.md).  "
    "[default: xennet]",
)
@click.option("--driver-domain", is_flag=True, help="A domain for backends in place of a guest.")
@_of_a_host
def create(directory: str | None, as_json: bool, **asked: Any) -> None:
    """Create a guest, or a domain for backends."""
    told = _ask(directory, "create", **asked)
    if as_json:
        say_json(told)
    else:
        say(f"{told['name']} is domain {told['domid']}, its store is {told['store']}")


@host.command()
@DOMAIN
@click.option(
    "--front",
    metavar="PORT",
    help="The guest's network stack: a port, or 'other', if another program is the frontend.  "
    "[default: null:; other in a domain without xennet's drivers]",
)
@click.option(
    "--back",
    metavar="PORT",
    help="What the backend leads to: a port, 'switch', the host's, or 'other', if another program "
    "is the backend.  [default: switch]",
)
@click.option("--handle", type=WholeNumber(0), help="Its number.  [default: free]")
@click.option("--mac", metavar="MAC", help="The guest's address.")
@click.option("--mtu", type=WholeNumber(MIN_MTU, MAX_MTU), metavar="BYTES", help="MTU of the vif.")
@click.option("--queues", type=WholeNumber(1, MAX_QUEUES), help="At most so many queues.")
@click.option("--backend", metavar="DOMAIN", help="The domain of the backend.  [default: 0]")
@click.option("--type", "type", metavar="TYPE", help="Type of the backend: vif, or qnic, QEMU's.")
@click.option(
    "--device-model",
    type=click.Choice(PARTS),
    help="The part of a device model: it serves the backend, or plugs the vif as well. The "
    "frontend waits until it runs.  [default: plugs, if another program has a backend of another "
    "type than vif]",
)
@_wait(
    "Wait so long for the vif to be connected.  [default: 20; if another program has an end, as "
    "xl does: for a backend of xennet's, not for others]"
)
@_of_a_host
@click.pass_context
def attach(
    ctx: click.Context,
    /,
    directory: str | None,
    as_json: bool,
    domain: str,
    front: str | None,
    back: str | None,
    wait: float | None,
    **asked: Any,
) -> None:
    """Attach a vif to a domain, by its number or its name."""
    told = _ask(
        directory,
        "attach",
        domain=domain,
        front=_absolute(front),
        back=_absolute(back),
        wait=wait,
        **asked,
    )
    others = "other" in (told["frontend"]["end"], told["backend"]["end"])
    waited = bool(wait) if wait is not None else not others
    failed = told["outcome"] == "failed"
    if as_json:
        say_json(told)
    else:
        say(printable(_line(told)))
        for reason in () if told["connected"] or not (waited or failed) else told["why"]:
            say(printable(reason))
    ctx.exit(EXIT_NOT_GOOD if failed or (waited and not told["connected"]) else 0)


def _absolute(spec: str | None) -> str | None:
    """The name of an end, with the names of files as the host has to know them."""
    from xennet.hostd.ends import OTHER, SWITCH, with_absolute_files
    from xennet.port.base import PortError

    if spec is None or spec in (OTHER, SWITCH):
        return spec
    try:
        return with_absolute_files(spec)
    except PortError as error:
        raise BadInputError(f"{error}; an end can be {SWITCH!r} or {OTHER!r} too") from None


@host.command()
@DOMAIN
@VIF
@click.option("--force", is_flag=True, help="Do not wait for the frontend.")
@_wait("Wait so long for it to be gone.  [default: 90]")
@_of_a_host
@click.pass_context
def detach(ctx: click.Context, /, directory: str | None, as_json: bool, **asked: Any) -> None:
    """Take a vif away: by its number, its name or its address; the only one without VIF."""
    told = _ask(directory, "detach", **asked)
    if as_json:
        say_json(told)
    else:
        how = " by force" if told["forced"] else ""
        gone = f"is gone{how}" if told["outcome"] != "pending" else "is not gone yet"
        say(printable(f"{told['name']} {gone}{': ' if told['reason'] else ''}{told['reason']}"))
    ctx.exit(0 if told["outcome"] == "done" else EXIT_NOT_GOOD)


@host.command()
@DOMAIN
@VIF
@_of_a_host
@click.pass_context
def why(ctx: click.Context, /, directory: str | None, as_json: bool, **asked: Any) -> None:
    """Say why a vif passes no traffic, or not all."""
    told = _ask(directory, "why", **asked)
    if as_json:
        say_json(told)
    else:
        for reason in told["why"] or [f"{told['name']}: nothing is in the way of traffic"]:
            say(printable(reason))
    ctx.exit(EXIT_NOT_GOOD if told["why"] else 0)


@host.command()
@DOMAIN
@_wait("Wait so long for it to be gone.  [default: 90]")
@_of_a_host
@click.pass_context
def destroy(ctx: click.Context, /, directory: str | None, as_json: bool, **asked: Any) -> None:
    """Destroy a domain, as xl destroy does."""
    told = _ask(directory, "destroy", **asked)
    if as_json:
        say_json(told)
    else:
        gone = "is gone" if told["gone"] else "is not gone yet"
        say(f"{told['name']}, domain {told['domid']}, {gone}")
    ctx.exit(0 if told["gone"] else EXIT_NOT_GOOD)
