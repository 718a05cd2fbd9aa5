"""``xennet front``: drive vifs of this guest of a real Xen host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from xennet.cli.run import FRONTENDS, _PortType
from xennet.cli.serving import EPILOG, run_service, service_options
from xennet.cli.whole_number import WholeNumber

if TYPE_CHECKING:
    from collections.abc import Callable

    from xennet.xen.vif_service import Service

#: Name of the JSON layout; a new number when a key changes its meaning or goes away.
FORMAT = "xennet-front/1"


@click.command(epilog=EPILOG)
@click.option(
    "--guest",
    required=True,
    type=_PortType(),
    metavar="PORT",
    help="What the vif is connected to. With {handle} in it each vif has its own.",
)
@click.option(
    "--vif",
    "wanted",
    multiple=True,
    type=WholeNumber(0, 65535),
    metavar="HANDLE",
    help="Drive this vif; may be given again.  [default: all]",
)
@click.option(
    "--frontend",
    type=click.Choice(FRONTENDS),
    default=FRONTENDS[0],
    show_default=True,
    help="Whose frontend it is like.",
)
@click.option("--no-sg", is_flag=True, help="No packets of several pages, and no GSO.")
@click.option("--no-gso", is_flag=True, help="No packets that are segmented later.")
@click.option("--no-csum", is_flag=True, help="No blank checksums, and no GSO.")
@service_options
@click.pass_context
def front(
    ctx: click.Context,
    /,
    guest: str,
    wanted: tuple[int, ...],
    frontend: str,
    no_sg: bool,
    no_gso: bool,
    no_csum: bool,
    queues: int,
    split_channels: bool,
    mtu: int | None,
    store_path: str | None,
    **how: Any,
) -> None:
    """Drive vifs of this guest of a real Xen host, in place of the kernel's frontend.

    The devices in /dev/xen and the Xen tools' libraries are needed (docs/real-xen.md). Under
    "xennet exec --domain 1" the machine is an emulated one.
    """

    def make(say: Callable[[str], None]) -> Service:
        from xennet.netfront.kinds import KINDS
        from xennet.netfront.options import NetfrontOptions
        from xennet.xen.front_service import FrontService

        options = NetfrontOptions(
            queues=queues,
            split=split_channels,
            sg=not no_sg,
            gso=not no_gso,
            csum=not no_csum,
            enforce_mtu=mtu is not None,
        )
        return FrontService(
            guest,
            KINDS[frontend],
            options,
            wanted=wanted,
            mtu=mtu,
            store_path=store_path,
            say=say,
        )

    run_service(ctx, FORMAT, make, **how)
