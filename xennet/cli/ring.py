"""``xennet ring``: what a dumped page of a ring holds, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from xennet.abi.xen import PAGE_SIZE
from xennet.cli.errors import BadInputError
from xennet.cli.output import say, say_json
from xennet.cli.whole_number import WholeNumber
from xennet.run.printable import printable


@click.command(
    epilog="Exit code: 0 nothing is wrong with it, 1 something is, 2 it is no ring page.",
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--tx", is_flag=True, help="It is a transmit ring.")
@click.option("--rx", is_flag=True, help="It is a receive ring.")
@click.option("--ctrl", is_flag=True, help="It is a control ring.")
@click.option(
    "--start",
    type=WholeNumber(0, 0xFFFFFFFF),
    metavar="INDEX",
    help="The backend goes on reading requests there (its req_cons); otherwise at rsp_prod.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def ring(
    ctx: click.Context, /, file: Path, start: int | None, as_json: bool, **kinds: bool
) -> None:
    """Read FILE, the 4096 bytes of a ring page of a vif: packets, slots, indices, what is wrong.

    netback's and netfront's own code judges the packets. Without --tx, --rx or --ctrl it is the
    ring that FILE most looks like.
    """
    from xennet.dumps.ring_dump import RingKind, RingPage
    from xennet.dumps.ring_judge import judge
    from xennet.dumps.ring_text import guess_kind, ring_json, ring_text

    named = [kind for kind, given in kinds.items() if given]
    if len(named) > 1:
        raise click.UsageError(f"A page is one ring, not --{' and --'.join(named)}.")
    content = _content(file)
    name = printable(str(file))
    try:
        page = RingPage(content, RingKind(named[0]) if named else guess_kind(content))
    except ValueError as error:
        raise BadInputError(f"{name}: {error}") from error
    judgement = judge(page, start)
    if as_json:
        say_json(ring_json(page, judgement))
    else:
        for line in ring_text(page, judgement, guessed=not named):
            say(line)
    ctx.exit(1 if judgement.problems else 0)


def _content(file: Path) -> bytes:
    """The file's bytes, or enough of them to see that they are too many; "-" is stdin."""
    try:
        with click.open_file(str(file), "rb") as stream:
            content: bytes = stream.read(PAGE_SIZE + 1)
    except OSError as error:
        raise BadInputError(f"{printable(str(file))}: {error.strerror}") from error
    if len(content) > PAGE_SIZE:
        raise BadInputError(
            f"{printable(str(file))}: a ring page has {PAGE_SIZE} bytes, and this has more"
        )
    return content
