"""``xennet why``: why a vif of a real host passes no traffic, from a dump of its store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xennet.cli.errors import BadInputError
from xennet.cli.output import say, say_json
from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.dumps.store_dump import DumpedStore
    from xennet.xenbus.paths import VifPaths

#: Version of the JSON layout; it gets a new number when a key changes its meaning or is removed.
FORMAT = "xennet-why/1"


@click.command(
    epilog="Exit code: 0 nothing in the store is in the way of any, 1 something is, or there is no "
    "vif; 2 it is no dump, or has no such vif.",
)
@click.argument("names", metavar="[VIF]...", nargs=-1)
@click.option(
    "--store",
    "dump",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="DUMP",
    help="What xenstore-ls -fp printed in domain 0 of that host.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def why(ctx: click.Context, names: tuple[str, ...], dump: Path, as_json: bool) -> None:
    """Tell what is in the way of the traffic of each VIF (vif1.0 ...), or of all in the dump.

    \b
        xenstore-ls -fp > DUMP            in domain 0 of the host
        xennet why --store DUMP

    The store shows the handshake. It does not show the rings (xennet ring reads a page of one), nor
    whether a bridge passes frames on.
    """
    from xennet.lifecycle.remarks import unreadable
    from xennet.lifecycle.why_store import vifs_of, why_store
    from xennet.xenbus.paths import VifDirectories

    store = _read(dump)
    vifs = _chosen(vifs_of(store), names, dump)
    told = []
    for paths in vifs:
        seen = VifDirectories(paths, store)
        told.append((paths, why_store(seen, store.may_read), list(unreadable(seen))))
    if as_json:
        say_json({"format": FORMAT, "vifs": [_as_json(*one) for one in told]})
    else:
        for one in told:
            _tell(*one)
        if not told:
            say("there is no vif in it")
    ctx.exit(0 if told and not any(reasons for _, reasons, _ in told) else 1)


def _read(dump: Path) -> DumpedStore:
    """The dumped store. Raises BadInputError, with the file and the line."""
    from xennet.dumps.store_dump import DumpError, read_store_dump

    name = printable(str(dump))
    try:
        with click.open_file(str(dump), "rb") as stream:
            return read_store_dump(stream)
    except OSError as error:
        raise BadInputError(f"{name}: {error.strerror}") from error
    except DumpError as error:
        raise BadInputError(f"{name}: {error}") from error


def _chosen(vifs: list[VifPaths], names: tuple[str, ...], dump: Path) -> list[VifPaths]:
    known = {vif.name for vif in vifs}
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise BadInputError(
                f"{printable(str(dump))}: there is no vif {name!r} in it (there is: {there})"
            )
    return [vif for vif in vifs if not names or vif.name in names]


def _tell(paths: VifPaths, reasons: list[str], remarks: list[str]) -> None:
    say(f"{paths.name}: {paths.frontend} and {paths.backend}")
    for reason in reasons:
        say(f"  {printable(reason)}")
    if not reasons:
        say("  nothing in the store is in the way of its traffic")
    for remark in remarks:
        say(f"  remark: {printable(remark)}")


def _as_json(paths: VifPaths, reasons: list[str], remarks: list[str]) -> dict[str, object]:
    return {
        "vif": paths.name,
        "frontend": paths.frontend,
        "backend": paths.backend,
        "reasons": reasons,
        "remarks": remarks,
    }
