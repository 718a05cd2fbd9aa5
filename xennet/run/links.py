"""The links of a run as ``--link`` names them, and a run over any of them.

A link's specification is ``kind`` or ``kind:argument``. ``KINDS`` has the kinds of the package;
installed packages add others by an entry point of the group ``xennet.links`` (:func:`kind_of` says
what that has to name). ``LINKS`` has all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve, frozen

from xennet.errors import LinkError
from xennet.plugins import Plugin, PluginError, Registry
from xennet.port.base import PortError, configure, is_live
from xennet.port.files import split_option
from xennet.port.program import program_of
from xennet.run.options import Progress, RunOptions, TapFile

if TYPE_CHECKING:
    from xennet.choices import Player
    from xennet.link.protocol import Link
    from xennet.port import Port
    from xennet.run.report import RunReport
    from xennet.run.runner import StoreView
    from xennet.run.stop import Stop


def _settled(options: RunOptions) -> RunOptions:
    return options


def _roomy(_argument: str | None, _options: RunOptions) -> None:
    """The room of a kind that can be whatever a run's options want."""


@frozen
class Kind:
    """One kind of link.

    ``usage`` is shown to people; it begins with the name of the kind. An argument is what stands
    behind that and a colon, None without a colon. ``check(argument)`` raises ValueError for one
    that the kind does not know. ``make(argument, options)`` makes the link, in real time if
    ``options.live``. ``is_file``: the argument is a file, with one of ``file_options`` behind it,
    or none (xennet.port.files.split_option). ``settled(options)`` has what ``options`` leave open,
    as a report shows them. ``require_room(argument, options)`` raises ValueError, with one line, if
    no such link can be what the options want, before anything is opened.
    """

    usage: str
    check: Callable[[str | None], object]
    make: Callable[[str | None, RunOptions], Link]
    is_file: bool = False
    file_options: tuple[str, ...] = ()
    settled: Callable[[RunOptions], RunOptions] = _settled
    require_room: Callable[[str | None, RunOptions], None] = _roomy


def one_of(name: str, variants: Sequence[str]) -> Callable[[str | None], None]:
    """The check of a kind whose argument, if there is one, has to be one of ``variants``."""

    def check(argument: str | None) -> None:
        if argument is not None and argument not in variants:
            known = ", ".join(variants) or "none"
            raise ValueError(f"{name} has no variant {argument!r}; there are: {known}")

    return check


def _any(_argument: str | None) -> None:
    """The check of a kind for which any argument will do."""


def _vif(_argument: str | None, options: RunOptions) -> Link:
    from xennet.link.vifs import Vifs
    from xennet.run.over_vifs import setup_of

    return Vifs(setup_of(options), clock=options.clock())


def _vif_settled(options: RunOptions) -> RunOptions:
    from xennet.run.over_vifs import setup_of

    return evolve(options, evtchn=setup_of(options).evtchn)


def _epair(generation: str | None, options: RunOptions) -> Link:
    from xennet.link.epair import EpairLink

    return EpairLink(generation or _GENERATIONS[0], options.mtu, clock=options.clock())


def _shmif(argument: str | None, options: RunOptions) -> Link:
    from xennet.link.shmif_bus import ShmifLink

    path, option = split_option(argument or "", _PROMISCUITY)
    promiscuous = option != _PROMISCUITY[1]
    return ShmifLink(path, promiscuous=promiscuous, mtu=options.mtu, clock=options.clock())


def _netmap_check(argument: str | None) -> None:
    from xennet.link.netmap_switch import port_names

    port_names(argument or "", 0)


def _netmap(argument: str | None, options: RunOptions) -> Link:
    from xennet.link.netmap_switch import NetmapLink

    return NetmapLink(argument or "", mtu=options.mtu, clock=options.clock())


def _shmif_room(_argument: str | None, options: RunOptions) -> None:
    from xennet.link.shmif_bus import require_room

    require_room(options.mtu)


def _netmap_room(argument: str | None, options: RunOptions) -> None:
    from xennet.link.netmap_switch import require_room

    require_room(argument or "", options.guests, options.mtu)


#: Whether interfaces of guests on a bus take all frames; the first is the usual one.
_PROMISCUITY = ("promisc=on", "promisc=off")
#: FreeBSD's generations of epair; the first is the usual one.
_GENERATIONS = ("netisr", "taskqueue")

KINDS = {
    "vif": Kind("vif", one_of("vif", ()), _vif, settled=_vif_settled),
    "epair": Kind("epair[:netisr|:taskqueue]", one_of("epair", _GENERATIONS), _epair),
    "netmap": Kind("netmap:SWITCH|PIPE", _netmap_check, _netmap, require_room=_netmap_room),
    "shmif": Kind(
        "shmif:FILE[?promisc=off]",
        _any,
        _shmif,
        is_file=True,
        file_options=_PROMISCUITY,
        require_room=_shmif_room,
    ),
}


