"""``xennet back``: serve vifs of a real Xen host as its backend."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from xennet.cli.run import BACKENDS, _PortType
from xennet.cli.serving import EPILOG, run_service, service_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from xennet.xen.vif_service import Service

#: Name of the JSON layout; a new number when a key changes its meaning or goes away.
FORMAT = "xennet-back/1"


def _vifs(
    _ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> frozenset[tuple[int, int]]:
    """The vifs that an option names. Raises BadParameter."""
    found = set()
    for text in texts:
        named = re.fullmatch(r"([0-9]{1,5})[/.]([0-9]{1,5})", text)
        if named is None:
            raise click.BadParameter(f"{text!r}: wants DOMID/HANDLE, 1/0", param=param)
        found.add((int(named[1]), int(named[2])))
    return frozenset(found)


@click.command(epilog=EPILOG)
@click.option(
    "--host",
    required=True,
    type=_PortType(),
    metavar="PORT",
    help="What the vif is connected to. With {domid} or {handle} in it each vif has its own.",
)
@click.option(
    "--vif",
    "wanted",
    multiple=True,
    callback=_vifs,
    metavar="DOMID/HANDLE",
    help="Serve this vif; may be given again.  [default: all]",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default=BACKENDS[0],
    show_default=True,
    help="Whose backend it is like.",
)
@click.option(
    "--script",
    is_flag=True,
    help="Leave hotplug-status to the toolstack's script.  [default: it is written here]",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the vifs as they are at the end: the next backend goes on at their rings.",
)
@service_options
@click.pass_context
def back(
    ctx: click.Context,
    /,
    host: str,
    wanted: frozenset[tuple[int, int]],
    backend: str,
    script: bool,
    keep: bool,
    queues: int,
    split_channels: bool,
    mtu: int | None,
    store_path: str | None,
    **how: Any,
) -> None:
    """Serve vifs of this domain of a real Xen host, in place of the kernel's backend.

    The devices in /dev/xen and the Xen tools' libraries are needed (docs/real-xen.md). Under
    "xennet exec --domain 0" the machine is an emulated one.
    """

    def make(say: Callable[[str], None]) -> Service:
        from attrs import evolve

        from xennet.netback.policies import policy
        from xennet.xen.back_service import BackService

        chosen = policy(backend)
        options = evolve(chosen.options, max_queues=queues, split_channels=split_channels)
        return BackService(
            host,
            chosen,
            options,
            wanted=wanted,
            script=script,
            keep=keep,
            mtu=mtu,
            store_path=store_path,
            say=say,
        )

    run_service(ctx, FORMAT, make, **how)
