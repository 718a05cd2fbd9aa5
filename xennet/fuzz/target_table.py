"""The targets of the fuzzer by name; each is imported when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from attrs import frozen

from xennet.fuzz.target import Target

Factory = Callable[[frozenset[str]], Target]


@frozen
class TargetEntry:
    """``module`` and ``factory``: what makes it; ``shows``: a line about it."""

    module: str
    factory: str
    shows: str


#: Name -> a target. Its factory takes the rules that are known and play as if they were repaired,
#: where the target can do that.
TARGETS = {
    "tx": TargetEntry(
        "xennet.fuzz.targets.tx_page",
        "TxTarget",
        "the hardened backend takes requests of a tx ring page",
    ),
    "rx": TargetEntry(
        "xennet.fuzz.targets.rx_page",
        "RxTarget",
        "the hardened backend sends frames into the buffers of an rx ring page",
    ),
    "ctrl": TargetEntry(
        "xennet.fuzz.targets.ctrl_page",
        "CtrlTarget",
        "the hardened backend answers the requests of a control ring page",
    ),
    "frontend-tx": TargetEntry(
        "xennet.fuzz.targets.frontend_tx",
        "FrontendTx",
        "netfront takes a hostile backend's responses to its requests",
    ),
    "frontend-rx": TargetEntry(
        "xennet.fuzz.targets.frontend_rx",
        "FrontendRx",
        "netfront takes the frames of a hostile backend",
    ),
    "copy": TargetEntry(
        "xennet.fuzz.targets.grant_copies", "CopyTarget", "the hypervisor makes grant copies"
    ),
    "tx-differs": TargetEntry(
        "xennet.fuzz.targets.tx_differs",
        "TxDiffers",
        "a tx ring page is taken otherwise by FreeBSD's netback than by the hardened backend",
    ),
    "xnb-tx": TargetEntry(
        "xennet.fuzz.targets.xnb_rings",
        "XnbTx",
        "FreeBSD's netback takes requests of a tx ring page",
    ),
    "xnb-rx": TargetEntry(
        "xennet.fuzz.targets.xnb_rings",
        "XnbRx",
        "FreeBSD's netback sends frames into the buffers of an rx ring page",
    ),
    "xnb-intr": TargetEntry(
        "xennet.fuzz.targets.xnb_rings",
        "XnbIntr",
        "a whole interrupt of FreeBSD's netback, with a frontend that acts meanwhile",
    ),
    "lives": TargetEntry(
        "xennet.fuzz.targets.vif_lives",
        "BackendLives",
        "lives of the hardened backend whose frontend is driven by hand, with orders",
    ),
    "lives-front": TargetEntry(
        "xennet.fuzz.targets.vif_lives",
        "FrontendLives",
        "lives of a netfront whose backend is driven by hand, with orders",
    ),
    "xs-wire": TargetEntry(
        "xennet.fuzz.targets.store_wire",
        "StoreWireTarget",
        "two clients of a XenStore that send whatever messages",
    ),
    "netmap": TargetEntry(
        "xennet.fuzz.targets.netmap_requests",
        "NetmapTarget",
        "three clients of a netmap device",
    ),
    "shmif": TargetEntry(
        "xennet.fuzz.targets.shmif_stations",
        "ShmifTarget",
        "readers and writers of a shmif bus, and somebody who damages it",
    ),
}


class UnknownTargetError(ValueError):
    """There is no target of a name, or what has it makes none."""


def open_target(name: str, known: frozenset[str] = frozenset()) -> Target:
    """The target ``name``, behind the rules ``known``: one of the table, or one of another package,
    "package.module:Factory", which has that name itself. Raises UnknownTargetError."""
    if name in TARGETS:
        module, factory = TARGETS[name].module, TARGETS[name].factory
    elif ":" in name:
        module, _, factory = name.partition(":")
    else:
        raise UnknownTargetError(
            f"there is no target {name!r}; there are {', '.join(TARGETS)}, and MODULE:FACTORY"
        )
    try:
        make = cast(Factory, getattr(import_module(module), factory))
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownTargetError(f"there is no target {name!r}: {error}") from error
    if name in TARGETS:
        return make(known)
    try:
        made = make(known)
    except Exception as error:  # it may be anything that has a name
        raise UnknownTargetError(
            f"{name} makes no target: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Target):
        raise UnknownTargetError(f"{name} makes no target, but a {type(made).__name__}")
    return made