def kind_of(plugin: Plugin, link: Any) -> Kind:
    """The kind that an entry point adds.

    ``link`` is what it names: a class, or another callable, that is called with the argument and
    the RunOptions and returns a Link. It has an attribute ``usage``, a str, and may have ``check``
    and ``is_file``, as in :class:`Kind`; without ``check`` any argument will do. Raises TypeError
    for any other object.
    """
    if not callable(link):
        raise TypeError(f"{plugin.target} is no class")
    usage = getattr(link, "usage", None)
    if not isinstance(usage, str) or not usage.startswith(plugin.name):
        raise TypeError(f"{plugin.target} has the usage {usage!r}, not one of {plugin.name!r}")

    def make(argument: str | None, options: RunOptions) -> Link:
        from xennet.link.protocol import Link

        made = plugin.make(link, argument, options, protocol=Link, own=LinkError)
        return cast(Link, made)

    def check(argument: str | None) -> None:
        plugin.make(checked, argument, protocol=object, own=ValueError)

    checked = getattr(link, "check", _any)
    return Kind(usage, check, make, bool(getattr(link, "is_file", False)))


#: Every kind of link, those of installed packages too.
LINKS = Registry("xennet.links", KINDS, kind_of)


def parse(spec: str) -> tuple[Kind, str | None]:
    """The kind of link that ``spec`` names, and its argument. Raises ValueError, with one line,
    for any other specification."""
    name, colon, rest = spec.partition(":")
    argument = rest if colon else None
    try:
        kind = LINKS.get(name)
        if kind is None:
            raise ValueError(f"no link {name!r}; there are {', '.join(LINKS.names())}")
        if kind.is_file and not split_option(argument or "", kind.file_options)[0]:
            raise ValueError(f"no file name, wants {kind.usage}")
        kind.check(argument)
    except (PluginError, PortError, ValueError) as error:
        raise ValueError(f"{spec!r}: {error}") from error
    return kind, argument


def file_of(spec: str) -> str | None:
    """The file that a link's specification names, None if it names none. Raises ValueError as
    :func:`parse` does."""
    kind, argument = parse(spec)
    return split_option(argument or "", kind.file_options)[0] if kind.is_file else None


def run_ports(
    guests: Sequence[Port],
    hosts: Sequence[Port],
    options: RunOptions,
    progress: Progress,
    view: StoreView | None = None,
    stop: Stop | None = None,
    taps: Sequence[TapFile] = (),
    made: Callable[[Link], object] | None = None,
) -> RunReport:
    """A run (xennet.run.runner.run_link) over the link that ``options`` name; it is live if a port
    is. ``made(link)`` is called, unless it is None, before the link is opened.

    Raises ValueError if there is no such link, LinkError or PluginError if it cannot be made,
    PortError for a port that cannot be as the options want it, LimitError for vifs that do not fit
    the store's quotas or the host's memory, ChoicesError or NoSuchChoiceError (xennet.choices) for
    choices that are none or that the run does not have.
    """
    from xennet.run.runner import run_link

    if program_of((*guests, *hosts)) is not None:
        from xennet.run.with_program import run_with_program

        if options.choices is not None:
            raise LinkError("exec: no --choices with a program, which has an order of its own")
        if view is not None or taps or made is not None:
            raise LinkError("exec: no --tap-file, --xenstore-socket or --trace with a program")
        return run_with_program(guests, hosts, _vif_settled(options), stop)
    kind, argument = parse(options.link)
    for port in (*guests, *hosts):
        configure(port, options.mtu, options.queues)
    live = any(map(is_live, (*guests, *hosts)))
    options = kind.settled(evolve(options, live=live))
    link = kind.make(argument, options)
    if made is not None:
        made(link)
    player = _play_choices(link, options)
    report = run_link(link, guests, hosts, options, progress, view, stop, taps)
    if player is None:
        return report
    player.require_all_played()
    return evolve(report, options=evolve(options, choices=str(player.noted.choices)))


def _play_choices(link: Link, options: RunOptions) -> Player | None:
    """Let the choices of ``options`` decide what is next on ``link``. Returns who plays them; None
    if there are none."""
    if options.choices is None:
        return None
    from xennet.choices import Choices, ChosenOrder, Player
    from xennet.link.vifs import Vifs

    if not isinstance(link, Vifs) or options.live:
        raise LinkError("choices are for vifs in virtual time: this run has another link or clock")
    player = Player(Choices.parse(options.choices))
    link.host.machine.run_loop.take_turns(ChosenOrder(player))
    return player
