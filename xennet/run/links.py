"""The links of a run as ``--link`` names them, and a run over any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import evolve, frozen

from xennet.link.protocol import Link
from xennet.port import Port
from xennet.run.options import Progress, RunOptions
from xennet.run.report import RunReport
from xennet.run.runner import StoreView, run_link
from xennet.run.stop import Stop


@frozen
class Kind:
    """One kind of link.

    ``variants``: what may stand behind its name and a colon; the first is the default.
    ``make(variant, options)`` makes the link, and returns it with the options that the report
    shows.
    """

    variants: tuple[str, ...]
    make: Callable[[str, RunOptions], tuple[Link, RunOptions]]


def _vif(_variant: str, options: RunOptions) -> tuple[Link, RunOptions]:
    from xennet.link.vifs import Vifs
    from xennet.run.over_vifs import setup_of

    setup = setup_of(options)
    return Vifs(setup), evolve(options, evtchn=setup.evtchn)


def _epair(variant: str, options: RunOptions) -> tuple[Link, RunOptions]:
    from xennet.link.epair import EpairLink

    return EpairLink(variant, options.mtu), options


KINDS: Mapping[str, Kind] = {
    "vif": Kind(("",), _vif),
    "epair": Kind(("netisr", "taskqueue"), _epair),
}


def parse(spec: str) -> tuple[Kind, str]:
    """The kind of link that ``spec`` names, and its variant. Raises ValueError for any other
    name."""
    name, _, variant = spec.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"{spec!r}: no link {name!r}; there are {', '.join(KINDS)}")
    if ":" not in spec:
        return kind, kind.variants[0]
    if not variant or variant not in kind.variants:
        known = ", ".join(one for one in kind.variants if one) or "none"
        raise ValueError(f"{spec!r}: {name} has no variant {variant!r}; there are: {known}")
    return kind, variant


def run_ports(
    guests: Sequence[Port],
    hosts: Sequence[Port],
    options: RunOptions,
    progress: Progress,
    view: StoreView | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """A run (xennet.run.runner.run_link) over the link that ``options`` name.

    Raises ValueError if there is no such link, LimitError for vifs that do not fit the store's
    quotas or the host's memory.
    """
    kind, variant = parse(options.link)
    link, options = kind.make(variant, options)
    return run_link(link, guests, hosts, options, progress, view, stop)
