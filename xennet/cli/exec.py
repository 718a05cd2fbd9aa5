"""``xennet exec``: run a program in a domain of the machine."""

from __future__ import annotations

from pathlib import Path

import click

from xennet.cli.errors import BadInputError
from xennet.cli.whole_number import WholeNumber

#: The directory of the C header for kernels, and of its source.
INCLUDE = Path(__file__).parents[1] / "include"


def _show_include(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(INCLUDE)
        context.exit()


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option(
    "--domain",
    "domid",
    type=WholeNumber(0, 0x7FEF),
    default=1,
    show_default=True,
    help="The domain that it runs in.",
)
@click.option(
    "--host",
    "directory",
    metavar="DIR",
    help="Run it on the machine of the `xennet host` whose sockets are in DIR  [default: a "
    "machine of its own, with domain 0 and one guest].",
)
@click.option(
    "--crash",
    is_flag=True,
    help="The program's end is the crash of its domain: everything that it had stays in place "
    "until the toolstack destroys the domain.",
)
@click.option(
    "--include",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_include,
    help="Show the directory of xennet-guest.h and xennet-guest.c, for kernels that call the "
    "hypervisor themselves, and end.",
)
@click.argument("program", nargs=-1, required=True, metavar="PROGRAM [ARGS]...")
def exec(domid: int, directory: str | None, crash: bool, program: tuple[str, ...]) -> int:
    """Run PROGRAM, which speaks to device files of Xen or netmap or to a xenstored, in a domain.

    It is an ordinary program of Linux, as it is: libxengnttab, libxenevtchn, libxenstore and the
    like find /dev/xen/gntdev, gntalloc, evtchn, xenbus and privcmd, and programs of netmap
    /dev/netmap (docs/netmap.md). Its exit code is the command's.
    Needs a C compiler on the first use. See docs/exec.md, and docs/foreign.md for programs that
    make hypercalls themselves.
    """
    from xennet.exec.launch import (
        connect_to_store,
        exit_code,
        launch,
        passing_signals_on,
        socket_paths,
        wait_while_served,
    )
    from xennet.exec.own_host import OwnHost
    from xennet.xenstore.errors import SocketError

    if crash and domid == 0:
        raise click.UsageError("--crash: a crash of domain 0 is the machine's, not a program's")
    if directory is None:
        try:
            own = OwnHost(domid)
        except SocketError as error:
            raise BadInputError(str(error)) from None
        try:
            return exit_code(own.run(program, domid, crash=crash))
        finally:
            own.close()
    with connect_to_store(directory, domid) as store, passing_signals_on() as pass_on_to:
        child = launch(program, *socket_paths(directory, domid), crash=crash)
        pass_on_to(child)
        try:
            wait_while_served(child, store)
        finally:
            if child.poll() is None:
                child.kill()
        return exit_code(child.wait())
